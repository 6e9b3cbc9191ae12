"""Heads that learn from real images alone."""
