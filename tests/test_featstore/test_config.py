"""YAML files as dataclasses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from featstore.config import apply_overrides, from_mapping, load_config, read_yaml, to_mapping
from featstore.errors import ConfigError


@dataclass(frozen=True)
class Params:
    C: float = 1.0
    learning_rate: float = 1e-3
    sigma: float | Literal["median"] = "median"

    def __post_init__(self) -> None:
        if self.C <= 0:
            raise ValueError(f"'C' must be positive, got {self.C!r}.")


@dataclass(frozen=True)
class Head:
    name: Literal["logistic", "hsic"]
    params: Params = field(default_factory=Params)


@dataclass(frozen=True)
class Run:
    head: Head
    store: Path
    seeds: tuple[int, ...] = (0,)
    layers: list[str] = field(default_factory=list)
    size: tuple[int, str] = (1, "a")
    limit: int | None = None
    verbose: bool = False
    extra: dict[str, float] = field(default_factory=dict)
    grid: Mapping[str, Sequence[float]] = field(default_factory=dict)
    second: Head | None = None
    anything: Any = None


MINIMAL: dict[str, Any] = {"head": {"name": "hsic"}, "store": "a.zarr"}


def refused(mapping: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Run, mapping, "run.yaml")
    return str(caught.value)


def parsed(text: str, **more: Any) -> Run:
    return from_mapping(Run, {**MINIMAL, **yaml.safe_load(text), **more}, "run.yaml")


def test_from_mapping__nested_values_and_defaults() -> None:
    run = from_mapping(Run, {"head": {"name": "hsic", "params": {"C": 3}}, "store": "s"}, "x")
    assert run == Run(Head("hsic", Params(C=3.0)), Path("s"))
    assert isinstance(run.head.params.C, float)


def test_from_mapping__unknown_key_names_the_close_one() -> None:
    mapping = {"head": {"name": "hsic", "params": {"learning_rte": 1}}, "store": "s"}
    expected = (
        "run.yaml: unknown key 'learning_rte' in 'head.params'; did you mean 'learning_rate'?"
    )
    assert refused(mapping) == expected


def test_from_mapping__unknown_key_far_from_all() -> None:
    assert "unknown key 'zzz'; choose from ['anything'" in refused({**MINIMAL, "zzz": 1})


def test_from_mapping__missing_key() -> None:
    assert refused({"store": "s"}) == "run.yaml: key 'head' (a mapping) is missing."
    message = refused({"store": "s", "head": {}})
    assert message == "run.yaml: key 'name' ('logistic' or 'hsic') is missing in 'head'."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("verbose: 1", "'verbose' must be bool, got int 1."),
        ("verbose: 'yes'", "'verbose' must be bool, got str 'yes'."),
        ("limit: true", "'limit' must be int, got bool True."),
        ("limit: 1.5", "'limit' must be int, got float 1.5."),
        ("limit: '3'", "'limit' must be int, got str '3'."),
        ("layers: [yes]", "'layers.0' must be str, got bool True; write it in quotes."),
        ("layers: [2025-01-01]", "'layers.0' must be str, got date"),
        ("layers: block.1", "'layers' must be a list of str, got str 'block.1'."),
        ("store: 3", "'store' must be a path, got int 3; write it in quotes."),
        ("store:", "'store' must be a path, got null."),
        ("seeds: [0, a]", "'seeds.1' must be int, got str 'a'."),
        ("size: [1]", "'size' must have 2 items, got 1: [1]."),
        ("extra: {a: b}", "'extra.a' must be float, got str 'b'."),
        ("extra: [1]", "'extra' must be a mapping, got list [1]."),
        ("extra: {1: 2}", "'extra.1' must be str, got int 1; write it in quotes."),
        ("grid: {a: 1}", "'grid.a' must be a list of float, got int 1."),
        ("head: hsic", "'head' must be a mapping, got str 'hsic'."),
        ("head: {name: svm}", "'head.name' must be 'logistic' or 'hsic', got str 'svm'."),
        ("second: {name: hsic, parms: {}}", "unknown key 'parms' in 'second'"),
        ("yes: 1", "unknown key True"),
        (
            "head: {name: hsic, params: {sigma: mean}}",
            "'head.params.sigma' must be float or 'median', got str 'mean'.",
        ),
        (
            "head: {name: hsic, params: {C: -1}}",
            "in 'head.params': 'C' must be positive, got -1.0.",
        ),
    ],
)
def test_from_mapping__wrong_values_are_named(text: str, message: str) -> None:
    assert refused({**MINIMAL, **yaml.safe_load(text)}).startswith(f"run.yaml: {message}")


@pytest.mark.parametrize("text", ["1e-4", "'1e-4'", "1.0e-4", "0.0001", "1E-4"])
def test_from_mapping__floats_that_yaml_reads_as_text(text: str) -> None:
    run = parsed(f"extra: {{a: {text}}}")
    assert run.extra == {"a": 1e-4}


def test_from_mapping__union_takes_the_first_that_fits() -> None:
    for text, value in (("1e-2", 0.01), ("median", "median"), ("3", 3.0)):
        run = parsed(f"head: {{name: hsic, params: {{sigma: {text}}}}}")
        assert run.head.params.sigma == value


def test_from_mapping__sequences_take_their_annotated_type() -> None:
    run = parsed("seeds: [1, 2]\nlayers: [a]\nsize: [2, b]\ngrid: {x: [1, 1e-1]}")
    assert (run.seeds, run.layers, run.size) == ((1, 2), ["a"], (2, "b"))
    assert run.grid == {"x": (1.0, 0.1)}


def test_from_mapping__optional_takes_null() -> None:
    assert parsed("limit: null\nsecond: null").limit is None


def test_from_mapping__any_is_left_alone() -> None:
    assert parsed("anything: [1, {a: b}]").anything == [1, {"a": "b"}]


text = st.text(
    st.characters(categories=["L", "N", "P", "S"])
)  # what PyYAML itself writes faithfully
runs = st.builds(
    Run,
    head=st.builds(
        Head,
        name=st.sampled_from(["logistic", "hsic"]),
        params=st.builds(
            Params,
            C=st.floats(1e-9, 1e9),
            learning_rate=st.floats(allow_nan=False),
            sigma=st.floats(allow_nan=False) | st.just("median"),
        ),
    ),
    store=st.sampled_from([Path("a.zarr"), Path("/b/c")]),
    seeds=st.lists(st.integers()).map(tuple),
    layers=st.lists(text),
    size=st.tuples(st.integers(), text),
    limit=st.none() | st.integers(),
    verbose=st.booleans(),
    extra=st.dictionaries(text, st.floats(allow_nan=False)),
    grid=st.dictionaries(text, st.lists(st.floats(allow_nan=False)).map(tuple)),
    second=st.none() | st.builds(Head, name=st.just("hsic"), params=st.builds(Params)),
    anything=st.none() | text | st.lists(st.integers()),
)


@given(runs)
def test_to_mapping__survives_yaml(run: Run) -> None:
    written = yaml.safe_dump(to_mapping(run))
    assert from_mapping(Run, yaml.safe_load(written), "x") == run


def test_load_config__file_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("head: {name: hsic}\nstore: s\n", encoding="utf-8")
    run = load_config(path, Run, ["head.params.C=10", "store=t"])
    assert run == Run(Head("hsic", Params(C=10.0)), Path("t"))


def test_load_config__message_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("stores: s\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{path}: unknown key 'stores'; did you mean 'store'"):
        load_config(path, Run)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "key 'a' occurs again in line 3"),
        ("h:\n  - {x: 1, x: 2}\n", "key 'x' occurs again in line 2"),
        ("a: [1\n", "must be valid YAML"),
        ("- a\n", "must be a mapping ('key: value' lines), got list ['a']"),
        ("a: !!python/object:os.system x\n", "must be valid YAML"),
    ],
)
def test_read_yaml__refuses(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "c.yaml")
    assert message in str(caught.value)


def test_read_yaml__anchors_and_merges_are_no_repeats(tmp_path: Path) -> None:
    text = "base: &b {x: 1}\nmore: &m\n  <<: *b\n  x: 2\nlast:\n  <<: *m\n  x: 3\n"
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    assert read_yaml(tmp_path / "c.yaml")["last"] == {"x": 3}


def test_read_yaml__empty_and_absent_files(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    assert read_yaml(tmp_path / "empty.yaml") == {}
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "absent.yaml")


def test_apply_overrides__leaves_the_original() -> None:
    original = {"a": {"b": 1}}
    assert apply_overrides(original, ["a.b=2", "a.c.d=[x, 1]", "e="]) == {
        "a": {"b": 2, "c": {"d": ["x", 1]}},
        "e": None,
    }
    assert original == {"a": {"b": 1}}


def test_apply_overrides__value_with_equals_sign() -> None:
    assert apply_overrides({}, ["a=b=c"]) == {"a": "b=c"}


@pytest.mark.parametrize("override", ["a", "=1", "a..b=1", ".=1", "x.y=1", "a=[1"])
def test_apply_overrides__malformed(override: str) -> None:
    with pytest.raises(ConfigError, match=r"override"):
        apply_overrides({"x": 3}, [override])
