"""Heads whose decision value is linear in the features."""

import numpy as np

from heads.head import Head
from heads.loop.batch_source import Floats


class LinearHead(Head):
    """Base of heads whose decision values are ``X @ coef_.T + intercept_``.

    Attributes
    ----------
    coef_ : ndarray (1, n_features), or (n_classes, n_features) for more than two classes
        Weights; of two classes, positive decision values mean ``classes_[1]``.
    intercept_ : ndarray (1,) or (n_classes,)
        Decision values of the origin.
    classes_ : ndarray (n_classes,)
        The labels, sorted.
    n_features_in_ : int
        Number of features.
    """

    coef_: Floats
    intercept_: Floats

    def check_learned(self) -> None:
        """Check that the learned attributes fit together; a loaded head is checked by it.

        Raises
        ------
        ValueError
            If an attribute is missing, has the wrong shape or type, or is not finite, or the
            classes are not sorted.
        """
        super().check_learned()
        n_outputs = 1 if len(self.classes_) == 2 else len(self.classes_)
        self._check_array("coef_", (n_outputs, self.n_features_in_))
        self._check_array("intercept_", (n_outputs,))

    def _decide(self, X: Floats) -> Floats:
        values: Floats = np.asarray(X @ self.coef_.T) + self.intercept_
        return values[:, 0] if len(self.coef_) == 1 else values
