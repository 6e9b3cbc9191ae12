"""KNNHead against scikit-learn's brute-force neighbours: samples per second, and memory.

scikit-learn is timed twice: with the Euclidean metric on rows of length one, which gives the same
neighbours and is its fastest way, and with the metric that says what is wanted.
"""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from benchmarks.paired import Row, interleave, report, speed
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from heads.neighbours.knn import KNNHead
from heads.neighbours.search import knn_search, unit_rows

N_BANK, N_QUERIES, WIDTH, K = 50_000, 2_000, 1024, 25
NEAR_TIES = 1e-3  # share of neighbours that two roundings may order differently

Data = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    y = np.arange(N_BANK) % 2
    bank = rng.standard_normal((N_BANK, WIDTH), np.float32) + 0.05 * y[:, None].astype("f4")
    return bank, y, rng.standard_normal((N_QUERIES, WIDTH), np.float32)


def test_speed_of_nearest_neighbours(data: Data) -> None:
    bank, y, queries = data
    head = KNNHead(k=K).fit(bank, y)
    brute: dict[str, Any] = {"n_neighbors": K, "algorithm": "brute"}
    euclidean = KNeighborsClassifier(metric="euclidean", **brute).fit(unit_rows(bank), y)
    cosine = KNeighborsClassifier(metric="cosine", **brute).fit(bank, y)
    ours, on_sphere, by_name = interleave(
        lambda: head.predict_proba(queries),
        lambda: euclidean.predict_proba(unit_rows(queries)),
        lambda: cosine.predict_proba(queries),
        rounds=3,
    )
    size: dict[str, Any] = {"amount": N_QUERIES, "unit": "samples/s", "wanted": ">= 1.0"}
    report(
        f"{K} nearest of {N_BANK:,} rows x {WIDTH:,}, {N_QUERIES:,} samples, float32",
        [
            speed("KNNHead | scikit-learn, Euclidean on the sphere", ours, on_sphere, **size),
            speed("KNNHead | scikit-learn, cosine", ours, by_name, **size),
        ],
    )


def test_neighbours_are_the_same(data: Data) -> None:
    bank, y, queries = (unit_rows(part[:5000]) if part.ndim > 1 else part[:5000] for part in data)
    model = KNeighborsClassifier(K, algorithm="brute").fit(bank, y)
    expected = model.kneighbors(queries, return_distance=False)
    assert (knn_search(queries, bank, K).index != expected).mean() < NEAR_TIES


def test_memory_of_nearest_neighbours(data: Data) -> None:
    bank, y, queries = data
    head = KNNHead(k=K).fit(bank, y)
    head.decision_function(queries[:10])  # loads what is compiled
    tracemalloc.start()
    head.decision_function(queries)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    matrix = 4 * N_BANK * N_QUERIES
    name = "peak of NumPy's memory | matrix of all similarities"
    texts = (f"{size / 1e6:,.0f} MB" for size in (peak, matrix))
    report("Memory of the same", [Row(name, *texts, peak / matrix, wanted="<= 0.2")])
