"""Scoring by the nearest neighbours in a bank of labelled rows."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from heads.head import Head
from heads.loop.batch_source import BatchSource, Floats
from heads.loop.passes import Trainer
from heads.neighbours.knn_training import BankDtype, BankTrainer
from heads.neighbours.rules import TEMPERATURES, Rule
from heads.neighbours.search import ENGINES, Engine, Metric, NearestRows, nearest_rows
from heads.neighbours.votes import Votes

PIECE_NUMBERS = 2**24
"""Features of the bank that are handed to the search at a time."""


class KNNHead(Head):
    """Exact nearest neighbours in a bank held in memory; any number of classes.

    Each class has a score, by the `rule` and the similarities s of the nearest rows of the bank;
    of two classes the decision value is the difference ``score(classes_[1]) - score(classes_[0])``:

    - ``"legacy"`` (FiSeR): ``T · Σ s`` over those of the k nearest rows that are of the class;
    - ``"exponential"`` (FiSeR): ``log Σ exp(s / T)`` over the same rows, so that the probability is
      ``Σ_of_class exp(s / T) / Σ_all exp(s / T)``;
    - ``"two_banks"`` (UniversalFakeDetect): the mean s of the k nearest rows *of the class*,
      divided by T; with distances ``1 - s``, the mean distance to the k nearest real rows less that
      to the k nearest fake ones.

    Parameters
    ----------
    k
        Neighbours; all rows of a bank, or of a class, that has fewer.
    rule
        How they are counted.
    temperature
        T > 0; None is the published one, 0.05 for ``"legacy"``, 0.07 for ``"exponential"`` and 1
        for ``"two_banks"``.
    metric
        Similarity: ``"cosine"``, ``"inner"`` (the product of the rows as they are, which FiSeR
        takes of rows whose length bfloat16 has changed a little from 1), or
        ``"euclidean"`` (minus the distance; not with ``"legacy"``, for which more neighbours of a
        class would mean a lower score).
    bank_dtype
        ``"float32"``, or ``"float16"``, which halves the memory and is exact for features that the
        store holds as float16.
    max_bank
        Most bytes that the bank may take; beyond it use `heads.evaluation.knn_scores.score_knn`,
        which leaves the bank in the store.
    engine
        What searches: ``"compiled"``, ``"torch"`` or ``"faiss"``; see
        `heads.neighbours.search.nearest_rows`.
    device
        Where torch computes: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.

    Attributes
    ----------
    bank_ : ndarray (n_rows, n_features)
        The rows, in the order of training.
    bank_classes_ : ndarray (n_rows,), int64
        Their classes, indices into ``classes_``.
    classes_, n_features_in_
        As in scikit-learn.

    Notes
    -----
    ``"legacy"`` adds similarities up instead of averaging them. In a bank with nine times as many
    fake as real rows, most neighbours of any image are fake, and the score says so: its zero means
    nothing, and AUROC can suffer too. Balance the bank. The other rules are less sensitive to it,
    but neighbours of a denser class are nearer under any of them.

    Probabilities are those of the rules, not calibrated ones. If the k nearest rows are all of one
    class, ``"exponential"`` gives probability 1, as published, and a decision value of 700.

    Similarities are computed in float32, or in float64 for samples that are float64. Of equally
    near rows the first in the bank counts. ``2 · n_samples · n_rows · n_features`` operations for
    any k; besides the bank a few MiB are needed, whatever the number of samples.

    k should be chosen on validation rows: `heads.evaluation.knn_scores.sweep_k` tries all of them
    in one search.

    References
    ----------
    FiSeR, 2026, public code. Ojha, Li, Lee, "Towards universal fake image detectors that generalize
    across generative models", CVPR 2023.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> X = rng.normal(size=(200, 10)) + y[:, None]
    >>> float(KNNHead(k=9).fit(X[:100], y[:100]).score(X[100:], y[100:]))
    0.89
    """

    multiclass = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "k": [Interval(Integral, 1, None, closed="left")],
        "rule": [StrOptions(set(TEMPERATURES))],
        "temperature": [Interval(Real, 0, None, closed="neither"), None],
        "metric": [StrOptions({"cosine", "inner", "euclidean"})],
        "bank_dtype": [StrOptions({"float16", "float32"})],
        "max_bank": [Interval(Integral, 1, None, closed="left")],
        "engine": [StrOptions(set(ENGINES))],
        "device": [str],
    }

    bank_: Floats
    bank_classes_: NDArray[np.int64]

    def __init__(  # noqa: PLR0913  hyper-parameters
        self,
        *,
        k: int = 25,
        rule: Rule = "legacy",
        temperature: float | None = None,
        metric: Metric = "cosine",
        bank_dtype: BankDtype = "float32",
        max_bank: int = 2**31,
        engine: Engine = "compiled",
        device: str = "auto",
    ) -> None:
        self.k = k
        self.rule = rule
        self.temperature = temperature
        self.metric = metric
        self.bank_dtype = bank_dtype
        self.max_bank = max_bank
        self.engine = engine
        self.device = device

    @classmethod
    def trainers(cls, heads: Sequence[Self], source: BatchSource) -> list[Trainer]:
        """Return one trainer for all heads; those that keep equal banks share one.

        Parameters
        ----------
        heads
            Heads with any parameters.
        source
            The rows of the bank.

        Returns
        -------
        list of Trainer
            One trainer.

        Raises
        ------
        ValueError
            If a parameter is out of its range, the source has one class only, the bank is larger
            than `max_bank`, or there is no such engine or device here.
        """
        for head in heads:
            head.check_trainable(source)
            head.search(np.ones((1, 1), np.float32), 1)
        return [BankTrainer(heads, source)]

    def search(self, queries: Floats, n_rows: int | None = None) -> NearestRows:
        """Return a search for the neighbours of some samples, to which a bank can be added.

        Parameters
        ----------
        queries
            The samples (n_samples, n_features), finite.
        n_rows
            Rows that the bank has, where that is known: there is no room for more neighbours.

        Returns
        -------
        NearestRows
            As from `heads.neighbours.search.nearest_rows`, by the hyper-parameters.

        Raises
        ------
        ValueError
            If there is no such engine or device here.
        """
        k = self.k if n_rows is None else min(self.k, n_rows)
        return nearest_rows(queries, k, metric=self.metric, engine=self.engine, device=self.device)

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.rule == "legacy" and self.metric == "euclidean":
            raise ValueError(
                "rule='legacy' adds similarities up, which must grow with nearness from 0, got "
                "metric='euclidean', whose are negative; choose another rule or metric."
            )

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, or the
            classes are not sorted, or a class is not among them.
        """
        super().check_learned()
        classes = getattr(self, "bank_classes_", None)
        are_indices = isinstance(classes, np.ndarray) and classes.dtype == np.int64
        found = np.unique(classes).tolist() if are_indices else []  # type: ignore[arg-type]
        if np.ndim(classes) != 1 or found != list(range(len(self.classes_))):  # type: ignore[arg-type]
            raise ValueError(
                f"'bank_classes_' must be an int64 index into {len(self.classes_)} classes for "
                f"every row of the bank, each class among them, got {classes!r}."
            )
        self._check_array("bank_", (len(self.bank_classes_), self.n_features_in_))

    def _decide(self, X: Floats) -> Floats:
        votes = Votes(self, X, len(self.classes_), len(self.bank_))
        size = max(1, PIECE_NUMBERS // self.n_features_in_)
        for start in range(0, len(self.bank_), size):
            piece = slice(start, start + size)
            votes.add(self.bank_[piece], self.bank_classes_[piece])
        scores = votes.scores()
        return scores[1] - scores[0] if len(scores) == 2 else scores.T
