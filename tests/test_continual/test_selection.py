"""Every selection: what it answers, to what, and that it says what is wrong."""

import json
import tracemalloc
from inspect import signature

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from continual.selection import (
    LABELS_ONLY,
    SELECTIONS,
    centring,
    check_selection,
    choose,
    kernel,
    n_kept,
    select,
)
from continual.selection.centring import centred, squares_from_mean
from continual.selection.kernel import median_sigma
from featstore.errors import ConfigError

BY_REPRESENTATION = sorted(set(SELECTIONS) - LABELS_ONLY)
COPIES = 3  # as float32: rows of the class, centred rows, and less than one for vectors
COPIES_BY_HERDING = 4  # centred rows as float64
FLOAT32 = 1e-6  # of the largest, in sums of float32 products


def no_rng() -> np.random.Generator:
    return np.random.default_rng(0)


def blobs(n_samples: int, n_components: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_samples, n_components)) + 4 * (np.arange(n_samples) % 2)[:, None]


def test_herding__worked_example() -> None:
    Z = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [4, 4]], float)
    found = choose("herding", Z, np.zeros(5), 3, no_rng())
    assert found.rows.tolist() == [3, 1, 2]
    np.testing.assert_allclose(found.score, [0.282843, 0.728011, 0.754247], atol=1e-6)


@given(st.integers(0, 1000))
def test_herding__is_the_definition_step_by_step(seed: int) -> None:
    Z = np.random.default_rng(seed).normal(size=(20, 3)) + 10
    chosen: list[int] = []
    for k in range(1, 7):
        gaps = np.linalg.norm(Z.mean(0) - (Z + Z[chosen].sum(0)) / k, axis=1)
        gaps[chosen] = np.inf
        chosen.append(int(np.argmin(gaps)))
    assert select("herding", Z, np.zeros(20), 6, no_rng()).tolist() == chosen


def test_kernel_herding__score_is_the_mean_discrepancy_of_the_kernel() -> None:
    Z = blobs(60, 3)
    found = choose("kernel_herding", Z, np.zeros(60), 5, no_rng(), sigma=3.0)
    K = np.exp(-cdist(Z, Z, "sqeuclidean") / 18)
    kept = found.rows
    squared = K.mean() - 2 * K[kept].mean() + K[np.ix_(kept, kept)].mean()
    assert found.score[-1] == pytest.approx(np.sqrt(squared), rel=1e-3)  # features are float32
    assert found.sigma.tolist() == [3.0] * 5


def test_leverage__score_is_the_diagonal_of_the_hat_matrix() -> None:
    Z = blobs(50, 4)
    found = choose("leverage", Z, np.zeros(50), 50, no_rng(), ridge=0.5)
    rows = Z - Z.mean(0)
    gram = rows.T @ rows
    hat = rows @ np.linalg.solve(gram + 0.5 * np.trace(gram) / 4 * np.eye(4), rows.T)
    np.testing.assert_allclose(found.score, np.diag(hat)[found.rows], rtol=1e-5)


@pytest.mark.parametrize("name", SELECTIONS)
def test_choose__keeps_rows_of_every_class_the_same_for_a_seed(name: str) -> None:
    Z, y = blobs(90, 4), np.tile(["a", "b", "c"], 30)
    first, again = (choose(name, Z, y, 5, np.random.default_rng(3)) for _ in range(2))
    assert first.rows.tolist() == again.rows.tolist()
    assert y[first.rows].tolist() == ["a"] * 5 + ["b"] * 5 + ["c"] * 5
    assert len(set(first.rows.tolist())) == 15
    assert sorted(select(name, Z, y, 30, no_rng())) == list(range(90))
    assert sorted(select(name, Z, y, 99, no_rng())) == list(range(90))


@pytest.mark.parametrize("name", SELECTIONS)
def test_choose__says_by_what(name: str) -> None:
    Z, y = blobs(60, 4), np.repeat([0, 1], 30)
    found = choose(name, Z, y, 4, no_rng())
    assert [part.dtype for part in found[:3]] == [np.int64, np.float64, np.float64]
    assert [part.shape for part in found[:3]] == [(8,)] * 3
    assert json.loads(json.dumps(found.notes, allow_nan=False)).keys() == {"0", "1"}
    assert np.isnan(found.score).all() == (name in LABELS_ONLY)
    by_kernel = name in ("hgr", "relevance_only", "kernel_herding")
    assert np.isfinite(found.sigma).all() == by_kernel
    if by_kernel:
        assert found.sigma[0] == median_sigma(Z[:30], no_rng())
        assert found.sigma[7] == median_sigma(Z[30:], no_rng())


