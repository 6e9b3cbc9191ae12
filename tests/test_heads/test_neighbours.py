"""Nearest rows against scikit-learn, a double loop and published ones, however they are cut."""

import subprocess
import sys
import tracemalloc
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from support.vectors import stored

from heads.neighbours import compiled as neighbours_compiled
from heads.neighbours import search as neighbours
from heads.neighbours import with_torch as neighbours_torch
from heads.neighbours.homophily import homophily
from heads.neighbours.search import inverse_norms, knn_search, nearest_rows, unit_rows

ENGINES = ["compiled", "torch", "faiss"]
METRICS = ["cosine", "inner", "euclidean"]
FLOAT32 = 1e-5  # sums of tens of products in float32
FLOAT64 = 1e-12
PUBLISHED = 2e-7  # float32 sums of 16 products in another order


def engine_or_skip(engine: str, metric: str = "cosine") -> dict[str, Any]:
    if engine == "faiss":
        pytest.importorskip("faiss", reason="faiss is optional")
        if metric == "euclidean":
            pytest.skip("faiss is offered for inner products only")
    return {"engine": engine, "device": "cpu"}


def one_by_one(queries: Any, bank: Any, k: int, metric: str) -> tuple[Any, Any]:
    """Nearest rows in float64 by a double loop; Python's sort keeps equal ones in order."""
    index, similarity = [], []
    for q in np.asarray(queries, np.float64):
        values = []
        for b in np.asarray(bank, np.float64):
            lengths = np.linalg.norm(q) * np.linalg.norm(b)
            cosine = q @ b / lengths if lengths else 0.0
            distance = np.linalg.norm(q - b)
            values.append({"inner": q @ b, "cosine": cosine, "euclidean": -distance}[metric])
        order = sorted(range(len(values)), key=lambda j: -values[j])[:k]
        index.append(order)
        similarity.append([values[j] for j in order])
    return np.array(index), np.array(similarity)


def rows_with_ties(seed: int, n_rows: int, n_features: int = 4) -> np.ndarray:
    """Small integers, whose products no precision rounds; many rows are equal."""
    return np.random.default_rng(seed).integers(-2, 3, (n_rows, n_features)).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_knn_search__equals_a_double_loop(engine: str, metric: Any, dtype: Any, rng) -> None:
    options = engine_or_skip(engine, metric)
    queries, bank = (rng.normal(size=(n, 12)).astype(dtype) for n in (9, 40))
    queries[3] = 0
    bank[7] = 0
    found = knn_search(queries, bank, 6, metric=metric, **options)
    index, similarity = one_by_one(queries, bank, 6, metric)
    np.testing.assert_allclose(found.similarity, similarity, atol=FLOAT32)
    rest = np.arange(9) != 3  # to a query of zeros all cosines and products are equal
    np.testing.assert_array_equal(found.index[rest], index[rest])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_rows", [7, 500])
def test_knn_search__equals_scikit_learn(metric: Any, n_rows: int, rng) -> None:
    bank, queries = rng.normal(size=(n_rows, 30)), rng.normal(size=(40, 30))
    found = knn_search(queries, bank, 7, metric=metric)
    if metric == "inner":  # which scikit-learn lacks
        index = np.argsort(-(queries @ bank.T), axis=1)[:, :7]
        distance = -np.take_along_axis(queries @ bank.T, index, 1)
    else:
        search = NearestNeighbors(n_neighbors=7, algorithm="brute", metric=metric).fit(bank)
        distance, index = search.kneighbors(queries)
    np.testing.assert_array_equal(found.index, index)
    expected = 1 - distance if metric == "cosine" else -distance
    np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("engine", ENGINES)
def test_knn_search__equals_published_neighbours(engine: str) -> None:
    vectors = stored("fiser_neighbours")
    options = engine_or_skip(engine)
    found = knn_search(vectors["knn_q"], vectors["knn_db"], 51, metric="inner", **options)
    np.testing.assert_array_equal(found.index, vectors["knn_idx"])
    np.testing.assert_allclose(found.similarity, vectors["knn_sim"], rtol=0, atol=PUBLISHED)


