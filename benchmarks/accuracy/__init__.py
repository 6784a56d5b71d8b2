"""How accurately expression is inferred: data sets x methods x seeds, `python -m benchmarks.accuracy`."""
