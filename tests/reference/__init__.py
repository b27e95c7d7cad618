"""Slow, obvious versions of every equation, written from the paper and from definitions: the tests' oracles."""
