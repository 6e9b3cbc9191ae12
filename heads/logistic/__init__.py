"""Exact logistic regression, streaming: the probe, its solvers, the sums over rows they need."""
