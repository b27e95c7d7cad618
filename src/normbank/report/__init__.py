"""Pictures and the HTML report: the one place where raw numbers are scaled for show."""
