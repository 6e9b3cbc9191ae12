"""Losses on embeddings, as pure functions of torch tensors. This module imports torch."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize


def supervised_contrastive(
    z: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float = 0.07,
    base_temperature: float = 0.07,
    anchors: Literal["all", "one"] = "all",
) -> Tensor:
    """Return the supervised contrastive loss: pull equal labels together, push others apart.

    With u = z / ‖z‖, s_ij = u_i·u_j / τ, A(i) all embeddings but i itself and P(i) those of A(i)
    with the label of i, the loss is the mean over anchors i of ::

        ℓ_i = - τ/τ₀ · 1/|P(i)| · Σ_{p ∈ P(i)} ( s_ip - log Σ_{a ∈ A(i)} exp s_ia )

    Parameters
    ----------
    z
        Embeddings (n, d) of n samples, or (n, n_views, d) of several views of each; floating
        point, of any length: they are normalised here. Zeros are similar to nothing (s = 0).
    labels
        Integers (n,). If None, every sample is a class of its own and its views are the positives
        (SimCLR).
    temperature
        τ > 0.
    base_temperature
        τ₀ > 0; the published loss has it beside τ, and it only scales.
    anchors
        Whether ``"all"`` views are anchors, or only the first ``"one"`` of each sample.

    Returns
    -------
    torch.Tensor
        Scalar >= 0 with a graph. Anchors without positives count as zero in the mean, and so the
        loss of a single embedding is zero.

    Raises
    ------
    ValueError
        If shapes do not fit, or a temperature is not positive.

    Notes
    -----
    Perfectly separated classes still cost log |P(i)|. Cost: ``(n · n_views)²`` similarities, in the
    precision of `z`.

    References
    ----------
    Khosla et al., "Supervised contrastive learning", NeurIPS 2020, equation 2 (L_out); Chen et al.,
    "A simple framework for contrastive learning of visual representations", ICML 2020.

    Examples
    --------
    >>> z = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    >>> loss = supervised_contrastive(z, torch.tensor([0, 0, 1, 1]), temperature=1.0)
    >>> torch.allclose(loss, torch.tensor((torch.e + 2) / torch.e).log() / 0.07)
    True
    """
    views = _views(z)
    n, n_views = views.shape[:2]
    if labels is not None and labels.shape != (n,):
        raise ValueError(f"'labels' must have shape ({n},), got {tuple(labels.shape)}.")
    for name, value in (("temperature", temperature), ("base_temperature", base_temperature)):
        if not value > 0:
            raise ValueError(f"'{name}' must be positive, got {value!r}.")
    if n * n_views < 2:
        return views.sum() * 0
    # All first views, then all second ones: the anchors are the first rows.
    u = normalize(views.transpose(0, 1).flatten(0, 1), dim=1)
    n_anchors = n if anchors == "one" else n * n_views
    itself = torch.eye(n_anchors, n * n_views, dtype=torch.bool, device=z.device)
    own = torch.arange(n, device=z.device) if labels is None else labels
    own = own.repeat(n_views)
    positive = (own[:n_anchors, None] == own) & ~itself
    s = u[:n_anchors] @ u.T / temperature
    log_sum = s.masked_fill(itself, -torch.inf).logsumexp(1)
    n_positives = positive.sum(1)
    attraction = (s * positive).sum(1) / n_positives.clamp(min=1)
    losses = torch.where(n_positives > 0, log_sum - attraction, 0)
    return losses.mean() * (temperature / base_temperature)


def _views(z: Tensor) -> Tensor:
    """Return embeddings as (n, n_views, d)."""
    if z.ndim not in (2, 3) or not z.numel():
        raise ValueError(
            f"'z' must have shape (n, d) or (n, n_views, d), none of them 0, got {tuple(z.shape)}."
        )
    return z if z.ndim == 3 else z[:, None]
