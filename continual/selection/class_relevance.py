"""The relevance of the rows of one class, by the method that its size asks for."""

from copy import deepcopy
from typing import Any, Literal, NamedTuple

import numpy as np

from continual.selection.centring import Floats, Vector
from continual.selection.kernel import median_sigma, sample_of
from continual.selection.relevance import (
    N_COLUMNS,
    N_LANDMARKS,
    agreement_on_sample,
    column_relevance,
    exact_relevance,
    nystrom_relevance,
)

Method = Literal["exact", "nystrom", "columns", "auto"]

EXACT_ROWS = 20_000
"""With ``"auto"``, more rows of a class are approximated by landmarks."""


class ClassRelevance(NamedTuple):
    """Relevance of the rows of a class, and how it was computed."""

    values: Vector
    """Float64 (n_samples,)."""
    sigma: float
    """Bandwidth of the kernel."""
    notes: dict[str, Any]
    """``relevance``: the method; of an approximation also ``n_landmarks`` or ``n_columns``, and
    its agreement with the exact value on ``n_compared`` rows: ``spearman`` (None if all are
    alike) and ``median_error``, relative."""


def relevance_of(
    Z: Floats,
    rng: np.random.Generator,
    sigma: float | None = None,
    method: Method = "auto",
    *,
    device: str = "cpu",
) -> ClassRelevance:
    """Return the HSIC relevance of the rows of one class.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components) of one class.
    rng
        Chooses the sample behind the bandwidth, and landmarks or columns. What an approximation is
        compared on is drawn by a copy of it, which changes nothing.
    sigma
        Bandwidth > 0; the median distance if None.
    method
        ``"exact"``, ``"nystrom"`` (512 landmarks), ``"columns"`` (1,024), or ``"auto"``: exact up
        to 20,000 rows, landmarks beyond.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``; columns are always looked at by the CPU.

    Returns
    -------
    ClassRelevance
        Values, bandwidth and notes.
    """
    width = median_sigma(Z, rng) if sigma is None else float(sigma)
    if method == "exact" or (method == "auto" and len(Z) <= EXACT_ROWS):
        return ClassRelevance(_exact(Z, width, device), width, {"relevance": "exact"})
    used: Literal["nystrom", "columns"] = "columns" if method == "columns" else "nystrom"
    name, size = ("n_columns", N_COLUMNS) if used == "columns" else ("n_landmarks", N_LANDMARKS)
    ahead = deepcopy(rng)
    others = sample_of(len(Z), size, ahead)  # those that the approximation will draw
    found = agreement_on_sample(Z, width, ahead, used, others)
    notes = {
        "relevance": used,
        name: len(others),
        "spearman": None if np.isnan(found.spearman) else found.spearman,
        "median_error": found.error,
        "n_compared": found.n_rows,
    }
    if used == "columns":
        return ClassRelevance(column_relevance(Z, width, rng), width, notes)
    return ClassRelevance(_nystrom(Z, width, rng, device), width, notes)


def _exact(Z: Floats, sigma: float, device: str) -> Vector:
    if device == "cpu":
        return exact_relevance(Z, sigma)
    from continual.selection.on_torch import exact_relevance_on

    return exact_relevance_on(Z, sigma, device)


def _nystrom(Z: Floats, sigma: float, rng: np.random.Generator, device: str) -> Vector:
    if device == "cpu":
        return nystrom_relevance(Z, sigma, rng)
    from continual.selection.on_torch import nystrom_relevance_on

    return nystrom_relevance_on(Z, sigma, rng, N_LANDMARKS, device)