@given(
    seed=st.integers(0, 1000),
    k=st.integers(1, 12),
    block=st.integers(1, 200),
    n_queries=st.integers(1, 9),
    cuts=st.lists(st.integers(0, 30), max_size=6),
)
@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_nearest_rows__do_not_depend_on_how_they_are_cut(
    engine: str, seed: int, k: int, block: int, n_queries: int, cuts: list[int]
) -> None:
    queries, bank = rows_with_ties(seed, 9), rows_with_ties(seed + 1, 30)
    index, similarity = one_by_one(queries, bank, k, "inner")
    with (
        mock.patch.object(neighbours, "BLOCK_NUMBERS", block),
        mock.patch.object(neighbours_compiled, "BLOCK_QUERIES", n_queries),
        mock.patch.object(neighbours_torch, "BLOCK_QUERIES", n_queries),
    ):
        pieces = np.split(bank, sorted(cuts))
        found = knn_search(queries, pieces, k, metric="inner", engine=engine, device="cpu")
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_array_equal(found.similarity, similarity)


@pytest.mark.gpu
def test_nearest_rows__on_a_gpu_are_those_of_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    queries, bank = rows_with_ties(0, 9), rows_with_ties(1, 3000)
    expected = knn_search(queries, bank, 25, metric="inner")
    found = knn_search(queries, bank, 25, metric="inner", engine="torch", device="cuda")
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(found.similarity, expected.similarity)


@pytest.mark.parametrize("order", ["ascending", "descending", "equal"])
@pytest.mark.parametrize("engine", ENGINES)
def test_nearest_rows__in_any_order_of_the_bank(engine: str, order: str) -> None:
    options = engine_or_skip(engine)
    values = {"ascending": np.arange(50), "descending": -np.arange(50), "equal": np.ones(50)}
    bank = values[order].astype(np.float32)[:, None]
    found = knn_search(np.ones((1, 1), np.float32), bank, 5, metric="inner", **options)
    nearest = {"ascending": [49, 48, 47, 46, 45]}.get(order, [0, 1, 2, 3, 4])
    if not (engine == "faiss" and order == "equal"):
        assert found.index.tolist() == [nearest]
    assert found.similarity.tolist() == [bank[nearest, 0].tolist()]


@pytest.mark.parametrize("engine", ENGINES)
def test_nearest_rows__of_a_bank_with_fewer_are_all(engine: str) -> None:
    found = knn_search(np.eye(3), np.eye(3)[:2], 25, **engine_or_skip(engine))
    assert found.index.tolist() == [[0, 1], [1, 0], [0, 1]]
    assert found.similarity.tolist() == [[1, 0], [1, 0], [0, 0]]


def test_nearest_rows__euclidean_distances_survive_large_offsets(rng) -> None:
    bank, queries = rng.normal(size=(60, 8)), rng.normal(size=(20, 8))
    index, _ = one_by_one(queries, bank, 5, "euclidean")
    shifted = [(rows + 1000).astype(np.float32) for rows in (queries, bank)]
    exact, _ = one_by_one(*shifted, 5, "euclidean")
    np.testing.assert_array_equal(knn_search(*shifted, 5, metric="euclidean").index, exact)
    assert (exact == index).mean() > 0.9  # the shift itself loses little


def test_nearest_rows__leave_inputs_alone_and_read_memory_maps(tmp_path, rng) -> None:
    rows = rng.normal(size=(30, 5)).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for metric in METRICS:
        for engine in ("compiled", "torch"):
            options = {"metric": metric, "engine": engine, "device": "cpu"}
            expected = knn_search(rows.copy(), rows.copy(), 3, **options)
            np.testing.assert_array_equal(knn_search(mapped, mapped, 3, **options)[0], expected[0])
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), rows)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_nearest_rows__a_block_is_all_that_is_held_of_a_bank(engine: str) -> None:
    sizes: list[int] = []
    search = nearest_rows(np.ones((3, 4)), 2, engine=engine, device="cpu")
    compare = search._compare

    def spy(block: Any, *terms: Any) -> None:
        sizes.append(block.size)
        compare(block, *terms)

    with (
        mock.patch.object(search, "_compare", spy),
        mock.patch.object(neighbours, "BLOCK_NUMBERS", 40),
    ):
        search.add(np.ones((1001, 4)))
    assert max(sizes) == 40
    assert sum(sizes) == 4004


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "'k' must be at least 1, got 0"),
        ({"metric": "manhattan"}, "'metric' must be one of .* got 'manhattan'"),
        ({"engine": "magic"}, "'engine' must be one of .* got 'magic'"),
        ({"bank": np.ones((4, 2))}, r"3 features of the queries, got shape \(4, 2\)"),
        ({"bank": np.ones((0, 3))}, "at least one row, got none"),
        ({"engine": "faiss", "metric": "euclidean"}, "needs metric='cosine' or 'inner'"),
    ],
)
def test_knn_search__refuses_what_is_not_legal(arguments: Any, message: str) -> None:
    legal: dict[str, Any] = {"queries": np.ones((2, 3)), "bank": np.ones((4, 3)), "k": 1}
    with pytest.raises(ValueError, match=message):
        knn_search(**legal | arguments)


