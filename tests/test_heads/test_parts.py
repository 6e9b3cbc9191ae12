"""Heads within heads, and dicts of arrays: saved whole, and nothing in a file is believed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from support.checks import two_classes

from heads import HEADS, HeadFileError, LogisticProbe, load, save
from heads.contrastive.head import SCORERS, HierarchicalContrastiveHead
from heads.parts import NESTED, put_together, take_apart

Parts = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (HierarchicalContrastiveHead, *SCORERS.values()):
        if kind not in HEADS.values():
            monkeypatch.setitem(HEADS, kind.__name__, kind)


@pytest.fixture(scope="module")
def fitted() -> HierarchicalContrastiveHead:
    head = HierarchicalContrastiveHead(
        adapter="mlp", n_components=3, scoring="linear", max_iter=1, device="cpu",
        adapter_params={"hidden": 2},
    )  # fmt: skip
    return head.fit(*two_classes())


@pytest.fixture
def parts(fitted: HierarchicalContrastiveHead) -> Parts:
    """The parts of a fitted head as they are written."""
    fields, arrays = take_apart(fitted)
    copied: dict[str, Any] = json.loads(json.dumps(fields))
    return copied, dict(arrays)


def test_take_apart__names_arrays_by_their_path(parts: Parts) -> None:
    adapter = {"skip.weight", "skip.bias", "inner.weight", "inner.bias", "outer.weight"}
    assert set(parts[1]) == {
        *(f"adapter_/{name}" for name in adapter),
        *("scorer_/coef_", "scorer_/intercept_", "scorer_/classes_"),
        *("classes_", "history_"),
    }
    assert parts[0]["learned"]["scorer_"][NESTED]["head"] == "logistic_probe"


def test_save__keeps_the_head_within(fitted: HierarchicalContrastiveHead, tmp_path: Path) -> None:
    X, _ = two_classes()
    save(fitted, tmp_path / "head", origin={"layers": ["block.0"]})
    loaded = load(tmp_path / "head")
    assert_array_equal(loaded.decision_function(X), fitted.decision_function(X))
    assert_array_equal(loaded.transform(X), fitted.transform(X))
    assert type(loaded.scorer_) is LogisticProbe
    assert loaded.scorer_.get_params() == fitted.scorer_.get_params()
    assert not hasattr(loaded.scorer_, "origin_")


def scorer(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of the head within."""
    inner: dict[str, Any] = fields["learned"]["scorer_"][NESTED]
    return inner


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: scorer(fields).update(head="os.system"), "unknown head 'os.system'"),
        (lambda fields: scorer(fields).update(head=["x"]), "unknown head"),
        (lambda fields: scorer(fields)["parameters"].update(k=3), "unknown hyper-parameter 'k'"),
        (lambda fields: scorer(fields)["parameters"].update(C=-1), "'C' parameter"),
        (lambda fields: scorer(fields)["learned"].update(fit=3), "must be named like 'coef_'"),
        (lambda fields: scorer(fields)["learned"].update(classes_=[0, 1]), "'classes_' must be"),
        (lambda fields: scorer(fields).update(extra=1), "a nested head must have the fields"),
        (lambda fields: scorer(fields).update(learned=[]), "'learned' must be an object"),
        (lambda fields: fields["learned"].update(scorer_={NESTED: 3}), "a nested head must have"),
        (lambda fields: fields["learned"].update(scorer_=None), "'scorer_' must be a Logistic"),
        (lambda fields: fields["learned"].update(layers_=[4]), "whose sum is 5"),
        (lambda fields: fields["parameters"].update(scoring="knn"), "'scorer_' must be a KNN"),
        (lambda fields: fields["parameters"].update(n_components=10**9), "'scorer_' must have"),
        (lambda fields: fields["parameters"].update(adapter="rine"), "must be among"),
        (lambda fields: fields["learned"].update(origin_=5), "'origin_' must be a dict"),
        (lambda fields: fields["learned"].update(origin_={"layers": "a"}), "a list of names"),
        (lambda fields: fields["learned"].update(origin_={"layers": []}), "its 'layers' a list"),
    ],
)
def test_put_together__names_what_is_wrong(
    parts: Parts, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    change(parts[0])
    with pytest.raises(ValueError, match=message):
        put_together(*parts)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("adapter_", "'adapter_' must be one array or several, got both"),
        ("adapter_/more", "must have the shapes"),
        ("scorer_/coef_/a", "'coef_' must be one array or several, got both"),
        ("scorer_/__init__/", "must be named like 'coef_', got '__init__'"),
        ("../x_", r"must be named like 'coef_', got '\.\.'"),
        ("_decide_/a", "must be named like 'coef_', got '_decide_'"),
    ],
)
def test_put_together__refuses_arrays_that_belong_nowhere(
    parts: Parts, path: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        put_together(parts[0], {**parts[1], path: np.zeros(2, np.float32)})


@pytest.mark.parametrize("path", ["adapter_/skip.bias", "scorer_/coef_", "scorer_/classes_"])
def test_put_together__misses_every_array(parts: Parts, path: str) -> None:
    del parts[1][path]
    with pytest.raises(ValueError, match=path.split("/")[1]):
        put_together(*parts)


def test_load__of_heads_nested_without_end_is_an_error(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    nested = '{"learned":{"scorer_":{"__head__":' * 100_000
    (tmp_path / "head" / "head.json").write_text(nested)
    with pytest.raises(HeadFileError, match=r"must be JSON"):
        load(tmp_path / "head")


def test_take_apart__refuses_a_head_that_is_not_known(
    fitted: HierarchicalContrastiveHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(HEADS, "logistic_probe")
    with pytest.raises(TypeError, match="'scorer_' must be made of numbers"):
        take_apart(fitted)
