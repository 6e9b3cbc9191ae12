"""A grid over heads, hyper-parameters, layers, subsets and seeds, in one table."""
