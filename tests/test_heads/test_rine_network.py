"""RINE's network against plain NumPy, and against what the published implementation returns.

``tests/data/rine.npz`` holds, as ``tiny_*``, weights, outputs and gradients of a small network of
mever-team/rine; the full sizes, and the published head, are optional assets.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import expit, softmax
from support.rine import network_from, recipe

from heads.evaluation.pooling import pool_views
from heads.rine.head import RINEHead
from heads.rine.network import RINENetwork, evaluate
from heads.rine.weights import RINEShape

VECTORS = Path(__file__).resolve().parents[1] / "data" / "rine.npz"
PUBLISHED = 1e-5  # float32 sums in another order, relative to the largest value
GRADIENT = 1e-4  # of the largest entry
TINY = RINEShape(6, 32, proj_dim=16, nproj=2)

Arrays = dict[str, Any]


@pytest.fixture(scope="module")
def vectors() -> Arrays:
    with np.load(VECTORS) as file:
        return dict(file)


@pytest.fixture(scope="module")
def all_vectors(shared: Callable[[str], Path]) -> Arrays:
    with np.load(shared("vectors/rine.npz")) as file:
        return dict(file)


def assert_near(found: Any, expected: Any, tolerance: float = PUBLISHED) -> None:
    expected = np.asarray(expected)
    found = np.asarray(found).reshape(expected.shape)
    assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def in_numpy(shape: RINEShape, published: Arrays, X: Any) -> tuple[Any, Any, Any]:
    """Return logits (n,), z and Q1's outputs in float64."""
    arrays = {name: np.float64(values) for name, values in published.items()}

    def layers(x: Any, name: str, places: range, n_active: int) -> Any:
        for number, place in enumerate(places):
            x = x @ arrays[f"{name}.{place}.weight"].T + arrays[f"{name}.{place}.bias"]
            x = np.maximum(x, 0) if number < n_active else x
        return x

    q = shape.nproj
    g = layers(np.float64(X).reshape(len(X), shape.n_layers, -1), "proj1", range(1, 3 * q, 3), q)
    tie = softmax(arrays["alpha"].reshape(-1, shape.proj_dim), axis=0)
    z = layers((g * tie).sum(1), "proj2", range(1, 3 * q, 3), q)
    return layers(z, "head", range(0, 7, 3), 2)[:, 0], z, g


# ------------------------------------------------------------------ any size


@given(
    st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(1, 3), st.integers(1, 9)
)
def test_network__equals_numpy(n: int, width: int, d: int, q: int, n_rows: int) -> None:
    shape = RINEShape(n, width, d, q)
    weights = recipe(shape)
    X = np.random.default_rng(0).normal(size=(n_rows, n * width))
    expected = in_numpy(shape, weights, X)
    for found, wanted in zip(evaluate(network_from(shape, weights), X), expected, strict=False):
        assert_allclose(found, wanted, rtol=PUBLISHED, atol=PUBLISHED)


def test_network__has_the_weights_its_shape_names() -> None:
    for shape in (TINY, RINEShape(3, 5, 7, 1, use_tie=False), RINEShape(3, 5, 7, 4)):
        state = RINENetwork(shape).state_dict()
        assert [(w.parameter, w.shape) for w in shape.weights()] == [
            (name, tuple(value.shape)) for name, value in state.items()
        ]


@pytest.mark.parametrize(
    ("nproj", "proj_dim", "n_weights"),
    [(4, 1024, 10_521_601), (2, 1024, 6_323_201), (4, 128, 283_009), (1, 256, 466_177)],
)
def test_network__has_as_many_weights_as_published(
    nproj: int, proj_dim: int, n_weights: int
) -> None:
    with torch.device("meta"):
        network = RINENetwork(RINEShape(24, 1024, proj_dim, nproj))
    assert sum(value.numel() for value in network.parameters()) == n_weights


def test_network__starts_with_the_importance_asked_for() -> None:
    normal = RINENetwork(RINEShape(24, 2, proj_dim=100, nproj=1)).encoder.tie_logits
    zeros = RINENetwork(TINY, tie_init="zeros").encoder.tie_logits
    logits = normal.detach().numpy()
    assert 0.9 < logits.std() < 1.1
    assert abs(logits.mean()) < 0.1
    assert not zeros.any()


def test_network__drops_out_where_published() -> None:
    network = RINENetwork(TINY)
    hidden = ["Linear", "ReLU", "Dropout"]
    expected = {"q1": ["Dropout", *hidden * 2], "q2": ["Dropout", *hidden * 2]}
    for name, kinds in expected.items():
        steps = getattr(network.encoder, name)
        assert [type(step).__name__ for step in steps] == kinds
    assert [type(step).__name__ for step in network.head] == [*hidden * 2, "Linear"]


def test_network__drops_out_in_training_only(vectors: Arrays) -> None:
    network = network_from(TINY, recipe(TINY))
    X = torch.tensor(vectors["tiny_X"]).flatten(1)
    assert torch.equal(network(X)[0], network(X)[0])
    network.train()
    assert not torch.equal(network(X)[0], network(X)[0])


