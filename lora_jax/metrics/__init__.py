"""Scores of predictions, in NumPy and SciPy alone."""
