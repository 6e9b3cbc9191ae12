"""What linear heads share, beyond what the conformance suite covers."""

import numpy as np
import pytest
from support.checks import two_classes

from heads.linear import LinearHead
from heads.logistic.probe import LogisticProbe
from heads.loop.batch_source import ArrayBatches


def test_fit__takes_float16_whose_sum_overflows() -> None:
    X, y = two_classes(1000)
    X = X.astype(np.float16)
    X[:, 0] = np.where(np.arange(1000) < 500, 1000, -1000)
    assert np.isfinite(LogisticProbe().fit(X, y[::-1]).decision_function(X)).all()


def test_decision_function__is_the_same_for_one_row_and_for_many() -> None:
    X, y = two_classes(60)
    head = LogisticProbe().fit(X, y)
    many = np.tile(X, (100, 1))  # more than one block of rows
    expected = np.tile(X @ head.coef_[0] + head.intercept_, 100)
    np.testing.assert_allclose(head.decision_function(many), expected, rtol=1e-12, atol=1e-12)


def test_subclass__has_to_say_how_it_is_trained() -> None:
    with pytest.raises(NotImplementedError, match="LinearHead has no trainers"):
        LinearHead.trainers([], ArrayBatches(*two_classes()))
