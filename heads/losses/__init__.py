"""Contrastive losses as functions of torch tensors. Importing this package imports torch."""

from heads.losses.hierarchical import hierarchical_contrastive
from heads.losses.supervised import supervised_contrastive

__all__ = ["hierarchical_contrastive", "supervised_contrastive"]
