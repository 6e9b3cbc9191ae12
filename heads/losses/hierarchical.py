"""The hierarchical contrastive loss of FiSeR, and the schedule it is trained with.

Plain functions on tensors: which rows attract and repel each other, and how strongly. What embeds
the rows is in `heads.contrastive.adapters`, the training in `heads.contrastive.training`. This
module imports torch.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

NATURAL, SYNTHETIC = 0, 1
"""Labels of real and of generated images."""


class Embeddings(NamedTuple):
    """Embedded rows and what tells them apart.

    ``z`` is float (n, n_components), of any length; ``label`` int64 (n,), `NATURAL` or `SYNTHETIC`;
    ``source`` int64 (n,), the generator of synthetic rows (never looked at for natural ones);
    ``row`` int64 (n,), what identifies a row: equal numbers are one image seen twice.
    """

    z: Tensor
    label: Tensor
    source: Tensor
    row: Tensor

    def detached(self) -> "Embeddings":
        """Return the same rows through which no gradient flows."""
        return self._replace(z=self.z.detach())

    def followed_by(self, others: "Embeddings") -> "Embeddings":
        """Return these rows and then the others."""
        return Embeddings(*(torch.cat(both) for both in zip(self, others, strict=True)))

    def first(self, n: int) -> "Embeddings":
        """Return the first rows, n at most."""
        return Embeddings(*(column[:n] for column in self))


class Losses(NamedTuple):
    """The parts of the loss, each a scalar; ``total`` is the weighted sum of the others."""

    total: Tensor
    coarse: Tensor
    fine: Tensor


def hierarchical_contrastive(
    anchors: Embeddings,
    bank: Embeddings,
    *,
    temperature: float = 0.07,
    coarse_weight: float = 1.0,
    fine_weight: float = 1.0,
) -> Losses:
    """Return how badly anchors sit among the rows of a bank, by class and by generator.

    Both terms are `averaged_positives` of cosine similarities. ``coarse`` pulls every anchor to the
    rows of its class and away from the other class; ``fine`` looks at synthetic rows alone, and
    pulls those of one generator together and away from other generators. A row is never its own
    positive.

    Parameters
    ----------
    anchors
        The rows that learn: gradients flow into ``anchors.z`` and nowhere else.
    bank
        The rows they are compared with, usually the anchors themselves and others; treated as
        constants.
    temperature
        Similarities are divided by it, > 0.
    coarse_weight, fine_weight
        Weights >= 0 of the terms in the total.

    Returns
    -------
    Losses
        Float32 scalars (float64 for float64 embeddings), finite whatever rows are missing: a term
        that no anchor has is 0 with gradient 0.

    Notes
    -----
    Similarities are computed in float32 even where autocast is on: divided by 0.07, the rounding
    of bfloat16 would be ±0.03 in the exponent.

    Cost: ``2 n m n_components`` operations and a few matrices of n × m floats for n anchors and
    a bank of m rows.

    References
    ----------
    FiSeR's public code (heyongxin233/FiSeR), equation 5 of the paper for one term.

    Examples
    --------
    >>> z = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    >>> label, source = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 2])
    >>> rows = Embeddings(z, label, source, torch.arange(4))
    >>> [round(float(part), 3) for part in hierarchical_contrastive(rows, rows, temperature=1.0)]
    [1.326, 0.632, 0.693]
    """
    precision = torch.promote_types(anchors.z.dtype, torch.float32)
    with torch.autocast(anchors.z.device.type, enabled=False):
        a = normalize(anchors.z.to(precision))
        b = normalize(bank.z.detach().to(precision))
        logits = a @ b.T / temperature
    same_class = anchors.label[:, None] == bank.label
    same_source = anchors.source[:, None] == bank.source
    another = anchors.row[:, None] != bank.row
    synthetic = (anchors.label == SYNTHETIC)[:, None] & (bank.label == SYNTHETIC)
    coarse = averaged_positives(logits, same_class & another, ~same_class)
    fine = averaged_positives(logits, synthetic & same_source & another, synthetic & ~same_source)
    return Losses(coarse_weight * coarse + fine_weight * fine, coarse, fine)


def averaged_positives(logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return the cross-entropy of the mean positive against all negatives.

    For anchor i with positives P and negatives N, whose logits are s: ``m = mean of s over P`` (0
    if there are none) and ``l = log(exp(m) + sum of exp(s) over N) - m``. Unlike InfoNCE and
    SupCon, positives are averaged into one logit before the softmax.

    Parameters
    ----------
    logits
        Similarities divided by the temperature (n, m).
    positive, negative
        Which rows of the bank are positives and negatives of which anchor, bool (n, m).

    Returns
    -------
    Tensor
        Mean of l over the anchors that have a negative; 0, with a graph, if none has.

    Examples
    --------
    >>> logits = torch.tensor([[2.0, 0.0, 1.0]])
    >>> positive, negative = torch.tensor([[True, True, False], [False, False, True]])[:, None]
    >>> round(float(averaged_positives(logits, positive, negative)), 4)  # log(e + e) - 1
    0.6931
    """
    mean = (logits * positive).sum(1) / positive.sum(1).clamp(min=1)
    others = logits.masked_fill(~negative, -torch.inf)
    losses = torch.cat((mean[:, None], others), dim=1).logsumexp(1) - mean
    counted = negative.any(1)
    return (losses * counted).sum() / counted.sum().clamp(min=1)


def cosine_schedule(step: int, *, warmup: int, total: int, base: float, final: float) -> float:
    """Return the learning rate of a step: a linear warm-up, then half a cosine.

    Parameters
    ----------
    step
        Number of the step, from 0; those from `total` on have the final rate.
    warmup
        Number of steps in which the rate rises to `base`, >= 0.
    total
        Number of steps.
    base, final
        The highest rate, and the one at the end.

    Returns
    -------
    float
        The learning rate.

    Examples
    --------
    >>> [cosine_schedule(s, warmup=2, total=6, base=1.0, final=0.0) for s in (0, 1, 2, 4, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return base * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return final + (base - final) * (1 + math.cos(math.pi * progress)) / 2
