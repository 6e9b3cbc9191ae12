"""What closed-form heads need to know of the rows: how many, their means, and one Gram matrix.

`Moments` add up: over batches in any order, and over machines. They are all that ridge
regression, linear discriminants and HSIC with linear kernels depend on, so that these heads need
one pass over the rows, and rows that came later or elsewhere can be added without the earlier ones.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from heads.closed_form.gram import Matrix, mirror, plus_gram
from heads.loop.batch_source import Floats

CONSTANT = 16 * float(np.finfo(np.float64).eps)
"""Spread, relative to the mean, below which a feature is constant up to rounding."""

ROWS = 1024
"""Rows of a batch: enough for the speed of a matrix product, 8 MiB of 1024 features."""

ARRAYS = ("classes", "counts", "weights", "origin", "offsets", "within")
"""What moments consist of."""


class Moments:
    """Row counts and means of classes, and the scatter of the rows around them, in float64.

    Parameters
    ----------
    classes
        The labels (n_classes,), sorted.
    n_features
        Number of features of a row, at least 1.
    weights
        Weight > 0 of the rows of each class (n_classes,); 1 if None.

    Attributes
    ----------
    classes : ndarray (n_classes,)
        The labels, sorted.
    counts : ndarray (n_classes,), int64
        Rows of each class.
    weights : ndarray (n_classes,)
        Weight of a row of each class.
    origin : ndarray (n_features,)
        A row amid the rows, from which means are counted: the mean of the first batch.
    offsets : ndarray (n_classes, n_features)
        Mean row of each class minus the origin, zero for a class without rows.

    Notes
    -----
    A batch is reduced to its own class means and the rows minus these; the scatter then grows by
    the Gram matrix of the centred rows and of one row per class, the shift between old and new
    mean times √(n·m / (n+m)). Everything added is positive semi-definite, and means are kept as
    differences from the origin, so that features may lie far from zero. Batches in any order, and
    merged parts, agree to about 1e-14 of the largest entry.

    Cost: n_features² operations per row (half of a matrix product) at the speed of BLAS, and
    8 · n_features² bytes.

    References
    ----------
    Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American Statistician
    37 (1983), the pairwise update.

    Examples
    --------
    >>> X, y = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]]), np.array([0, 0, 1])
    >>> first, second = Moments([0, 1], 2), Moments([0, 1], 2)
    >>> first.add(X[:1], y[:1])
    >>> second.add(X[1:], y[1:])
    >>> first.merge(second)
    >>> first.counts, first.means
    (array([2, 1]), array([[2., 0.],
           [0., 5.]]))
    >>> first.within
    array([[2., 0.],
           [0., 0.]])
    """

    def __init__(
        self, classes: ArrayLike, n_features: int, weights: ArrayLike | None = None
    ) -> None:
        self.classes = np.asarray(classes)
        n_classes = len(self.classes)
        self.weights = np.ones(n_classes) if weights is None else np.asarray(weights, np.float64)
        self.counts = np.zeros(n_classes, np.int64)
        self.origin: Matrix = np.zeros(n_features)
        self.offsets: Matrix = np.zeros((n_classes, n_features))
        self._lower: Matrix = np.zeros((n_features, n_features), order="F")

    @property
    def n_features(self) -> int:
        """Number of features of a row."""
        return len(self.origin)

    @property
    def masses(self) -> Matrix:
        """Rows of each class times their weight (n_classes,)."""
        masses: Matrix = self.counts * self.weights
        return masses

    @property
    def means(self) -> Matrix:
        """Mean row of each class (n_classes, n_features), the origin for a class without rows."""
        return self.origin + self.offsets

    @property
    def mean(self) -> Matrix:
        """Weighted mean of all rows (n_features,)."""
        mean: Matrix = self.origin + self.masses @ self.offsets / self.masses.sum()
        return mean

    @property
    def deviations(self) -> Matrix:
        """Mean row of each class minus the mean of all rows (n_classes, n_features)."""
        masses = self.masses
        deviations: Matrix = self.offsets - masses @ self.offsets / masses.sum()
        return deviations

    @property
    def within(self) -> Matrix:
        """Weighted sum of (x - class mean)(x - class mean)ᵀ over rows (n_features, n_features)."""
        return mirror(self._lower.copy(order="F"))

    @property
    def spreads(self) -> Matrix:
        """Weighted standard deviation of each feature (n_features,), 1 for a constant one."""
        squares = np.diag(self._lower) + self.masses @ self.deviations**2
        spreads = np.sqrt(squares / self.masses.sum())
        varies = spreads > CONSTANT * np.abs(self.mean)
        return np.where(varies, spreads, 1.0)

    @property
    def scatter(self) -> Matrix:
        """Weighted sum of (x - mean)(x - mean)ᵀ over all rows (n_features, n_features)."""
        between = np.sqrt(self.masses)[:, None] * self.deviations
        return mirror(plus_gram(self._lower.copy(order="F"), between))

    def add(self, X: Floats, y: NDArray[np.integer[Any]]) -> None:
        """Add rows.

        Parameters
        ----------
        X
            Features (n, n_features), finite, of any float type; left as they are.
        y
            Index of each row's class in `classes` (n,).
        """
        n, counts = len(X), np.bincount(y, minlength=len(self.classes))
        if not n:
            return
        n_shifted = np.count_nonzero((self.counts > 0) & (counts > 0))
        block = np.empty((n + n_shifted, self.n_features))
        rows = block[:n]
        if not self.counts.any():
            self.origin = X.mean(axis=0, dtype=np.float64)
        np.subtract(X, self.origin, out=rows)
        members = csr_array((np.ones(n), (y, np.arange(n))), shape=(len(counts), n))
        offsets = (members @ rows) / np.maximum(counts, 1)[:, None]
        rows -= offsets[y]
        if (self.weights != 1).any():
            rows *= np.sqrt(self.weights)[y, None]
        block[n:] = self._move_means(counts, offsets)
        self._lower = plus_gram(self._lower, block)

    def merge(self, other: "Moments") -> None:
        """Add the rows that another instance has seen.

        Parameters
        ----------
        other
            Moments of the same features; its classes may be others.

        Raises
        ------
        ValueError
            If the numbers of features differ, or a class of both has two weights.
        """
        if other.n_features != self.n_features:
            raise ValueError(
                f"moments must be of the same features to be merged, got {self.n_features} and "
                f"{other.n_features}."
            )
        classes = np.union1d(self.classes, other.classes)
        counts, offsets, weights = other._placed(classes)
        own_counts, own_offsets, own_weights = self._placed(classes)
        if (differs := (own_weights != weights) & (own_weights > 0) & (weights > 0)).any():
            raise ValueError(
                f"moments must have equal class weights to be merged, got "
                f"{own_weights[differs].tolist()} and {weights[differs].tolist()} for the classes "
                f"{classes[differs].tolist()}."
            )
        self.classes, self.weights = classes, np.maximum(own_weights, weights)
        self.counts, self.offsets = own_counts, own_offsets
        if not self.counts.any():
            self.origin = other.origin.copy()
        shifts = self._move_means(counts, offsets + (other.origin - self.origin))
        self._lower += other._lower
        self._lower = plus_gram(self._lower, shifts)

    def require_finite(self) -> None:
        """Refuse rows that were not finite.

        Raises
        ------
        ValueError
            If a feature was NaN or infinite, or its square is.
        """
        spread = np.diag(self._lower)
        if not (np.isfinite(self.offsets).all() and np.isfinite(spread).all()):
            raise ValueError(
                f"features must be finite, got NaN, infinity or numbers too large to be squared in "
                f"feature {int(np.argmin(np.isfinite(spread)))}; leave these rows out."
            )

    def seen(self) -> Self:
        """Return these moments without classes that have no rows; the Gram matrix is shared."""
        part = object.__new__(type(self))
        present = self.counts > 0
        for name in ("classes", "counts", "weights", "offsets"):
            setattr(part, name, getattr(self, name)[present])
        part.origin, part._lower = self.origin, self._lower
        return part

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays by name, to be kept in a file or sent elsewhere.

        Returns
        -------
        dict of ndarray
            ``classes``, ``counts``, ``weights``, ``origin``, ``offsets`` and ``within``.
        """
        return {name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the moments that `to_arrays` described.

        Parameters
        ----------
        arrays
            Arrays by name; they are copied.

        Returns
        -------
        Moments
            The same moments.

        Raises
        ------
        ValueError
            If an array is missing, or the shapes do not fit together.
        """
        if missing := [name for name in ARRAYS if name not in arrays]:
            raise ValueError(f"moments need the arrays {list(ARRAYS)}, got none for {missing}.")
        own = {name: np.array(arrays[name]) for name in ARRAYS}
        n_classes, n_features = len(own["classes"]), own["origin"].size
        square = (n_features, n_features)
        per_class = dict.fromkeys(("classes", "counts", "weights"), (n_classes,))
        shapes = per_class | {"origin": (n_features,), "offsets": (n_classes, n_features)}
        for name, shape in (shapes | {"within": square}).items():
            if own[name].shape != shape:
                raise ValueError(f"{name!r} must have shape {shape}, got {own[name].shape}.")
        moments = cls(own["classes"], n_features, own["weights"])
        moments.counts = own["counts"].astype(np.int64)
        moments.origin, moments.offsets = own["origin"], own["offsets"]
        moments._lower = np.asfortranarray(own["within"])
        return moments

    def _placed(self, classes: NDArray[Any]) -> tuple[NDArray[np.int64], Matrix, Matrix]:
        """Return counts, offsets and weights at their places among more classes, else zero."""
        places = np.searchsorted(classes, self.classes)
        counts, weights = np.zeros(len(classes), np.int64), np.zeros(len(classes))
        offsets = np.zeros((len(classes), self.n_features))
        counts[places], weights[places], offsets[places] = self.counts, self.weights, self.offsets
        return counts, offsets, weights

    def _move_means(self, counts: NDArray[np.integer[Any]], offsets: Matrix) -> Matrix:
        """Take counts and means of more rows in; return the rows that the shift adds."""
        total = self.counts + counts
        share = (counts / np.maximum(total, 1))[:, None]
        shifts = offsets - self.offsets
        moved = (self.counts > 0) & (counts > 0)
        added: Matrix = (np.sqrt(self.masses[:, None] * share) * shifts)[moved]
        self.offsets, self.counts = self.offsets + share * shifts, total
        return added
