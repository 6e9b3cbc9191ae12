"""Class weights that heads refuse, whatever they do with them."""

from typing import Any

import numpy as np
import pytest
from support.features import vit_like

from heads.class_weights import class_weights
from heads.closed_form.ridge import RidgeProbe
from heads.logistic.probe import LogisticProbe
from heads.stay_positive.probe import StayPositiveProbe

HEADS = [RidgeProbe(), LogisticProbe(), StayPositiveProbe(allow_signed=True)]


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_class_weights__must_be_positive_and_finite(head: Any, weight: float) -> None:
    head.set_params(class_weight={0: weight, 1: 1.0})
    with pytest.raises(ValueError, match="class weights must be > 0 and finite"):
        head.fit(*vit_like(50, 4))


def test_class_weights__are_for_labels_that_exist() -> None:
    with pytest.raises(ValueError, match="not in class_weight"):
        class_weights({"faek": 2.0}, np.array(["fake", "real"]), [1, 1])
