"""Heads that are functions of moments of the features: one pass, any order, parts that merge."""
