"""Published RINE files: what loads, what is refused, and that nothing in them is executed."""

import contextlib
import io
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import heads
from featstore.errors import FingerprintError
from featstore.simulate import simulate_store
from heads.evaluation import score
from heads.origins import require_same_features
from heads.persistence import HeadFileError
from heads.rine.checkpoint import read_checkpoint
from heads.rine.head import RINEHead
from heads.rine.weights import RINEShape

SMALL = RINEShape(3, 16, proj_dim=4, nproj=2)

Change = Callable[[dict[str, Any]], Any]


def tensors(shape: RINEShape, seed: int = 0) -> dict[str, Any]:
    """Return random weights by published name."""
    rng = np.random.default_rng(seed)
    state = {}
    for weight in shape.weights():
        sizes = (1, *weight.shape) if weight.published == "alpha" else weight.shape
        state[weight.published] = torch.tensor(rng.normal(size=sizes), dtype=torch.float32)
    return state


def file_of(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def read_bytes(data: bytes) -> tuple[RINEShape, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pth"
        path.write_bytes(data)
        return read_checkpoint(path)


def repacked(data: bytes, compression: int, changes: dict[str, bytes]) -> bytes:
    """Return an archive packed anew, with some parts replaced."""
    buffer = io.BytesIO()
    old = zipfile.ZipFile(io.BytesIO(data))
    with old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, changes.get(Path(name).name, old.read(name)))
    return buffer.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.pth"
    path.write_bytes(file_of(tensors(SMALL)))
    return path


# ------------------------------------------------------------------ what loads


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 7), st.sampled_from([1, 2, 4]))
def test_read_checkpoint__infers_all_sizes(n: int, width: int, d: int, q: int) -> None:
    shape = RINEShape(n, width, d, q)
    state = tensors(shape)
    found, weights = read_bytes(file_of(state))
    assert found == shape
    assert list(weights) == [weight.attribute for weight in shape.weights()]
    for weight in shape.weights():
        expected = state[weight.published].numpy().reshape(weight.shape)
        assert_array_equal(weights[weight.attribute], expected)


def test_from_checkpoint__is_a_fitted_head(path: Path, tmp_path: Path) -> None:
    head = RINEHead.from_checkpoint(str(path), device="cpu")
    assert (head.n_layers, head.proj_dim, head.nproj, head.n_features_in_) == (3, 4, 2, 48)
    head.check_learned()
    X = np.random.default_rng(0).normal(size=(5, 48))
    assert head.predict(X).tolist() == (head.decision_function(X) > 0).astype(int).tolist()


def test_from_checkpoint__takes_tensors_that_ask_for_a_gradient(path: Path) -> None:
    expected = RINEHead.from_checkpoint(path).tie_logits_
    state = {name: value.requires_grad_() for name, value in tensors(SMALL).items()}
    path.write_bytes(file_of(state))
    assert_array_equal(RINEHead.from_checkpoint(path).tie_logits_, expected)


def test_from_checkpoint__takes_half_precision(path: Path) -> None:
    expected = RINEHead.from_checkpoint(path).tie_logits_.astype(np.float16)
    path.write_bytes(file_of({name: value.half() for name, value in tensors(SMALL).items()}))
    assert_array_equal(RINEHead.from_checkpoint(path).tie_logits_, expected)


def test_from_checkpoint__reads_the_published_file(shared: Callable[[str], Path]) -> None:
    head = RINEHead.from_checkpoint(shared("weights/rine_model_2class_trainable.pth"))
    assert (head.n_layers, head.proj_dim, head.nproj) == (24, 128, 4)
    assert head.n_features_in_ == 24 * 1024
    assert "open_clip:ViT-L-14-quickgelu/openai" in head.origin_["remedy"]


# ------------------------------------------------------------------ which features


def test_from_checkpoint__refuses_a_store_without_its_taps(path: Path, tmp_path: Path) -> None:
    rows = simulate_store(tmp_path / "s.zarr", n_samples=10).select(split="test")
    text = (
        r"layers a head was trained on, \['ln_2.0', 'ln_2.1', 'ln_2.2'\], got \['block.0', "
        r"'block.1', 'block.2'\]; extract them with 'featstore extract .* --taps ln_2"
    )
    with pytest.raises(FingerprintError, match=text):
        score(RINEHead.from_checkpoint(path), rows)


@pytest.mark.parametrize("last", [2, 1])
def test_from_checkpoint__compares_layers_by_name_and_order(path: Path, last: int) -> None:
    names = ["ln_2.0", f"ln_2.{3 - last}", f"ln_2.{last}"]
    values = ("sample", "layer", "feature"), np.zeros((1, 3, 16))
    attrs = dict.fromkeys(("store", "features", "view", "fingerprint"), "any")
    rows = xr.Dataset({"cls": values}, coords={"layer": names}, attrs=attrs)
    origin = RINEHead.from_checkpoint(path).origin_
    if last == 2:
        require_same_features(origin, rows, "rows")
    else:
        with pytest.raises(FingerprintError, match="taps ln_2"):
            require_same_features(origin, rows, "rows")


