"""RINE: all blocks of a backbone, weighted by a trainable importance."""
