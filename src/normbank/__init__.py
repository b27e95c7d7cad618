"""normbank: what normal looks like, from normal images alone."""

__version__ = "0.1.0"
