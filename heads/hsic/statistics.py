"""The Hilbert-Schmidt independence criterion (HSIC) of two Gram matrices, and the Gram matrices.

Pure functions of NumPy arrays; the probe trained on these statistics is `heads.hsic.probe`.
Throughout ``n`` is the number of samples, ``H = I - 11ᵀ/n`` and ``K̄ = H K H``.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Median = Literal["with_diag", "offdiag"]

BANDWIDTH_FLOOR = 1e-8
"""Added to ``2σ²`` in `rbf_gram`, so that a bandwidth of zero gives the delta kernel."""


def squared_distances(X: Floats) -> Floats:
    """Return the squared Euclidean distances between all rows.

    Parameters
    ----------
    X
        Features (n_samples, n_features), float32 or float64.

    Returns
    -------
    numpy.ndarray
        ``D[i, j] = ‖X[i] - X[j]‖²`` (n_samples, n_samples) in the dtype of `X`; the diagonal is
        exactly zero and no entry is negative.

    Notes
    -----
    One matrix product: ``‖a‖² + ‖b‖² - 2 a·b`` of the rows minus their mean. The rounding error
    is a few units in the last place of the largest ``‖X[i] - mean‖²``, so without the centring
    features with a large offset would lose all digits; distances much smaller than that are noise.

    Examples
    --------
    >>> squared_distances(np.array([[0.0], [1.0], [3.0]]))
    array([[0., 1., 9.],
           [1., 0., 4.],
           [9., 4., 0.]])
    """
    centred = X - X.mean(axis=0)
    norms = np.einsum("ij,ij->i", centred, centred)
    distances: Floats = norms[:, None] + norms[None, :] - 2 * (centred @ centred.T)
    np.maximum(distances, 0, out=distances)
    np.fill_diagonal(distances, 0)
    return distances


def median_bandwidth(D: Floats, median: Median = "with_diag") -> float:
    """Return the bandwidth that the median heuristic chooses.

    Parameters
    ----------
    D
        Squared distances (n_samples, n_samples), symmetric, zero diagonal.
    median
        ``"with_diag"`` takes the median of all ``n²`` entries, zero diagonal included, as the
        HSIC bottleneck does; ``"offdiag"`` of the entries off the diagonal.

    Returns
    -------
    float
        ``σ = sqrt(median(D))`` in feature units, with the *lower* median (an element of `D`)
        where the number of entries is even; 0.0 if that element is 0.

    Raises
    ------
    ValueError
        If `D` is not a square matrix of at least two samples, or `median` is unknown.

    Examples
    --------
    >>> D = squared_distances(np.arange(6.0)[:, None] ** 2)
    >>> round(median_bandwidth(D), 6), round(median_bandwidth(D, "offdiag"), 6)
    (8.0, 9.0)
    """
    n = _n_samples(D, minimum=2)
    if median == "with_diag":
        entries = D.ravel()
    elif median == "offdiag":
        entries = D[~np.eye(n, dtype=bool)]
    else:
        raise ValueError(f"'median' must be 'with_diag' or 'offdiag', got {median!r}.")
    middle = (entries.size - 1) // 2
    return float(np.sqrt(np.partition(entries, middle)[middle]))


def rbf_gram(D: Floats, bandwidth: float) -> Floats:
    """Return the Gram matrix of the Gaussian kernel.

    Parameters
    ----------
    D
        Squared distances of any shape.
    bandwidth
        σ >= 0, in feature units.

    Returns
    -------
    numpy.ndarray
        ``exp(-D / (2σ² + 1e-8))``, shape and dtype of `D`; the delta kernel for a bandwidth of 0.

    Raises
    ------
    ValueError
        If `bandwidth` is negative or not a number.

    Examples
    --------
    >>> rbf_gram(np.array([[0.0, 2.0], [2.0, 0.0]]), bandwidth=1.0).round(4)
    array([[1.    , 0.3679],
           [0.3679, 1.    ]])
    """
    if not bandwidth >= 0:
        raise ValueError(f"'bandwidth' must be non-negative, got {bandwidth!r}.")
    gram: Floats = np.exp(-D / (2 * bandwidth**2 + BANDWIDTH_FLOOR))
    return gram


def delta_gram(y: ArrayLike) -> NDArray[np.float64]:
    """Return the Gram matrix of the delta kernel on labels.

    Parameters
    ----------
    y
        Labels (n_samples,) of any type that can be compared.

    Returns
    -------
    numpy.ndarray
        ``L[i, j] = 1`` if ``y[i] == y[j]``, else 0; float64 (n_samples, n_samples).

    Notes
    -----
    The linear kernel of one-hot labels. For two classes `rbf_gram` with the ``"with_diag"`` median
    gives the same, as at least half of the squared label distances are zero. A bandwidth of 1
    instead would scale HSIC by ``1 - exp(-1/2) = 0.393``.

    Examples
    --------
    >>> delta_gram([0, 1, 1])
    array([[1., 0., 0.],
           [0., 1., 1.],
           [0., 1., 1.]])
    """
    labels = np.asarray(y)
    gram: NDArray[np.float64] = np.equal.outer(labels, labels).astype(np.float64)
    return gram


def center_gram(K: Floats) -> Floats:
    """Return the Gram matrix of the centred feature map.

    Parameters
    ----------
    K
        Gram matrix (n_samples, n_samples).

    Returns
    -------
    numpy.ndarray
        ``H K H``; rows and columns sum to zero.

    Examples
    --------
    >>> center_gram(np.eye(2))
    array([[ 0.5, -0.5],
           [-0.5,  0.5]])
    """
    _n_samples(K, minimum=1)
    centred: Floats = K - K.mean(axis=0) - K.mean(axis=1)[:, None] + K.mean()
    return centred


def hsic_biased(K: Floats, L: Floats) -> float:
    """Return the biased empirical HSIC of two Gram matrices.

    Parameters
    ----------
    K, L
        Symmetric Gram matrices (n_samples, n_samples), uncentred.

    Returns
    -------
    float
        ``tr(K̄ L̄) / (n - 1)²``; non-negative for positive semi-definite matrices. Multiply by
        ``(n - 1)² / n²`` for the other common normalisation.

    Raises
    ------
    ValueError
        If the matrices are not square, differ in shape, or have fewer than two samples.

    Notes
    -----
    Under independence its expectation is ``tr K̄ · tr L̄ / (n - 1)³``, not zero.

    References
    ----------
    Gretton, Bousquet, Smola, Schölkopf, "Measuring statistical dependence with Hilbert-Schmidt
    norms", ALT 2005, definition of the empirical HSIC.

    Examples
    --------
    >>> hsic_biased(delta_gram([0, 0, 1, 1]), delta_gram([0, 0, 1, 1]))
    0.4444444444444444
    """
    n = _n_samples(K, L, minimum=2)
    return float(np.vdot(center_gram(K), L) / (n - 1) ** 2)


def hsic_unbiased(K: Floats, L: Floats) -> float:
    """Return the unbiased empirical HSIC of two Gram matrices.

    Parameters
    ----------
    K, L
        Symmetric Gram matrices (n_samples, n_samples), uncentred; their diagonals are not used.

    Returns
    -------
    float
        With ``K°``, ``L°`` the matrices with zero diagonal,
        ``[tr(K°L°) + 1ᵀK°1·1ᵀL°1 / ((n-1)(n-2)) - 2·1ᵀK°L°1 / (n-2)] / (n(n-3))``. It may be
        negative; its expectation is zero under independence.

    Raises
    ------
    ValueError
        If the matrices are not square, differ in shape, or have fewer than four samples.

    References
    ----------
    Song, Smola, Gretton, Bedo, Borgwardt, "Feature selection via dependence maximization",
    JMLR 13 (2012), equation 5.

    Examples
    --------
    >>> round(hsic_unbiased(delta_gram([0, 0, 1, 1]), delta_gram([0, 0, 1, 1])), 6)
    0.666667
    """
    n = _n_samples(K, L, minimum=4)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    products = np.vdot(K, L) + K.sum() * L.sum() / ((n - 1) * (n - 2))
    return float((products - 2 * (K.sum(axis=0) @ L.sum(axis=0)) / (n - 2)) / (n * (n - 3)))


def cka(K: Floats, L: Floats) -> float:
    """Return the centred kernel alignment of two Gram matrices.

    Parameters
    ----------
    K, L
        Symmetric positive semi-definite Gram matrices (n_samples, n_samples), uncentred.

    Returns
    -------
    float
        ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))`` of the biased estimates, in [0, 1].

    Raises
    ------
    ValueError
        If the matrices do not fit together, or one of them is constant.

    References
    ----------
    Cortes, Mohri, Rostamizadeh, "Algorithms for learning kernels based on centered alignment",
    JMLR 13 (2012), definition 4. Kornblith et al., "Similarity of neural network representations
    revisited", ICML 2019, equation 4.

    Examples
    --------
    >>> round(cka(delta_gram([0, 0, 1, 1]), 5 * delta_gram([1, 1, 0, 0])), 6)
    1.0
    """
    norms = hsic_biased(K, K) * hsic_biased(L, L)
    if not norms > 0:
        raise ValueError("both Gram matrices must vary between samples, got a constant one.")
    return hsic_biased(K, L) / float(np.sqrt(norms))


def _n_samples(*matrices: Floats, minimum: int) -> int:
    """Return the common size of square matrices."""
    first, shapes = matrices[0], [matrix.shape for matrix in matrices]
    if first.ndim != 2 or first.shape[0] != first.shape[1] or len(first) < minimum:
        needed = f"a matrix over all pairs of at least {minimum} sample(s)"
        raise ValueError(f"{needed} is needed, got an array of shape {first.shape}.")
    if len(set(shapes)) > 1:
        raise ValueError(f"'K' and 'L' must have the same shape, got {shapes[0]} and {shapes[1]}.")
    return len(first)