def test_evaluate__in_small_chunks_equals_at_once(
    vectors: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, X = network_from(TINY, recipe(TINY)), vectors["tiny_X"].reshape(10, -1)
    expected = evaluate(network, X)
    monkeypatch.setattr("heads.rine.network.CHUNK_BYTES", 3 * X[0].nbytes)
    seen = []
    network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    for found, wanted in zip(evaluate(network, X), expected, strict=True):
        assert_near(found, wanted)
    assert seen == [3, 3, 3, 1]


# ------------------------------------------------------------------ published, small


def test_tiny__outputs_are_as_published(vectors: Arrays) -> None:
    weights = {k.removeprefix("tiny_w0/"): v for k, v in vectors.items() if "_w0/" in k}
    for name, values in recipe(TINY).items():
        assert_near(values, weights[name].reshape(values.shape), 1e-7)
    logits, z = evaluate(network_from(TINY, weights), vectors["tiny_X"].reshape(10, -1))
    assert_near(logits, vectors["tiny_logit"])
    assert_near(z, vectors["tiny_z"])


@pytest.mark.parametrize(
    ("name", "switch"), [("alpha", "use_tie"), ("intermediate", "use_intermediate")]
)
def test_tiny__ablations_are_as_published(vectors: Arrays, name: str, switch: str) -> None:
    shape = RINEShape(6, 32, 16, 2, **{switch: False})
    weights = recipe(TINY) | {"alpha": np.zeros((shape.n_used, 16), np.float32)}
    logits, z = evaluate(network_from(shape, weights), vectors["tiny_X"].reshape(10, -1))
    assert_near(logits, vectors[f"tiny_wo_{name}_logit"])
    assert_near(z, vectors[f"tiny_wo_{name}_z"])


# ------------------------------------------------------------------ published, full size


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("4class", RINEShape(24, 1024, 1024, 2)),
        ("2class", RINEShape(24, 1024, 128, 4)),
        ("q1_256", RINEShape(24, 1024, 256, 1)),
        ("B32_2_512", RINEShape(12, 768, 512, 2)),
        ("1class_ldm", RINEShape(24, 1024, 1024, 4)),
    ],
)
def test_architecture__is_as_published(all_vectors: Arrays, name: str, shape: RINEShape) -> None:
    keys = [
        f"{w.published}:{(1, *w.shape) if w.published == 'alpha' else w.shape}"
        for w in shape.weights()
    ]
    assert keys == all_vectors.get(f"arch_{name}_keys", np.array(keys)).tolist()
    X = np.random.RandomState(0).standard_normal((8, shape.n_layers, shape.width))
    X = X.astype(np.float32).reshape(8, -1)
    weights = recipe(shape)
    logits, z = evaluate(network_from(shape, weights), X)
    in_double = in_numpy(shape, weights, X)
    assert_near(logits, all_vectors.get(f"arch_{name}_logit", in_double[0]))
    assert_near(z, all_vectors.get(f"arch_{name}_z", in_double[1]))


@pytest.fixture(scope="module")
def published_head(shared: Callable[[str], Path]) -> RINEHead:
    return RINEHead.from_checkpoint(shared("weights/rine_model_2class_trainable.pth"), device="cpu")


def test_published_head__scores_are_as_recorded(
    published_head: RINEHead, all_vectors: Arrays
) -> None:
    X = all_vectors["X_L14"].reshape(8, -1)
    assert_near(published_head.decision_function(X), all_vectors["ckpt2_logit"])
    assert_near(published_head.transform(X), all_vectors["ckpt2_z"])
    half = X.astype(np.float16)
    assert_near(published_head.decision_function(half), all_vectors["ckpt2_logit_f16in"])
    assert_near(published_head.transform(half), all_vectors["ckpt2_z_f16in"])
    expected = (all_vectors["ckpt2_logit"][:, 0] > 0).astype(int)
    assert published_head.predict(X).tolist() == expected.tolist()


def test_published_head__steps_are_as_recorded(
    published_head: RINEHead, all_vectors: Arrays
) -> None:
    shape = RINEShape(24, 1024, 128, 4)
    weights = {w.published: getattr(published_head, w.attribute) for w in shape.weights()}
    encoder = network_from(shape, weights).encoder
    g = encoder.q1(torch.tensor(all_vectors["X_L14"])).detach().numpy()
    assert_near(g, all_vectors["ckpt2_g"])
    tie = published_head.importance(per_feature=True)
    assert_near(tie, all_vectors["ckpt2_tie"])
    assert_near((g * tie).sum(1), all_vectors["ckpt2_pooled"])


def test_published_head__ten_crops_are_pooled_as_recorded(
    published_head: RINEHead, all_vectors: Arrays
) -> None:
    first, shift = (np.random.RandomState(s).standard_normal for s in (1, 2))
    gain = np.linspace(0.2, 3, 24, dtype=np.float32)[None, :, None]
    X = first((8, 24, 1024)).astype(np.float32) * gain
    X += shift((1, 24, 1024)).astype(np.float32)
    logits = published_head.decision_function(X.reshape(8, -1))
    crops = [pd.DataFrame({"sample_id": ["image"], "score": [logit]}) for logit in logits]
    pooled = pool_views(crops)
    assert_allclose(pooled["probability"], all_vectors["tencrop_ref"], rtol=PUBLISHED)
    assert_allclose(pooled["probability"], [expit(np.float64(logits).mean())], rtol=1e-12)


def test_published_head__importance_is_hardly_more_than_its_seed(published_head: RINEHead) -> None:
    weights = published_head.importance()
    assert weights.sum() == pytest.approx(1)
    assert 0.034 < weights.min() < 1 / 24 < weights.max() < 0.051