def test_from_checkpoint__refuses_them_after_a_round_trip_too(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(heads.HEADS, "rine", RINEHead)
    head = RINEHead.from_checkpoint(path)
    heads.save(head, tmp_path / "head")
    again = heads.load(tmp_path / "head")
    assert again.origin_ == head.origin_
    X = np.random.default_rng(0).normal(size=(5, 48))
    assert_array_equal(again.decision_function(X), head.decision_function(X))


# ------------------------------------------------------------------ what is refused


def without(name: str) -> Change:
    return lambda state: {k: v for k, v in state.items() if k != name}


def with_(name: str, value: Any) -> Change:
    return lambda state: state | {name: value}


BLOCK = torch.ones(64, 64)

REFUSED: dict[str, tuple[Change, str]] = {
    "a list": (lambda state: list(state.values()), "must hold a dict of dense floating-point"),
    "numbers": (with_("alpha", 3.0), "must hold a dict of dense floating-point"),
    "packed numbers": (
        with_("alpha", torch.zeros(1, 3, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)),
        "must hold a dict of dense floating-point",
    ),
    "one part many times": (
        lambda state: state | dict.fromkeys((f"proj1.{k}.weight" for k in range(999)), BLOCK),
        "tensors of their own",
    ),
    "integers": (with_("alpha", torch.ones(1, 3, 4, dtype=torch.int64)), "floating-point"),
    "sparse": (with_("head.0.bias", torch.ones(4).to_sparse()), "must hold a dict of dense"),
    "huge on paper": (with_("alpha", torch.ones(1, 1, 1).expand(1, 10**6, 10**6)), "dense"),
    "nested": (lambda state: {"model": state}, "must hold a dict of dense"),
    "nothing": (lambda _: {}, "weights of a RINE head, 'alpha' with 3 dimensions"),
    "another model": (
        lambda _: {"fc.weight": torch.ones(1, 768), "fc.bias": torch.ones(1)},
        "'alpha' with 3 dimensions among them, got none, and the names fc.weight, fc.bias",
    ),
    "empty": (with_("alpha", torch.ones(1, 0, 4)), r"'alpha' .* got \(1, 0, 4\)"),
    "no first layer": (without("proj1.1.weight"), "'proj1.1.weight' with 2 dimensions"),
    "no bias": (without("head.6.bias"), r"1 missing \(head.6.bias\)"),
    "too much": (with_("proj3.1.bias", torch.ones(4)), r"1 unexpected \(proj3.1.bias\)"),
    "odd name": (with_("x", torch.ones(1)), r"1 unexpected \(x\)"),
    "other shape": (
        with_("proj2.4.weight", torch.ones(4, 5)),
        r"1 of another shape \(proj2.4.weight \(4, 5\) instead of \(4, 4\)\)",
    ),
    "not finite": (with_("head.3.bias", torch.full((4,), torch.nan)), r"1 not finite \(head.3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_read_checkpoint__says_what_is_wrong(path: Path, case: str) -> None:
    change, text = REFUSED[case]
    path.write_bytes(file_of(change(tensors(SMALL))))
    with pytest.raises(HeadFileError, match=text) as caught:
        read_checkpoint(path)
    assert "model.pth" in str(caught.value)


class Hostile:
    """Unpickled, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "executed")


@pytest.mark.parametrize("kind", ["archive", "pickle", "in a torch file", "as a key"])
def test_read_checkpoint__executes_nothing(path: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    hostile = Hostile(target)
    contents = {
        "archive": lambda: repacked(
            path.read_bytes(), zipfile.ZIP_STORED, {"data.pkl": pickle.dumps(hostile, protocol=2)}
        ),
        "pickle": lambda: pickle.dumps(hostile),
        "in a torch file": lambda: file_of(tensors(SMALL) | {"alpha": hostile}),
        "as a key": lambda: file_of(
            tensors(SMALL) | {"head.0.weight = __import__('os').system('true')": torch.ones(1)}
        ),
    }
    path.write_bytes(contents[kind]())
    with pytest.raises(HeadFileError, match=r"damaged, or would run code|unexpected"):
        read_checkpoint(path)
    assert not target.exists()


def legacy(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "a page": lambda data: b"<html>404</html>",
    "half": lambda data: data[: len(data) // 2],
    "one byte less": lambda data: data[:-1],
    "no beginning": lambda data: data[1:],
    "packed": lambda data: repacked(data, zipfile.ZIP_DEFLATED, {}),
    "no pickle": lambda data: repacked(data, zipfile.ZIP_STORED, {"data.pkl": b""}),
    "short": lambda data: repacked(data, zipfile.ZIP_STORED, {"0": b"short"}),
    "before torch 1.6": lambda data: legacy(tensors(SMALL)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_read_checkpoint__refuses_damaged_files(path: Path, damage: str) -> None:
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(HeadFileError, match="must be a whole file of plain tensors"):
        read_checkpoint(path)


def test_read_checkpoint__refuses_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(HeadFileError, match="No such file"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(HeadFileError, match="directory"):
        read_checkpoint(tmp_path)


@given(st.data())
def test_read_checkpoint__of_a_changed_file_is_refused_or_equal(data: st.DataObject) -> None:
    content = bytearray(file_of(tensors(SMALL)))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, weights = read_bytes(bytes(content))
    except HeadFileError:
        return
    expected = {w.attribute: tensors(SMALL)[w.published] for w in SMALL.weights()}
    for name, values in weights.items():
        assert_array_equal(values, expected[name].numpy().reshape(values.shape))


@given(st.data())
def test_read_checkpoint__of_any_pickle_is_refused_or_a_head(data: st.DataObject) -> None:
    content = file_of(tensors(SMALL))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        pickled = bytearray(archive.read(name))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(pickled) - 1))
        pickled[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    changes = {"data.pkl": bytes(pickled)}
    with contextlib.suppress(HeadFileError):
        read_bytes(repacked(content, zipfile.ZIP_STORED, changes))