@pytest.mark.parametrize("name", SELECTIONS)
def test_choose__bears_classes_of_any_size_and_equal_rows(name: str) -> None:
    y = np.repeat([0, 1, 2, 3], [1, 2, 9, 20])
    Z = np.repeat([[0.0, 1.0], [3.0, 3.0], [7.0, 0.1]], [1, 11, 20], axis=0)  # 1 of 2 differs
    Z[12:14] += [[1.0], [1.0]]  # two of twenty
    found = choose(name, Z, y, 6, no_rng())
    assert len(set(found.rows.tolist())) == len(found.rows) == 1 + 2 + 6 + 6
    assert name in LABELS_ONLY or np.isfinite(found.score).all()
    nothing = choose(name, Z[:0], y[:0], 6, no_rng())
    assert len(nothing.rows) == len(nothing.score) == 0
    assert nothing.notes == {}


@pytest.mark.parametrize("name", SELECTIONS)
def test_choose__does_not_depend_on_type_and_layout(name: str) -> None:
    Z = np.round(blobs(120, 5) * 64) / 64  # exact as float16
    y = np.repeat([0, 1], 60)
    expected = select(name, Z, y, 9, no_rng()).tolist()
    strided = np.repeat(Z.astype(np.float32), 3, axis=1)[:, ::3]
    for other in (Z.astype(np.float16), Z.astype(np.float32), np.asfortranarray(Z), strided):
        assert select(name, other, y, 9, no_rng()).tolist() == expected


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("name", BY_REPRESENTATION)
def test_choose__does_not_depend_on_the_size_of_blocks(
    name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Z, y = blobs(150, 4), np.zeros(150)
    expected = select(name, Z, y, 20, no_rng()).tolist()
    monkeypatch.setattr(kernel, "TILE", size)
    monkeypatch.setattr(centring, "BLOCK", size)
    assert select(name, Z, y, 20, no_rng()).tolist() == expected


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("labels", [[0.0, 1, np.nan, 1], ["a", "b", None, "b"]])
def test_choose__a_label_that_is_missing_is_named(name: str, labels: list[object]) -> None:
    with pytest.raises(ValueError, match=r"'y' must hold a label for each row, got .* in row 2"):
        choose(name, np.zeros((4, 1)), labels, 1, no_rng())


@pytest.mark.parametrize("device", ["cpu", "auto"])
@pytest.mark.parametrize("name", BY_REPRESENTATION)
def test_choose__at_any_scale_each_row_once(name: str, device: str) -> None:
    Z = blobs(60, 4)
    expected = select(name, Z, np.zeros(60), 8, no_rng(), device=device).tolist()
    for scale in (2.0**-40, 2.0**44):
        found = select(name, Z * scale, np.zeros(60), 8, no_rng(), device=device)
        assert found.tolist() == expected


@pytest.mark.parametrize("options", [{"sigma": 1e-300}, {"sigma": 1e15}, {"lambda_kc": 1e15}])
def test_hgr__with_extreme_options_is_k_center(options: dict[str, float]) -> None:
    Z = blobs(60, 4)  # either no two rows are alike to the kernel, or all are
    expected = select("k_center", Z, np.zeros(60), 8, no_rng()).tolist()
    for device in ("cpu", "auto"):
        found = select("hgr", Z, np.zeros(60), 8, no_rng(), device=device, **options)
        assert found.tolist() == expected


@pytest.mark.parametrize("dtype", [">f4", np.longdouble, np.int16])
def test_choose__takes_numbers_of_other_types(dtype: object) -> None:
    Z = np.round(blobs(60, 4)).astype(dtype)
    for device in ("cpu", "auto"):
        found = select("herding", Z, np.zeros(60), 8, no_rng(), device=device)
        assert len(set(found.tolist())) == 8


@pytest.mark.parametrize("name", sorted(LABELS_ONLY))
def test_choose__by_chance_needs_no_representations(name: str) -> None:
    y = np.repeat([0, 1], 30)
    Z = np.full((60, 2), np.nan)
    expected = select(name, Z, y, 4, no_rng()).tolist()
    assert select(name, None, y, 4, no_rng()).tolist() == expected


@pytest.mark.parametrize("name", BY_REPRESENTATION)
def test_choose__memory_grows_with_the_rows_only(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(centring, "BLOCK", 256)  # blocks and tiles small against the rows
    monkeypatch.setattr(kernel, "TILE", 64)
    relevance = {"relevance": "columns", "sigma": 9.0}
    options = relevance if name in ("hgr", "relevance_only") else {}
    peaks = []
    for n_samples in (4000, 12_000):
        Z, y = np.zeros((n_samples, 64), np.float32), np.zeros(n_samples)
        Z[:, 0] = np.arange(n_samples) % 97
        tracemalloc.start()
        select(name, Z, y, 10, no_rng(), **options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    per_row = (peaks[1] - peaks[0]) / 8000
    assert per_row < 64 * 4 * (COPIES_BY_HERDING if "herding" in name else COPIES)


@pytest.mark.parametrize(
    ("Z", "match"),
    [
        (np.zeros(6), r"'Z' must have the shape.*6 labels, got \(6,\)"),
        (np.zeros((5, 2)), r"6 labels, got \(5, 2\)"),
        (np.zeros((6, 0)), r"got \(6, 0\)"),
        (None, "'Z' must hold representations, got None"),
        ([[0.0], [1], [2], [np.nan], [4], [np.inf]], "'Z' must be finite.*, got nan in row 3"),
        ([[0.0], [1], [-1e16], [3], [4], [5]], "at most 1e\\+15 in size, got -1e\\+16 in row 2"),
    ],
)
def test_choose__mistakes_in_rows_are_named(Z: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        select("herding", Z, np.zeros(6), 1, no_rng())


def test_choose__mistakes_in_names_are_named() -> None:
    Z, y = blobs(6, 1), np.zeros(6)
    with pytest.raises(ConfigError, match=r"'herdin'.*did you mean 'herding'"):
        select("herdin", Z, y, 1, no_rng())
    with pytest.raises(ConfigError, match=r"option of selection 'hgr' 'lambda'.*'lambda_kc'"):
        select("hgr", Z, y, 1, no_rng(), **{"lambda": 2})
    with pytest.raises(ConfigError, match=r"option of selection 'random' 'device'.*\[\]"):
        select("random", Z, y, 1, no_rng(), device="cpu")
    with pytest.raises(ValueError, match=r"'y' must hold one label per row.*\(6, 1\)"):
        select("random", Z, np.zeros((6, 1)), 1, no_rng())


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        (
            "hgr",
            {"lambda_kc": -1},
            r"'lambda_kc' of .* 'hgr' must be a number in \[0, 1e15\], got -1",
        ),
        ("hgr", {"lambda_kc": "1e-2"}, "got '1e-2'; write numbers without quotes, and 1.0e-3"),
        ("hgr", {"lambda_kc": np.inf}, "got inf"),
        ("hgr", {"lambda_kc": 10**400}, "got 1000"),
        ("hgr", {"sigma": 0}, r"must be a number in \(0, 1e15\] or null, got 0"),
        ("hgr", None, "options of selection 'hgr' must be a mapping, got None"),
        ("hgr", {"relevance": "nystrm"}, r"must be one of \['auto', 'exact', 'nystrom', 'columns"),
        ("hgr", {"device": "tpu"}, r"must be one of \['cpu', 'cuda', 'auto'\], got 'tpu'"),
        ("k_center", {"shard_rows": 2.5}, "must be a whole number >= 1, or null, got 2.5"),
        ("k_center", {"rounds": True}, r"must be one of \[1, 2\], got True"),
        ("k_center", {"start": -1}, "must be a whole number >= 0, or null, got -1"),
        ("kernel_herding", {"n_landmarks": 0}, "must be a whole number >= 1, got 0"),
        ("leverage", {"ridge": 1e-12}, r"must be a number in \[1e-9, 1e15\], got 1e-12"),
    ],
)
def test_check_selection__illegal_values_are_named(
    name: str, options: dict[str, object], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        check_selection(name, options)


@pytest.mark.parametrize("name", SELECTIONS)
def test_check_selection__defaults_are_legal(name: str) -> None:
    parameters = signature(SELECTIONS[name]).parameters.values()
    check_selection(name, {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY})


@pytest.mark.parametrize("name", BY_REPRESENTATION)
def test_select__chooses_the_same_where_torch_computes(name: str) -> None:
    Z, y = blobs(300, 4), np.repeat([0, 1], 150)
    options = {"relevance": "nystrom"} if name == "relevance_only" else {}
    expected = select(name, Z, y, 12, no_rng(), **options).tolist()
    assert select(name, Z, y, 12, no_rng(), device="auto", **options).tolist() == expected


@pytest.mark.parametrize("keep", [0, -1, 1.5, np.nan, np.inf, True, np.True_, "2", None, [1]])
def test_n_kept__takes_fractions_and_whole_numbers(keep: float) -> None:
    with pytest.raises(ConfigError, match="'keep' must be a fraction"):
        n_kept(3, keep)


def test_n_kept__rounds_up_but_not_what_is_whole() -> None:
    assert [n_kept(100, 0.07), n_kept(101, 0.07), n_kept(3, 1e-9), n_kept(0, 0.5)] == [7, 8, 1, 0]


def test_centred__is_the_difference_from_the_mean() -> None:
    Z = blobs(9000, 3) + 1000
    rows = Z - Z.mean(0)
    np.testing.assert_allclose(centred(Z), rows, atol=FLOAT32 * np.abs(rows).max())
    np.testing.assert_allclose(squares_from_mean(Z), (rows**2).sum(1), rtol=1e-12)
