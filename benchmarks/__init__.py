"""Measurements behind the numbers in the documentation; each writes rows to `results/`."""
