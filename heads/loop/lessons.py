"""The loss of a lesson, decision values to be kept, and its slope. This module imports torch."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from heads.loop.batch_source import Lesson


def lesson_loss(lesson: Lesson, logits: Tensor) -> Tensor:
    """Return the weighted loss of logits that are not those to be kept; see `Lesson`.

    Parameters
    ----------
    lesson
        The logits to be kept.
    logits
        Decision values (…, n_rows).

    Returns
    -------
    torch.Tensor
        Shape (…), >= 0. With a temperature it is not 0 if the logits were kept.
    """
    kept, T = _kept(lesson, logits), lesson.temperature
    if T is None:
        return lesson.weight * (logits - kept).square().mean(-1)
    soft = (kept / T).sigmoid().expand_as(logits)
    entropy = binary_cross_entropy_with_logits(logits / T, soft, reduction="none")
    return lesson.weight * T**2 * entropy.mean(-1)


def lesson_slope(lesson: Lesson, logits: Tensor) -> Tensor:
    """Return the derivative of `lesson_loss`, in closed form.

    Parameters
    ----------
    lesson, logits
        As for `lesson_loss`.

    Returns
    -------
    torch.Tensor
        Along each logit, (…, n_rows).
    """
    kept, T = _kept(lesson, logits), lesson.temperature
    gap = 2 * (logits - kept) if T is None else T * ((logits / T).sigmoid() - (kept / T).sigmoid())
    return lesson.weight / logits.shape[-1] * gap


def _kept(lesson: Lesson, logits: Tensor) -> Tensor:
    """Return the logits to be kept like others."""
    return torch.as_tensor(lesson.logits, dtype=logits.dtype, device=logits.device)
