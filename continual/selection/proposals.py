"""Two selections of our own, to be compared with HGR: kernel herding and ridge leverage."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from continual.selection.herding import choose_by_herding
from continual.selection.relevance import Floats, Landmarks, median_sigma
from continual.selection.sampling import Rows


def choose_by_kernel_herding(
    Z: Floats,
    n_keep: int,
    rng: np.random.Generator,
    *,
    sigma: float | None = None,
    n_landmarks: int = 128,
) -> Rows:
    """Choose rows of one class whose Gaussian-kernel mean is that of the class.

    Herding in the feature space in which HSIC measures dependence: the kept rows then give nearly
    the class means, and so nearly the MMD and HSIC with labels, of all rows (Chen, Welling, Smola,
    "Super-samples from kernel herding", UAI 2010).

    Parameters
    ----------
    Z
        Representations (n_samples, n_components) of one class.
    n_keep
        How many rows, 1 to n_samples.
    rng
        Chooses the sample behind the bandwidth, and the landmarks.
    sigma
        Bandwidth > 0; the median distance if None.
    n_landmarks
        Size of the Nyström features that stand for the kernel.

    Returns
    -------
    ndarray
        Row numbers (n_keep,), int64, in the order in which they were chosen.

    Notes
    -----
    Memory 8 · n_landmarks bytes per row, time n_keep · n_samples · n_landmarks.
    """
    width = median_sigma(Z, rng) if sigma is None else sigma
    features = Landmarks(Z, width, rng, n_landmarks)
    return choose_by_herding(
        np.concatenate([features.of(part) for part in features.parts()]), n_keep, rng
    )


def choose_by_leverage(
    Z: Floats, n_keep: int, rng: np.random.Generator, *, ridge: float = 1e-3
) -> Rows:
    """Draw rows of one class with chances in proportion to their ridge leverage.

    The leverage ``zᵢᵀ (ZᵀZ + α n I)⁻¹ zᵢ`` of a row is how much a ridge regression depends on it; a
    sample drawn in this proportion keeps the regression's Hessian (Alaoui, Mahoney, "Fast
    randomized kernel ridge regression with statistical guarantees", NIPS 2015).

    Parameters
    ----------
    Z
        Representations (n_samples, n_components) of one class.
    n_keep
        How many rows, 1 to n_samples.
    rng
        Draws, without replacement.
    ridge
        α > 0 in units of the mean squared norm of the centred rows per component.

    Returns
    -------
    ndarray
        Row numbers (n_keep,), int64, in the order in which they were drawn.
    """
    rows = np.asarray(Z, np.float64)
    rows = rows - rows.mean(0)
    gram = rows.T @ rows
    penalty = ridge * np.trace(gram) / len(gram)
    if penalty <= 0:  # all rows are equal
        return rng.choice(len(rows), n_keep, replace=False)
    solved = cho_solve(cho_factor(gram + penalty * np.eye(len(gram))), rows.T)
    leverage = np.einsum("ij,ji->i", rows, solved)
    # The largest of log(chance) + Gumbel noise are a draw without replacement.
    keys = np.log(np.maximum(leverage, np.finfo(np.float64).tiny)) + rng.gumbel(size=len(rows))
    return np.argsort(-keys, kind="stable")[:n_keep].astype(np.int64)
