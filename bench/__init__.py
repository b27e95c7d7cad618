"""Results of normbank on public data: the paper's printed values, and the tables made from committed evaluations."""
