"""Adapters: where they begin, and what their options may be."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from heads.contrastive.adapters import ADAPTERS, OPTIONS, build_adapter, load_adapter

ROUNDING = 1e-5
"""Of products of float32 orthonormal rows."""


def rows(n_features: int) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(0).normal(size=(6, n_features)).astype(np.float32)
    )


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_adapter__begins_as_the_identity(kind: str) -> None:
    assert_array_equal(build_adapter(kind, [3, 4], 7)(rows(7)).detach(), rows(7))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize(("n_features", "n_components"), [(9, 4), (4, 9)])
def test_adapter__of_another_size_begins_orthonormal(
    kind: str, n_features: int, n_components: int
) -> None:
    module = build_adapter(kind, [n_features], n_components).double()
    weight = module(torch.eye(n_features, dtype=torch.float64)).detach().numpy()
    gram = weight @ weight.T if n_components > n_features else weight.T @ weight
    assert_allclose(gram, np.eye(4), atol=ROUNDING)


def test_mlp_adapter__learns_what_no_linear_map_does() -> None:
    X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    wanted = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    torch.manual_seed(0)
    module = build_adapter("mlp", [2], 1, {"hidden": 16})
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        loss = (module(X) - wanted).square().mean()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 1e-3  # the best linear map has 0.25


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("linear", {"bias": False}),
        ("mlp", {"hidden": 3}),
        ("rine", {"nproj": 3, "dropout": 0.1, "tie_init": "zeros"}),
        ("rine", {"use_tie": False}),
    ],
)
def test_load_adapter__gives_back_what_was_learned(kind: str, options: dict[str, Any]) -> None:
    module = build_adapter(kind, [4, 4], 5, options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    loaded = load_adapter(kind, [4, 4], 5, options, weights)
    with torch.inference_mode():
        assert_array_equal(loaded(rows(8)), module.eval()(rows(8)))


def test_load_adapter__refuses_weights_of_another_shape() -> None:
    weights = {"weight": np.zeros((3, 4), np.float32), "bias": np.zeros(2, np.float32)}
    with pytest.raises(ValueError, match=r"'bias': \(3,\)\}, got \{'weight': \(3, 4\), 'bias'"):
        load_adapter("linear", [4], 3, None, weights)


def test_build_adapter__leaves_layers_of_rine_apart() -> None:
    module = build_adapter("rine", [4, 4, 4], 5, {"nproj": 1, "dropout": 0.0})
    x = rows(12).view(6, 3, 4)
    with torch.no_grad():
        expected = module(x.flatten(1))
        found = module(x[:, [2, 1, 0]].flatten(1))
    assert expected.shape == (6, 5)
    assert not torch.allclose(found, expected)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("linear", {"hidden": 3}, r"must be among \['bias'\], got 'hidden'"),
        ("mlp", {"hiden": 3}, r"got 'hiden' \(did you mean 'hidden'\?\)"),
        ("mlp", {"hidden": 0}, "'hidden' parameter of adapter='mlp' must be"),
        ("rine", {"dropout": 1.0}, "'dropout' parameter of adapter='rine' must be"),
        ("rine", {"nproj": 10**9}, "'nproj' parameter of adapter='rine' must be"),
        ("rine", {3: 3}, "got 3"),
    ],
)
def test_build_adapter__refuses_options(kind: str, options: dict[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_adapter(kind, [4], 4, options)


def test_options__are_described_for_every_adapter() -> None:
    assert OPTIONS.keys() == ADAPTERS.keys()
