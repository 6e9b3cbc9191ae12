"""The training of `FewShotSVM`: rows are gathered, then scikit-learn solves."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from heads.loop.batch_source import BatchSource, RowBatch, Shared
from heads.loop.one_pass import OnePassTrainer

if TYPE_CHECKING:
    from heads.svm.probe import FewShotSVM


class SVMTrainer(OnePassTrainer):
    """Gathers the rows once and solves for every head.

    Parameters
    ----------
    members
        Heads that see the same rows.
    source
        The rows to learn from.

    Raises
    ------
    ValueError
        If there are more rows than a head allows.
    """

    def __init__(self, members: Sequence["FewShotSVM"], source: BatchSource) -> None:
        super().__init__(members, source)
        for head in members:
            if source.n_samples > head.max_rows:
                raise ValueError(
                    f"FewShotSVM learns from at most 'max_rows' = {head.max_rows:,} rows, got "
                    f"{source.n_samples:,}; select fewer, raise it, or use LogisticProbe, which "
                    "learns from any number."
                )
        self._X = np.empty((source.n_samples, source.n_features))
        self._y = np.empty(source.n_samples, np.int64)

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Put the rows where they belong."""
        self._X[batch.index], self._y[batch.index] = batch.X, batch.y

    def finish(self) -> None:
        """Solve, and write the learned attributes."""
        from sklearn.svm import SVC

        super().finish()
        for head in self.members:
            gamma = self._gamma(head)
            svc = SVC(C=head.C, kernel=head.kernel, gamma=gamma, tol=head.tol)
            svc.fit(self._X, self._y)
            head.support_vectors_, head.dual_coef_ = svc.support_vectors_, svc.dual_coef_[0]
            head.intercept_, head.gamma_ = svc.intercept_, gamma

    def _gamma(self, head: "FewShotSVM") -> float:
        """Return the width of the kernel as scikit-learn defines its names."""
        if head.gamma == "auto":
            return 1 / self.n_features
        if head.gamma == "scale":
            variance = float(self._X.var())
            return 1 / (self.n_features * variance) if variance else 1.0
        return float(head.gamma)
