"""Data sets as lists of samples. No PyTorch here."""
