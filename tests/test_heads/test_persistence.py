"""Saved heads: damage and hostility end in a sentence, and nothing in a file is executed."""

import hashlib
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from support.checks import two_classes

from heads import HEADS, HeadFileError, LogisticProbe, load, save


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A saved head."""
    save(LogisticProbe(C=0.3).fit(*two_classes()), tmp_path / "head", origin={"store": "ab12"})
    return tmp_path / "head"


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the record and sign it again, as someone who knows the format would."""
    record = json.loads((folder / "head.json").read_text())
    change(record)
    record.pop("checksum", None)
    digest = hashlib.blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=32)
    digest.update((folder / "head.safetensors").read_bytes())
    (folder / "head.json").write_text(json.dumps(record | {"checksum": digest.hexdigest()}))


def edit_arrays(folder: Path, **changes: Any) -> None:
    """Change arrays (None removes one) and sign the result."""
    arrays = {**load_file(folder / "head.safetensors"), **changes}
    save_file({k: v for k, v in arrays.items() if v is not None}, folder / "head.safetensors")
    edit(folder, lambda record: None)


def describe_arrays(folder: Path) -> None:
    """Make the record agree with the arrays."""
    arrays = load_file(folder / "head.safetensors")
    described = {k: {"shape": list(v.shape), "dtype": str(v.dtype)} for k, v in arrays.items()}
    edit(folder, lambda record: record.update(arrays=described))


