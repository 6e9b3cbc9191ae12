"""ReconstructionOneClass against scikit-learn's PCA and torch's forward pass."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from support.checks import CutBatches
from support.features import vit_like

from featstore.simulate import simulate_store
from heads.fitting import fit
from heads.loop.batch_source import ArrayBatches, Pass
from heads.loop.passes import train
from heads.one_class.reconstruction import ReconstructionOneClass
from heads.one_class.reconstruction_training import AutoencoderTrainer

SAME = 1e-8  # float64 in another order
FLOAT32 = 1e-4  # a float32 network against its float64 copy


def network(**parameters: Any) -> ReconstructionOneClass:
    cheap = {"n_components": 3, "max_iter": 4, "batch_size": 32, "learning_rate": 1e-2}
    return ReconstructionOneClass(method="autoencoder", device="cpu", **{**cheap, **parameters})


def reals(n_samples: int = 200, n_features: int = 12) -> Any:
    return vit_like(n_samples, n_features)[0].astype(np.float64)


@pytest.mark.parametrize("standardize", ["none", "zscore"])
@pytest.mark.parametrize(("n_samples", "k"), [(200, 3), (200, 11), (8, 5)])
def test_pca__error_equals_that_of_scikit_learn(standardize: str, n_samples: int, k: int) -> None:
    X = reals()[:n_samples]
    head = ReconstructionOneClass(n_components=k, standardize=standardize)
    head.fit(X, np.zeros(len(X)))
    Z = StandardScaler().fit_transform(X) if standardize == "zscore" else X
    pca = PCA(k, svd_solver="full").fit(Z)
    expected = ((Z - pca.inverse_transform(pca.transform(Z))) ** 2).mean(1)
    np.testing.assert_allclose(head.anomaly_scores(X), expected, rtol=SAME)


@given(cuts=st.lists(st.integers(1, 79), max_size=20))
def test_pca__any_batching_gives_the_same_head(cuts: list[int]) -> None:
    X, y = vit_like(80, 6)
    head = ReconstructionOneClass(n_components=2)
    train([head], CutBatches(X, y, cuts))
    expected = ReconstructionOneClass(n_components=2).fit(X, y)
    np.testing.assert_allclose(head.anomaly_scores(X), expected.anomaly_scores(X), rtol=SAME)
    assert head.threshold_ == pytest.approx(expected.threshold_)


def test_pca__a_projection_of_a_projection_is_itself_and_its_error_refused() -> None:
    X = reals()
    head = ReconstructionOneClass(n_components=4).fit(X, np.zeros(len(X)))
    of_features, of_codes = head.learned().errors(X).T
    assert of_features.min() > 0
    assert of_codes.max() < SAME
    for error in ("scl", "sum"):
        with pytest.raises(ValueError, match="method='autoencoder'"):
            ReconstructionOneClass(n_components=4, error=error).fit(X, np.zeros(len(X)))


def test_pca__as_many_components_as_features_are_refused() -> None:
    with pytest.raises(ValueError, match="n_features=12"):
        ReconstructionOneClass(n_components=12).fit(reals(), np.zeros(200))


@pytest.mark.parametrize("standardize", ["none", "zscore"])
def test_autoencoder__errors_are_those_of_the_network(standardize: str) -> None:
    X = reals() - 20 * (standardize == "none")
    head = network(standardize=standardize)
    source = ArrayBatches(X, np.zeros(len(X)), np.array([0, 1]))
    (trainer,) = ReconstructionOneClass.trainers([head], source)
    assert isinstance(trainer, AutoencoderTrainer)
    while (reading := trainer.next_pass()) is not None:
        for batch in source.batches(reading):
            trainer.consume(batch, {})
        trainer.end_pass(None)
    trainer.finish()
    with torch.inference_mode():
        expected = trainer.module(torch.from_numpy(X)).numpy()
        net = trainer.module
        scaled = ((torch.from_numpy(X) - net.mean) / net.scale).float()
        code = net.encoder(scaled).tanh()
        again = net.encoder(net.decoder(code)).tanh()
    np.testing.assert_allclose(head.anomaly_scores(X), expected, rtol=FLOAT32)
    of_codes = head.learned().errors(X)[:, 1]
    np.testing.assert_allclose(of_codes, ((code - again) ** 2).sum(1), rtol=FLOAT32, atol=1e-6)


def test_autoencoder__learns_to_reproduce_real_rows() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(2, 12))
    real, fake = rng.normal(size=(300, 2)) @ mixing, rng.normal(size=(100, 12)) * 2
    head = network(n_components=4, max_iter=60).fit(real, np.zeros(300))
    assert head.history_.shape == (60, 1)
    assert head.history_[-1, 0] < 0.1 * head.history_[0, 0]
    assert head.predict(fake).mean() > 0.9
    assert head.predict(real).mean() == pytest.approx(0.05, abs=1 / 300)


def test_autoencoder__first_loss_and_step_are_those_of_real_rows_alone() -> None:
    X, y = vit_like(64, 6)
    other = X.copy()
    other[y == 1] *= -50
    first, second = (network(batch_size=64).fit(Z, y) for Z in (X, other))
    np.testing.assert_array_equal(first.history_, second.history_)
    np.testing.assert_array_equal(first.encoder_weight_, second.encoder_weight_)
    assert first.threshold_ == second.threshold_


def test_autoencoder__batches_without_real_rows_take_no_harm() -> None:
    X, y = vit_like(20, 6)
    assert np.isfinite(network(batch_size=1).fit(X, y).history_).all()


def test_autoencoder__sum_is_in_units_of_the_training_reals() -> None:
    X = reals()
    one = {error: network(error=error).fit(X, np.zeros(200)) for error in ("rec", "scl", "sum")}
    rec, scl = (one[error].anomaly_scores(X) for error in ("rec", "scl"))
    expected = rec / rec.std() + scl / scl.std()
    np.testing.assert_allclose(one["sum"].anomaly_scores(X), expected, rtol=SAME)
    z_scored = (rec - rec.mean()) / rec.std() + (scl - scl.mean()) / scl.std()
    margins = z_scored - np.sort(z_scored)[-11]
    found = one["sum"].decision_function(X) * one["sum"].spread_
    np.testing.assert_allclose(found, margins, rtol=SAME, atol=1e-8)  # the threshold's slack


def test_autoencoder__reads_scale_then_epochs_then_threshold() -> None:
    X, y = vit_like(60, 6)
    readings = []

    class Noted(ArrayBatches):
        def batches(self, reading: Pass) -> Any:
            readings.append(reading)
            return super().batches(reading)

    train([network(max_iter=2)], Noted(X, y))
    assert readings == [Pass(), Pass(32, 0, 0), Pass(32, 0, 1), Pass()]


def test_autoencoder__direction_and_threshold_come_from_validation_rows(tmp_path: Any) -> None:
    store = simulate_store(tmp_path / "s.zarr", n_samples=80, n_layers=1, n_features=6)
    rows, val = (store.select(split=split) for split in ("train", "val"))
    head = fit(network(direction="validation"), rows, val)
    X, y = val["cls"].values.reshape(val.sizes["sample"], -1), val["label"].values
    scores, sign = head.anomaly_scores(X), 1 if head.direction_ == "high" else -1
    assert sign * (scores[y == 1].mean() - scores[y == 0].mean()) > 0
    assert head.n_threshold_rows_ == np.sum(y == 0)
    assert np.mean(head.predict(X)[y == 0]) == head.rate_ <= 0.05


def test_reconstruction__refitting_with_another_method_leaves_nothing_behind() -> None:
    X, y = vit_like(60, 6)
    head = network(n_components=2).fit(X, y)
    head.set_params(method="pca").fit(X, y)
    expected = ReconstructionOneClass(n_components=2).fit(X, y)
    assert vars(head).keys() == vars(expected).keys()
    np.testing.assert_array_equal(head.decision_function(X), expected.decision_function(X))
    head.check_learned()
    head.squash_ = 1
    with pytest.raises(ValueError, match="squash_"):
        head.check_learned()
