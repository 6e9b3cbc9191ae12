"""Where training rows come from, as heads see it: passes, batches, and rows in memory.

The store's counterpart of `ArrayBatches` is in `heads.fitting`; what one head sees of a source
that many share (some layers, another target) is in `heads.loop.views`. Estimators never see
anything but NumPy arrays.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from heads.loop.sampling import Sampling, draw_units

Floats = NDArray[np.floating[Any]]
Shared = dict[Any, Any]

WORKSPACE = 2**29
"""Workspace of a source that sets no limit of its own, in bytes."""


class Lesson(NamedTuple):
    """Decision values that rows are to keep: a loss on the logits of rows, a mean over them.

    With logits s and those to be kept t, at a temperature T ::

        weight · mean (s - t)²                                   no temperature: DER, DER++
        weight · T² · mean cross-entropy(σ(s / T), σ(t / T))     LwF, for two classes

    the second of which has the slope ``weight · T (σ(s / T) - σ(t / T))`` of a row, and tends to
    a quarter of the slope of ``(s - t)² / 2`` for large T.

    References
    ----------
    Buzzega et al., "Dark experience for general continual learning", NeurIPS 2020, equation 6. Li,
    Hoiem, "Learning without forgetting", ECCV 2016, equation 2. Hinton, Vinyals, Dean, "Distilling
    the knowledge in a neural network", 2015, section 2, for the factor T².
    """

    logits: Floats
    """Of each row (n_rows,)."""
    weight: float
    temperature: float | None = None
    """T > 0, or None."""


class Term(NamedTuple):
    """What a batch's loss has of some of its rows; the loss is the sum of its terms."""

    n_rows: int
    weight: float = 1.0
    """Factor >= 0 of the head's own loss of these rows, which is not computed at 0."""
    lesson: Lesson | None = None
    """What is added to it."""


class RowBatch(NamedTuple):
    """Some rows of a source.

    ``X`` is float (n, n_features), layers one behind the other; ``y`` intp (n,) indices into the
    source's ``classes``; ``index`` int64 (n,) positions among the source's rows. ``terms`` say how
    the loss is made up, each of as many rows, one behind the other; without any it is the head's
    own loss of all rows. Batches in stored order have none.
    """

    X: Floats
    y: NDArray[np.intp]
    index: NDArray[np.int64]  # type: ignore[assignment]  # shadows tuple.index
    terms: tuple[Term, ...] = ()

    def parts(self) -> list[tuple["RowBatch", Term]]:
        """Return the rows of each term, and the term."""
        if not self.terms:
            return [(self, Term(len(self.y)))]
        edges = np.cumsum([0, *(term.n_rows for term in self.terms)]).tolist()
        if edges[-1] != len(self.y):
            raise ValueError(
                f"the terms of a batch must be of all its {len(self.y)} rows, got {edges[-1]}."
            )
        ranges = [slice(*pair) for pair in pairwise(edges)]
        rows = [RowBatch(self.X[own], self.y[own], self.index[own]) for own in ranges]
        return list(zip(rows, self.terms, strict=True))


class Target(NamedTuple):
    """What rows may be told apart by: ``names[codes]`` is the value of each row."""

    codes: NDArray[np.integer[Any]]
    names: NDArray[Any]

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Return the target with these values (n_samples,)."""
        names, codes = np.unique(values, return_inverse=True)
        return cls(codes.astype(np.min_scalar_type(-len(names) - 1)), names)


class Targets(Mapping[str, Target]):
    """What rows may be told apart by, each found when it is asked for.

    Parameters
    ----------
    makers
        Name to a function that returns the target.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Target]]) -> None:
        self._makers, self._made = makers, dict[str, Target]()

    def __getitem__(self, name: str) -> Target:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(frozen=True)
class Pass:
    """One reading of the rows.

    Parameters
    ----------
    batch_size
        Rows per batch; the last batch may be smaller, and without a seed so may all.
    seed
        ``None`` reads rows in stored order; an int shuffles them, and equal seeds and epochs give
        equal orders.
    epoch
        Number of the pass, so that each epoch has its own order.
    sampling
        Which rows a shuffled pass holds; see `heads.loop.sampling`.
    """

    batch_size: int = 4096
    seed: int | None = None
    epoch: int = 0
    sampling: Sampling = "rows"

    def __post_init__(self) -> None:
        if self.sampling != "rows" and self.seed is None:
            raise ValueError(f"sampling={self.sampling!r} needs a seed, got None.")
        if self.sampling == "pair" and self.batch_size % 2:
            raise ValueError(
                f"'batch_size' must be even with sampling='pair', got {self.batch_size}."
            )

    def rng(self) -> np.random.Generator:
        """Return the generator that chooses and orders the rows of a shuffled pass."""
        return np.random.default_rng((self.seed or 0, self.epoch))


