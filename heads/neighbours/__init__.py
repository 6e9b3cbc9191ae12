"""Exact nearest neighbours in bounded memory, and heads that score by them or by class means."""
