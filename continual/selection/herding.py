"""Herding: rows whose mean, of features or in the space of a kernel, is that of their class."""

import numpy as np
from numpy.typing import NDArray

from continual.selection.centring import Floats, Vector
from continual.selection.choice import Choice, Rows, choice_of
from continual.selection.kernel import Kernel, inverse_root, median_sigma, parts, sample_of


def choose_by_herding(
    Z: Floats, n_keep: int, rng: np.random.Generator, *, device: str = "cpu"
) -> Choice:
    """Choose rows of one class so that the mean of those chosen is near that of all.

    Parameters
    ----------
    Z
        Representations (n_samples, n_components) of one class.
    n_keep
        How many rows, 1 to n_samples.
    rng
        Not used; nothing is random.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``.

    Returns
    -------
    Choice
        In the order of choice. The score is the distance between the two means when the row had
        been chosen; see `herd`.
    """
    return choice_of(*herd(Z, n_keep, device=device))


def choose_by_kernel_herding(
    Z: Floats,
    n_keep: int,
    rng: np.random.Generator,
    *,
    sigma: float | None = None,
    n_landmarks: int = 128,
    device: str = "cpu",
) -> Choice:
    """Choose rows of one class whose Gaussian-kernel mean is that of the class.

    Herding in the feature space in which HSIC measures dependence: the kept rows then give nearly
    the class means, and so nearly the MMD and HSIC with labels, of all rows (Chen, Welling, Smola,
    "Super-samples from kernel herding", UAI 2010). A proposal of ours, to be compared with HGR: it
    keeps the frequencies of groups within a class, where HGR prefers rows at the rim.

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
        Size >= 1 of the Nyström features that stand for the kernel.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``.

    Returns
    -------
    Choice
        In the order of choice. The score is the maximum mean discrepancy between the rows chosen
        so far and the class, by the Nyström features.

    Notes
    -----
    Memory: 4 · n_landmarks bytes per row for the features, and what `herd` needs for them. Time:
    n_keep · n_samples · n_landmarks.
    """
    width = median_sigma(Z, rng) if sigma is None else float(sigma)
    landmarks = sample_of(len(Z), n_landmarks, rng)
    rows, score = herd(_features(Z, width, landmarks), n_keep, device=device)
    return choice_of(rows, score, width, {"n_landmarks": len(landmarks)})


def _features(Z: Floats, sigma: float, landmarks: Rows) -> NDArray[np.float32]:
    """Return the Nyström features of all rows (n_samples, n_features)."""
    kernel = Kernel(Z, sigma)
    root = inverse_root(kernel.gram(landmarks))
    features = np.empty((len(Z), root.shape[1]), np.float32)
    for part in parts(len(Z)):
        features[part] = kernel.block(part, landmarks) @ root
    return features


def herd(Z: Floats, n_keep: int, *, device: str = "cpu") -> tuple[Rows, Vector]:
    """Choose rows one by one so that the mean of those chosen is near that of all.

    Step k chooses ``argmin_i ‖μ - (φ_i + Σ_{j<k} φ_j) / k‖``, the first of equal ones, among the
    rows not yet chosen (Rebuffi et al., "iCaRL", CVPR 2017, algorithm 4).

    Parameters
    ----------
    Z
        Representations φ (n_samples, n_components), computed in float64.
    n_keep
        How many rows, 1 to n_samples.
    device
        ``"cpu"``, or where torch computes; see `heads.loop.devices.torch_device`.

    Returns
    -------
    tuple of ndarray
        Row numbers (n_keep,), int64, in the order in which they were chosen, and the distance
        ``‖μ - Σ_{j<=k} φ_j / k‖`` that each left (n_keep,), float64.

    Notes
    -----
    Time n_keep · n_samples · n_components: one product of `Z` with a vector per step. Memory: a
    float64 copy of `Z` and 16 bytes per row.

    Examples
    --------
    >>> rows, distance = herd(np.array([[0.0], [1.0], [5.0]]), 2)
    >>> rows.tolist(), distance.tolist()
    ([1, 2], [1.0, 1.0])
    """
    if device != "cpu":
        from continual.selection.on_torch import herd_on

        return herd_on(Z, n_keep, device)
    mean = np.mean(Z, axis=0, dtype=np.float64)
    rows = np.subtract(Z, mean, dtype=np.float64, order="C")  # the mean becomes the origin
    squares, value = np.einsum("ij,ij->i", rows, rows), np.empty(len(rows))
    total = np.zeros(rows.shape[1])
    chosen, score = np.empty(n_keep, np.int64), np.empty(n_keep)
    for step in range(n_keep):
        np.matmul(rows, total, out=value)
        value *= 2
        value += squares
        best = chosen[step] = np.argmin(value)
        squares[best] = np.inf
        total += rows[best]
        score[step] = np.linalg.norm(total) / (step + 1)
    return chosen, score
