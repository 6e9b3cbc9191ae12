"""Reading checkpoints, exactly and without running their code; random weights; the hash."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from featstore.backbones.openclip import OpenCLIPBackbone
from featstore.backbones.weights import (
    find_weights,
    load_exactly,
    read_checkpoint,
    seeded,
    weights_sha256,
)
from featstore.errors import ConfigError

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


class RunsCode:
    def __reduce__(self) -> Any:
        return print, ("a checkpoint ran code",)


def test_find_weights__random_has_a_seed() -> None:
    assert find_weights("random-12", [], "m").seed == 12
    assert find_weights("random", [], "m") == find_weights("random-0", [], "m")


def test_find_weights__existing_file(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.touch()
    source = find_weights(str(path), ["a"], "m")
    assert (source.kind, source.label, source.path) == ("file", "w.pt", path)


def test_find_weights__missing_file_is_not_taken_for_a_tag() -> None:
    with pytest.raises(ConfigError, match=r"must be an existing file, got 'gone/w\.pt'"):
        find_weights("gone/w.pt", ["a"], "m")


def test_find_weights__empty_takes_the_default_or_the_only_tag() -> None:
    assert find_weights("", ["a", "b"], "m", "b").label == "b"
    assert find_weights("", ["a"], "m").label == "a"
    with pytest.raises(ConfigError, match=r"must be named, as 'm/<weights>'.*\['a', 'b'\]"):
        find_weights("", ["b", "a"], "m")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.bin"])
def test_read_checkpoint__every_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_file(STATE, path) if path.suffix == ".safetensors" else torch.save(STATE, path)
    found = read_checkpoint(path)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_read_checkpoint__training_checkpoint(tmp_path: Path, wrapper: str) -> None:
    wrapped = {f"module._orig_mod.{key}": value for key, value in STATE.items()}
    torch.save({"epoch": 3, wrapper: wrapped}, tmp_path / "w.pt")
    assert read_checkpoint(tmp_path / "w.pt").keys() == STATE.keys()


def test_read_checkpoint__never_runs_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"weight": RunsCode()}, tmp_path / "w.pt")
    (tmp_path / "w.bin").write_bytes(pickle.dumps(RunsCode(), protocol=2))
    for name in ("w.pt", "w.bin"):
        with pytest.raises(ConfigError, match="cannot be read as plain tensors"):
            read_checkpoint(tmp_path / name)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.npz", b"", "must be one of"),
        ("w.pt", b"", "cannot be read"),
        ("w.safetensors", b"nonsense", "cannot be read"),
    ],
)
def test_read_checkpoint__unreadable_files(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_checkpoint(tmp_path / name)


def test_read_checkpoint__must_hold_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="must hold a state dict"):
        read_checkpoint(tmp_path / "w.pt")


def test_load_exactly__copies_every_tensor() -> None:
    module = nn.Linear(3, 2)
    load_exactly(module, STATE, Path("w.pt"))
    assert torch.equal(module.weight, STATE["weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": None}, r"1 missing \(bias\)"),
        ({"gain": torch.ones(2)}, r"1 unexpected \(gain\)"),
        ({"bias": torch.ones(3)}, r"1 of another shape \(bias \(3,\) instead of \(2,\)\)"),
        ({f"x{i}": torch.ones(1) for i in range(7)}, r"7 unexpected \(x0, x1, x2, x3, x4, …\)"),
    ],
)
def test_load_exactly__lists_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    state = {key: value for key, value in {**STATE, **changes}.items() if value is not None}
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    with pytest.raises(ConfigError, match=message):
        load_exactly(module, state, Path("w.pt"))
    assert torch.equal(module.weight, before)


def test_random_weights__depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = OpenCLIPBackbone("ViT-S-32", "random-3").describe()["weights_sha256"]
    torch.manual_seed(2)
    assert OpenCLIPBackbone("ViT-S-32", "random-3").describe()["weights_sha256"] == first
    assert OpenCLIPBackbone("ViT-S-32", "random-4").describe()["weights_sha256"] != first


def test_seeded__leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    with seeded(3):
        torch.rand(4)
    assert torch.equal(torch.random.get_rng_state(), before)
    with seeded(3):
        first = torch.rand(4)
    with seeded(3):
        assert torch.equal(torch.rand(4), first)


def test_weights_sha256__sees_names_dtypes_shapes_and_bytes() -> None:
    def hashed(**tensors: torch.Tensor) -> str:
        module = nn.Module()
        for name, value in tensors.items():
            module.register_buffer(name, value)
        return weights_sha256(module)

    base = hashed(a=torch.zeros(4), b=torch.tensor(1))
    variants = [
        hashed(a=torch.zeros(4), c=torch.tensor(1)),
        hashed(a=torch.zeros(4, dtype=torch.int32), b=torch.tensor(1)),
        hashed(a=torch.zeros(2, 2), b=torch.tensor(1)),
        hashed(a=torch.tensor([0.0, 0.0, 0.0, -0.0]), b=torch.tensor(1)),
    ]
    assert hashed(b=torch.tensor(1), a=torch.zeros(4)) == base
    assert len({base, *variants}) == 5
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert hashed(a=torch.from_numpy(transposed)) == hashed(
        a=torch.from_numpy(transposed.copy(order="C"))
    )
