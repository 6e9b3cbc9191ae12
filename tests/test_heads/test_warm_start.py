"""Heads that go on from the weights they have; HSICProbe's are in its own tests."""

import contextlib
import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from support.checks import Interrupted, Interruption, two_classes

import heads
from heads import HierarchicalContrastiveHead, ReconstructionOneClass, RINEHead
from heads.checkpoints import Checkpoint
from heads.loop.batch_source import ArrayBatches
from heads.loop.passes import train

STILL = 1e-12  # a learning rate at which float32 weights stay as they are
FLOAT32 = 1e-5  # weights rounded to float32 in units of other scales

HEADS: dict[str, Any] = {
    "rine": RINEHead(proj_dim=6, nproj=2, batch_size=32, learning_rate=1e-2, device="cpu"),
    **{
        f"contrastive_{adapter}": HierarchicalContrastiveHead(
            adapter=adapter,
            n_components=3,
            max_iter=2,
            batch_size=32,
            scoring="prototype",
            learning_rate=1e-2,
            device="cpu",
        )
        for adapter in ("linear", "mlp", "rine")
    },
}

AUTOENCODER = ReconstructionOneClass(
    method="autoencoder", n_components=2, max_iter=2, batch_size=32, device="cpu"
)
WEIGHTS = ("encoder_weight_", "encoder_bias_", "decoder_weight_", "decoder_bias_")


def moved() -> tuple[Any, Any]:
    X, y = two_classes()
    return X + 1, 1 - y


@pytest.mark.parametrize("name", HEADS)
def test_warm_start__goes_on_from_the_weights_learned(name: str) -> None:
    head, X = clone(HEADS[name]).fit(*two_classes()), moved()[0]
    Z = head.transform(X)
    head.set_params(warm_start=True, learning_rate=STILL, random_state=5).fit(*moved())
    assert_array_equal(head.transform(X), Z)


@pytest.mark.parametrize("name", HEADS)
def test_warm_start__without_it_or_untrained_weights_are_new(name: str) -> None:
    cold = clone(HEADS[name]).fit(*moved())
    again = clone(HEADS[name]).fit(*two_classes()).fit(*moved())
    first = clone(HEADS[name]).set_params(warm_start=True).fit(*moved())
    for head in (again, first):
        assert_array_equal(head.transform(moved()[0]), cold.transform(moved()[0]))


@pytest.mark.parametrize("name", HEADS)
def test_warm_start__other_features_are_refused(name: str) -> None:
    head = clone(HEADS[name]).set_params(warm_start=True).fit(*two_classes())
    with pytest.raises(ValueError, match=r"warm_start=True needs .* set warm_start=False"):
        head.fit(*two_classes(n_features=4))


@pytest.mark.parametrize("name", HEADS)
def test_warm_start__a_loaded_head_goes_on(name: str, tmp_path: Path) -> None:
    head = clone(HEADS[name]).set_params(warm_start=True).fit(*two_classes())
    heads.save(head, tmp_path / "head")
    loaded = heads.load(tmp_path / "head").fit(*moved())
    assert_array_equal(loaded.transform(moved()[0]), head.fit(*moved()).transform(moved()[0]))


def test_rine_head__other_numbers_of_projections_are_refused() -> None:
    for before, after in ((1, 2), (2, 1)):
        head = clone(HEADS["rine"]).set_params(warm_start=True, nproj=before).fit(*two_classes())
        with pytest.raises(ValueError, match="warm_start=True needs weights '"):
            head.set_params(nproj=after).fit(*two_classes())


def test_rine_head__other_numbers_of_layers_are_refused_though_the_weights_fit() -> None:
    head = clone(HEADS["rine"]).set_params(warm_start=True, use_intermediate=False, n_layers=2)
    head.fit(*two_classes(n_features=6))
    with pytest.raises(ValueError, match="needs a head trained on 3 layers, got one trained on 2"):
        head.set_params(n_layers=3).fit(*two_classes(n_features=9))


def test_contrastive_heads__each_goes_on_from_its_own_adapter() -> None:
    X, y = two_classes()
    members = [clone(HEADS["contrastive_linear"]).set_params(random_state=s) for s in (0, 1)]
    expected = [member.fit(X, y).transform(X) for member in members]
    for member in members:
        member.set_params(random_state=0, warm_start=True, learning_rate=STILL)
    train(members, ArrayBatches(X, y))
    for member, Z in zip(members, expected, strict=True):
        assert_allclose(member.transform(X), Z)
    assert not np.allclose(*expected)


@pytest.mark.parametrize("standardize", ["none", "zscore"])
def test_autoencoder__goes_on_from_its_weights_whatever_the_scale(standardize: str) -> None:
    head = clone(AUTOENCODER).set_params(standardize=standardize).fit(*two_classes())
    before = {name: getattr(head, name) for name in WEIGHTS}
    X, y = two_classes()
    head.set_params(warm_start=True, learning_rate=STILL).fit(X * [1, 2, 3, 4, 5] + 3, y)
    for name, expected in before.items():
        assert_allclose(getattr(head, name), expected, rtol=FLOAT32, atol=FLOAT32)


def test_autoencoder__interrupted_before_its_first_epoch_goes_on_all_the_same(
    tmp_path: Path,
) -> None:
    (X, y), checkpoint = two_classes(), Checkpoint(tmp_path / "state.safetensors")
    head = clone(AUTOENCODER).set_params(warm_start=True).fit(X, y)
    expected = copy.deepcopy(head).fit(X + 1, y)
    with contextlib.suppress(Interruption):
        train([head], Interrupted(X + 1, y, 1), checkpoint=checkpoint)
    train([head], ArrayBatches(X + 1, y), checkpoint=checkpoint)
    assert_array_equal(head.decision_function(X), expected.decision_function(X))


def test_autoencoder__other_features_are_refused() -> None:
    head = clone(AUTOENCODER).set_params(warm_start=True).fit(*two_classes())
    with pytest.raises(ValueError, match="needs an autoencoder of 4 features, got one of 5"):
        head.fit(*two_classes(n_features=4))