def test_save__writes_two_files_that_other_tools_read(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["head.json", "head.safetensors"]
    record = json.loads((saved / "head.json").read_text())
    assert record["head"] == "logistic_probe"
    assert record["parameters"]["C"] == 0.3
    assert record["learned"]["origin_"] == {"store": "ab12"}
    assert set(record["versions"]) == {"featstore", "numpy", "python", "scikit-learn"}
    assert load_file(saved / "head.safetensors")["coef_"].shape == (1, 5)


def test_save__keeps_the_origin_of_a_loaded_head(saved: Path) -> None:
    save(load(saved), saved.with_name("again"))
    assert load(saved.with_name("again")).origin_ == {"store": "ab12"}


def test_save__refuses_to_replace_anything_unasked(saved: Path) -> None:
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        save(load(saved), saved)


def test_save__replaces_a_head_on_request_and_leaves_nothing_behind(saved: Path) -> None:
    save(LogisticProbe(C=7).fit(*two_classes()), saved, overwrite=True)
    assert load(saved).C == 7
    assert list(saved.parent.iterdir()) == [saved]
    assert len(list(saved.iterdir())) == 2


def test_save__never_replaces_what_is_not_a_head(saved: Path) -> None:
    (saved.parent / "notes").mkdir()
    with pytest.raises(FileExistsError, match="or hold a saved head"):
        save(load(saved), saved.parent / "notes", overwrite=True)


def test_save__that_fails_leaves_the_old_head(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head, rename = LogisticProbe(C=7).fit(*two_classes()), Path.rename

    def full_disk(self: Path, target: Path) -> Path:
        if (self / "head.json").exists() and target == saved and "replaced" not in self.name:
            raise OSError("no space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full_disk)
    with pytest.raises(OSError, match="no space"):
        save(head, saved, overwrite=True)
    assert load(saved).C == 0.3
    assert list(saved.parent.iterdir()) == [saved]


def test_save__refuses_other_classes_and_unfitted_heads(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=re.escape(f"must be one of {sorted(HEADS)}")):
        save(LogisticRegression(), tmp_path / "a")
    with pytest.raises(NotFittedError):
        save(LogisticProbe(), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_save__refuses_what_json_cannot_hold(tmp_path: Path) -> None:
    head = LogisticProbe().fit(*two_classes())
    with pytest.raises(TypeError, match="'origin_' must be made of numbers, texts"):
        save(head, tmp_path / "a", origin={"store": object()})
    with pytest.raises(ValueError, match="'layers' a list of names, got"):
        save(head, tmp_path / "a", origin={"layers": "block.0"})
    assert list(tmp_path.iterdir()) == []


def test_load__says_what_is_missing(saved: Path) -> None:
    (saved / "head.safetensors").unlink()
    with pytest.raises(HeadFileError, match=r"'head.safetensors' is missing"):
        load(saved)
    with pytest.raises(HeadFileError, match=r"nowhere.*'head.json' is missing"):
        load(saved / "nowhere")


@pytest.mark.parametrize("name", ["head.json", "head.safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_load__refuses_truncated_files(saved: Path, name: str, kept: float) -> None:
    data = (saved / name).read_bytes()
    (saved / name).write_bytes(data[: int(kept * len(data))])
    with pytest.raises(HeadFileError, match=r"must be JSON|damaged or edited"):
        load(saved)


@given(data=st.data())
def test_load__refuses_any_flipped_bit(data: st.DataObject, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("flip") / "head"
    save(LogisticProbe().fit(*two_classes(12, 2)), folder)
    name = data.draw(st.sampled_from(["head.json", "head.safetensors"]))
    content = bytearray((folder / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / name).write_bytes(content)
    if name == "head.json" and json_equal(bytes(content), folder):
        return
    with pytest.raises(HeadFileError):
        load(folder)


def json_equal(content: bytes, folder: Path) -> bool:
    """Whether the flip fell on white space, so that the content is what it was."""
    save(LogisticProbe().fit(*two_classes(12, 2)), folder.with_name("same"))
    try:
        return bool(
            json.loads(content) == json.loads((folder.with_name("same") / "head.json").read_bytes())
        )
    except ValueError:
        return False


def test_load__runs_no_pickle(saved: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    for name in ("head.safetensors", "head.json"):
        (saved / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(HeadFileError):
            load(saved)
    assert not (tmp_path / "executed").exists()


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "newer format": (lambda r: r.update(format_version=2), "upgrade featstore"),
    "no version": (lambda r: r.pop("format_version"), "must be an object with the fields"),
    "extra field": (lambda r: r.update(code="print()"), "must be an object with the fields"),
    "misspelt class": (
        lambda r: r.update(head="logistic_prob"),
        r"unknown head 'logistic_prob' \(did you mean 'logistic_probe'\?\); choose from",
    ),
    "import string": (lambda r: r.update(head="os.system"), "unknown head 'os.system'"),
    "class of another type": (lambda r: r.update(head=["os"]), "unknown head"),
    "misspelt parameter": (
        lambda r: r["parameters"].update(fit_intercep=True),
        "unknown hyper-parameter 'fit_intercep' .did you mean 'fit_intercept'",
    ),
    "illegal parameter": (lambda r: r["parameters"].update(C=-1), "'C' parameter"),
    "private attribute": (lambda r: r["learned"].update(__class__=3), "named like 'coef_'"),
    "method": (lambda r: r["learned"].update(predict=3), "named like 'coef_'"),
    "parameters of another type": (lambda r: r.update(parameters=[]), "must be an object"),
    "wrong number of features": (
        lambda r: r["learned"].update(n_features_in_=4),
        r"'coef_' must be an array of shape \(1, 4\), got shape \(1, 5\)",
    ),
    "missing attribute": (
        lambda r: r["learned"].pop("n_features_in_"),
        "'n_features_in_' must be an int, got None",
    ),
    "array not described": (lambda r: r["arrays"].pop("coef_"), "array 'coef_' must be absent"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_load__says_what_is_wrong_in_the_record(saved: Path, case: str) -> None:
    change, message = HOSTILE[case]
    edit(saved, change)
    with pytest.raises(HeadFileError, match=message):
        load(saved)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"coef_": None}, r"array 'coef_' must be .*, got none"),
        ({"coef_": np.zeros((1, 6))}, r"array 'coef_' must be .*got .*\[1, 6\]"),
        ({"coef_": np.zeros((1, 5), np.float32)}, r"array 'coef_' must be .*got .*float32"),
        ({"more_": np.zeros(2)}, "array 'more_' must be absent"),
    ],
)
def test_load__says_which_array_is_not_as_described(
    saved: Path, arrays: dict[str, Any], message: str
) -> None:
    edit_arrays(saved, **arrays)
    with pytest.raises(HeadFileError, match=message):
        load(saved)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"coef_": None}, "'coef_' must be an array of shape"),
        ({"coef_": np.zeros((2, 5))}, r"shape \(1, 5\), got shape \(2, 5\)"),
        ({"coef_": np.full((1, 5), np.nan)}, "'coef_' must hold finite numbers"),
        ({"intercept_": np.array([np.inf])}, "'intercept_' must hold finite numbers"),
        ({"coef_": np.zeros((1, 5), np.int64)}, "'coef_' must hold finite numbers"),
        ({"classes_": np.arange(3)}, "'classes_' must be two sorted labels, got array"),
    ],
)
def test_load__says_which_array_makes_no_head(
    saved: Path, arrays: dict[str, Any], message: str
) -> None:
    edit_arrays(saved, **arrays)
    describe_arrays(saved)
    with pytest.raises(HeadFileError, match=message):
        load(saved)


def test_load__survives_deep_nesting(saved: Path) -> None:
    (saved / "head.json").write_text("[" * 100_000)
    with pytest.raises(HeadFileError, match="must be JSON"):
        load(saved)


def test_load__arrays_can_be_written_to(saved: Path) -> None:
    load(saved).coef_[0, 0] = 1


def test_load__keeps_names_of_features_and_dict_parameters(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    X, y = two_classes()
    frame = pd.DataFrame(X, columns=list("abcde"))
    head = LogisticProbe(class_weight={0: 1.0, 1: 2.0}).fit(frame, y)
    save(head, tmp_path / "head")
    loaded = load(tmp_path / "head")
    assert loaded.feature_names_in_.tolist() == list("abcde")
    assert loaded.class_weight == {0: 1.0, 1: 2.0}
    np.testing.assert_array_equal(loaded.predict_proba(frame), head.predict_proba(frame))