def test_knn_search__says_what_to_do_without_faiss() -> None:
    with (
        mock.patch.dict(sys.modules, {"faiss": None}),
        pytest.raises(ValueError, match="install faiss-cpu or faiss-gpu, or choose engine="),
    ):
        knn_search(np.ones((2, 3)), np.ones((4, 3)), 1, engine="faiss")


def test_import__needs_neither_torch_nor_numba_nor_faiss() -> None:
    code = "import sys, heads.neighbours.knn; print({'torch', 'numba', 'faiss'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_inverse_norms__do_not_overflow() -> None:
    rows = np.array([[3e30, 4e30], [3e-30, 4e-30], [0, 0]], np.float32)
    np.testing.assert_allclose(inverse_norms(rows), [2e-31, 2e29, 0], rtol=FLOAT32)
    np.testing.assert_allclose(unit_rows(rows), [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=FLOAT32)


def test_unit_rows__of_the_shortest_rows_are_finite() -> None:
    rows = np.array([[1e-42, 0], [0, 1]], np.float32)
    assert np.isfinite(unit_rows(rows)).all()
    found = knn_search(rows, rows, 2)
    np.testing.assert_array_equal(np.sort(found.index), [[0, 1], [0, 1]])


def test_knn_search__memory_is_bounded_for_few_features(rng) -> None:
    """All products of these rows would take 400 MB."""
    bank, queries = rng.normal(size=(200_000, 2)).astype(np.float32), np.ones((512, 2), np.float32)
    knn_search(queries[:1], bank[:9], 3)  # compiled
    tracemalloc.start()
    knn_search(queries, bank, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


def test_homophily__equals_published_numbers_and_their_correction() -> None:
    vectors = stored("fiser_neighbours")
    rows, labels = vectors["knn_db"], vectors["knn_db_lab"]
    coded = homophily(rows, labels, k=10, skip=1)
    np.testing.assert_allclose(coded, vectors["homophily"], rtol=0, atol=FLOAT64)
    intended = homophily(rows, labels, k=10)
    assert intended.observed == pytest.approx(0.7260, abs=FLOAT64)
    assert intended.chance == coded.chance


def test_homophily__equals_scikit_learns_graph(rng) -> None:
    rows, labels = rng.normal(size=(60, 5)), rng.integers(3, size=60)
    search = NearestNeighbors(n_neighbors=4, algorithm="brute", metric="cosine").fit(rows)
    graph = search.kneighbors(return_distance=False)  # without the rows themselves
    found = homophily(rows, labels, k=4)
    assert found.observed == (labels[graph] == labels[:, None]).mean()
    pairs = [labels[i] == labels[j] for i in range(60) for j in range(60) if i != j]
    assert found.chance == pytest.approx(np.mean(pairs), rel=FLOAT64)


def test_homophily__a_row_is_not_its_own_neighbour_among_equal_rows() -> None:
    rows, labels = np.ones((6, 2)), np.array([0, 1, 0, 1, 0, 1])
    # The nearest of six equal rows is the first one, and for that the second.
    assert homophily(rows, labels, k=1).observed == pytest.approx(2 / 6)


@pytest.mark.parametrize(
    ("labels", "k", "message"),
    [
        ([0, 1], 1, r"shape \(4,\), got \(2,\)"),
        ([0, 1, 0, 1], 4, "need 5 rows, got 4"),
        ([1, 1, 1, 1], 1, "two classes or more, got one: 1"),
    ],
)
def test_homophily__refuses_what_is_not_legal(labels: list[int], k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        homophily(np.eye(4), np.array(labels), k=k)