class BatchSource(Protocol):
    """Rows that can be read any number of times."""

    n_samples: int
    layers: tuple[int, ...]
    """Number of features of each layer; layers lie one behind the other in ``X``."""
    layer_names: tuple[str, ...] | None
    """Names of the layers, such as ``"ln_2.0"``; None for arrays."""
    classes: NDArray[Any]
    """The sorted labels; ``y`` of a batch are indices into them."""
    targets: Mapping[str, Target]
    """``"label"``, and ``"generator"`` and ``"pair"`` where they are known."""
    workspace: int
    """Bytes that a head may hold besides its own weights and the batch at hand."""

    @property
    def n_features(self) -> int:
        """Number of features of a row, all layers together."""

    def counts(self) -> NDArray[np.intp]:
        """Return how many rows each class has, without reading any."""

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        """Yield the batches of a pass: X float16, float32 or float64 (n, n_features)."""


class Labels:
    """The labels of a source as indices into its classes, one byte or two per row.

    Parameters
    ----------
    target
        What the rows are to be told apart by.
    classes
        The sorted labels that exist; those of the rows if None.

    Raises
    ------
    ValueError
        If a row has a label that is not among the classes.
    """

    def __init__(self, target: Target, classes: NDArray[Any] | None = None) -> None:
        found = np.unique(target.codes)
        names = np.unique(target.names[found])
        self.classes = names if classes is None else np.asarray(classes)
        if unknown := sorted(set(names.tolist()) - set(self.classes.tolist())):
            raise ValueError(
                f"validation rows must have labels seen in training {self.classes.tolist()}, got "
                f"{unknown} too; select matching rows."
            )
        self._codes = target.codes
        self._classes_of_codes = np.zeros(len(target.names), np.intp)
        self._classes_of_codes[found] = np.searchsorted(self.classes, target.names[found])

    def at(self, index: Any) -> NDArray[np.intp]:
        """Return the labels (n,) of the rows at the given positions or slice."""
        labels: NDArray[np.intp] = self._classes_of_codes[self._codes[index]]
        return labels

    def counts(self) -> NDArray[np.intp]:
        """Return the number of rows of each class."""
        by_code = np.bincount(self._codes, minlength=len(self._classes_of_codes))
        weighted = np.bincount(self._classes_of_codes, by_code, len(self.classes))
        return weighted.astype(np.intp)


class ArrayBatches:
    """Batches of arrays in memory.

    Parameters
    ----------
    X
        Features (n_samples, n_features), float16, float32 or float64; memory maps are read batch
        by batch.
    y
        Labels (n_samples,) of any sortable type.
    classes
        The sorted labels that exist; found in `y` if absent.
    groups
        The generator of each row (n_samples,), of any sortable type.
    pairs
        Number of the aligned pair of each row (n_samples,), -1 for none.
    """

    def __init__(
        self,
        X: Floats,
        y: NDArray[Any],
        classes: NDArray[Any] | None = None,
        *,
        groups: NDArray[Any] | None = None,
        pairs: NDArray[Any] | None = None,
    ) -> None:
        given = {"label": y, "generator": groups, "pair": pairs}
        self.targets: Mapping[str, Target] = {
            k: Target.of(np.asarray(v)) for k, v in given.items() if v is not None
        }
        self._X, self._labels = X, Labels(self.targets["label"], classes)
        self.classes = self._labels.classes
        self.n_samples, self.n_features = X.shape
        self.layers: tuple[int, ...] = (self.n_features,)
        self.layer_names: tuple[str, ...] | None = None
        self.workspace = WORKSPACE

    def counts(self) -> NDArray[np.intp]:
        """Return how many rows each class has."""
        return self._labels.counts()

    def batches(self, reading: Pass) -> Iterator[RowBatch]:
        """Yield the batches of one pass.

        Parameters
        ----------
        reading
            Batch size and order.

        Yields
        ------
        RowBatch
            Features, labels and positions.
        """
        order = np.arange(self.n_samples)
        if reading.seed is not None:
            rng = reading.rng()
            units = draw_units(reading.sampling, self.targets, rng)
            units = order[:, None] if units is None else units
            order = units[rng.permutation(len(units))].ravel()
        for start in range(0, len(order), reading.batch_size):
            index = order[start : start + reading.batch_size]
            rows: Any = slice(start, start + len(index)) if reading.seed is None else index
            yield RowBatch(self._X[rows], self._labels.at(rows), index)
