"""KNNHead against published scores, scikit-learn and the formulas of its rules."""

import tracemalloc
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from support.features import vit_like
from support.vectors import stored

from heads.loop.batch_source import ArrayBatches
from heads.loop.passes import train
from heads.neighbours import knn as knn
from heads.neighbours.knn import KNNHead
from heads.neighbours.rules import LIMIT, auroc_by_k, scores_by_k, select_k
from heads.neighbours.votes import Votes

FLOAT32 = 1e-5  # similarities are float32
FLOAT64 = 1e-12
PUBLISHED = 2e-7  # probabilities were computed in float32
ANY_K = [1, 2, 25, 51]


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    return stored("fiser_neighbours")


def fitted(vectors: dict[str, Any], **parameters: Any) -> KNNHead:
    return KNNHead(**parameters).fit(vectors["knn_db"], vectors["knn_db_lab"])


def logits_by_k(vectors: dict[str, Any], **parameters: Any) -> Any:
    votes = Votes(KNNHead(k=51, **parameters), vectors["knn_q"], 2)
    votes.add(vectors["knn_db"], vectors["knn_db_lab"])
    real, fake = votes.scores_by_k()
    return fake - real


@pytest.mark.parametrize("k", ANY_K)
def test_legacy__equals_published_probabilities(vectors: dict[str, Any], k: int) -> None:
    found = fitted(vectors, k=k).predict_proba(vectors["knn_q"])[:, 1]
    np.testing.assert_allclose(found, vectors["knn_legacy"][:, k - 1], rtol=0, atol=PUBLISHED)


def test_legacy__every_k_from_one_search_equals_published(vectors: dict[str, Any]) -> None:
    scores = logits_by_k(vectors)
    np.testing.assert_allclose(expit(scores), vectors["knn_legacy"], rtol=0, atol=PUBLISHED)
    areas = auroc_by_k(scores, vectors["knn_q_lab"])
    np.testing.assert_allclose(areas, vectors["knn_legacy_auc_by_k"], rtol=0, atol=FLOAT64)


def test_select_k__is_the_published_choice(vectors: dict[str, Any]) -> None:
    scores, labels = logits_by_k(vectors), vectors["knn_q_lab"]
    k = select_k(scores, labels)
    chosen = scores[:, k - 1]
    area, precision = roc_auc_score(labels, chosen), average_precision_score(labels, chosen)
    for published in (vectors["knn_legacy_best"], vectors["e2e_knn"][0, 1:]):
        np.testing.assert_allclose((k, area, precision), published[:3], rtol=0, atol=FLOAT64)


def test_legacy__ranks_reach_the_published_rates_at_every_k(vectors: dict[str, Any]) -> None:
    found = []
    for column in logits_by_k(vectors).T:
        false_alarms, hits, _ = roc_curve(vectors["knn_q_lab"], column)
        found.append(hits[np.abs(false_alarms - 0.05).argmin()])
    np.testing.assert_allclose(found, vectors["knn_legacy_tpr_by_k"], rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("temperature", [0.05, 0.07])
@pytest.mark.parametrize("k", ANY_K)
def test_exponential__equals_its_formula(vectors: dict[str, Any], k: int, temperature: Any) -> None:
    head = fitted(vectors, k=k, rule="exponential", temperature=temperature)
    weights = np.exp(vectors["knn_sim"][:, :k].astype(float) / temperature)
    fake = vectors["knn_db_lab"][vectors["knn_idx"][:, :k]] == 1
    expected = (weights * fake).sum(1) / weights.sum(1)
    found = head.predict_proba(vectors["knn_q"])[:, 1]
    np.testing.assert_allclose(found, expected, rtol=FLOAT32, atol=FLOAT32)
    mixed = (expected > 0) & (expected < 1)
    decisions = head.decision_function(vectors["knn_q"])
    np.testing.assert_allclose(decisions[mixed], logit(expected[mixed]), rtol=FLOAT32, atol=FLOAT32)
    np.testing.assert_array_equal(np.abs(decisions[~mixed]), LIMIT)


def test_exponential__tells_apart_what_single_precision_cannot() -> None:
    similarity = np.array([[0.9, -0.9], [0.9, -0.8]])
    scores = scores_by_k(similarity, np.array([[True, False]] * 2), "exponential", 0.05)
    other = scores_by_k(similarity, np.array([[False, True]] * 2), "exponential", 0.05)
    np.testing.assert_allclose((scores - other)[:, 1], [36, 34], rtol=FLOAT64)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_two_banks__is_the_difference_of_mean_distances(k: int, rng) -> None:
    X, y = vit_like(80, 12)
    queries = vit_like(30, 12, seed=1)[0]
    distances = []
    for label in (0, 1):
        search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine")
        distances.append(search.fit(X[y == label].astype(float)).kneighbors(queries)[0].mean(1))
    found = KNNHead(k=k, rule="two_banks").fit(X, y).decision_function(queries)
    np.testing.assert_allclose(found, distances[0] - distances[1], rtol=0, atol=FLOAT32)


def test_two_banks__temperature_divides(rng) -> None:
    X, y = vit_like(40, 6)
    published, warm = (KNNHead(rule="two_banks", temperature=T).fit(X, y) for T in (None, 0.25))
    expected = 4 * published.decision_function(X)
    np.testing.assert_allclose(warm.decision_function(X), expected, rtol=FLOAT64)


def test_two_banks__a_class_with_fewer_rows_counts_all_of_them() -> None:
    X = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    head = KNNHead(k=2, rule="two_banks").fit(X, np.array([0, 1, 1]))
    assert head.decision_function(X[:1])[0] == pytest.approx(0.3 - 1)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_exponential__equals_scikit_learns_weighted_vote(n_classes: int, rng) -> None:
    X, queries = rng.normal(size=(90, 6)), rng.normal(size=(40, 6))
    y = rng.integers(n_classes, size=90)
    vote = KNeighborsClassifier(
        9, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
    )
    expected = vote.fit(X, y).predict_proba(queries)
    head = KNNHead(k=9, rule="exponential").fit(X, y)
    np.testing.assert_allclose(head.predict_proba(queries), expected, rtol=0, atol=FLOAT32)
    np.testing.assert_array_equal(head.predict(queries), vote.predict(queries))


def test_legacy__of_many_classes_weighs_votes_by_similarity(rng) -> None:
    X, queries = rng.normal(size=(90, 6)), rng.normal(size=(40, 6))
    y = np.array(["real", "sd", "flux"])[rng.integers(3, size=90)]
    vote = KNeighborsClassifier(9, metric="cosine", algorithm="brute", weights=lambda d: 1 - d)
    head = KNNHead(k=9).fit(X, y)
    assert head.decision_function(queries).shape == (40, 3)
    np.testing.assert_array_equal(head.predict(queries), vote.fit(X, y).predict(queries))


def test_legacy__favours_the_frequent_class_of_an_unbalanced_bank(rng) -> None:
    X, y, queries = rng.normal(size=(200, 4)), np.arange(200) % 2, rng.normal(size=(100, 4))
    rows = np.flatnonzero((y == 1) | (np.arange(200) < 20))  # ten times as many fake as real
    balanced, unbalanced = KNNHead().fit(X, y), KNNHead().fit(X[rows], y[rows])
    assert 0.2 < (balanced.predict(queries) == 1).mean() < 0.8
    assert (unbalanced.predict(queries) == 1).mean() > 0.9


@pytest.mark.parametrize("rule", ["legacy", "exponential", "two_banks"])
@given(piece=st.integers(1, 400), seed=st.integers(0, 99))
def test_knn_head__does_not_depend_on_how_its_bank_is_read(
    rule: Any, piece: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X, queries = (rng.integers(-2, 3, (n, 4)).astype(float) for n in (30, 8))
    head = KNNHead(k=5, rule=rule, metric="inner").fit(X, np.arange(30) % 3)
    expected = head.decision_function(queries)
    with mock.patch.object(knn, "PIECE_NUMBERS", piece):
        np.testing.assert_array_equal(head.decision_function(queries), expected)


@pytest.mark.parametrize("bank_dtype", ["float16", "float32"])
def test_knn_head__keeps_half_precision_features_exactly(bank_dtype: Any, rng) -> None:
    X, y = rng.normal(size=(50, 6)).astype(np.float16), np.arange(50) % 2
    head = KNNHead(bank_dtype=bank_dtype).fit(X, y)
    assert head.bank_.dtype == bank_dtype
    np.testing.assert_array_equal(head.bank_, X)
    np.testing.assert_array_equal(head.bank_classes_, y)


def test_knn_head__heads_trained_together_share_the_bank(rng) -> None:
    X, y = rng.normal(size=(50, 6)), np.arange(50) % 2
    grid = [
        {"k": 3},
        {"k": 9, "rule": "two_banks"},
        {"bank_dtype": "float16"},
        {"rule": "exponential"},
    ]
    heads = [KNNHead(**point) for point in grid]
    train(heads, ArrayBatches(X, y))
    assert heads[0].bank_ is heads[1].bank_ is heads[3].bank_
    for head, point in zip(heads, grid, strict=True):
        expected = KNNHead(**point).fit(X, y).decision_function(X)
        np.testing.assert_array_equal(head.decision_function(X), expected)


@pytest.mark.parametrize(
    ("k", "n_classes"), [(10**6, 2), (25, 1000)], ids=["far more neighbours than rows", "classes"]
)
def test_knn_head__memory_grows_with_what_the_bank_has(k: int, n_classes: int, rng) -> None:
    """Room for k neighbours would take 2.4 GB, the scores of all classes at every k 80 MB."""
    X, y = rng.normal(size=(3000, 4)).astype(np.float32), np.arange(3000) % n_classes
    KNNHead().fit(X, np.arange(3000) % 2).decision_function(X[:2])  # compiled
    tracemalloc.start()
    head = KNNHead(k=k).fit(X, y)
    found = head.decision_function(X[:200])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25
    if k > len(X):
        expected = KNNHead(k=len(X)).fit(X, y).decision_function(X[:200])
        np.testing.assert_array_equal(found, expected)


def test_knn_head__refuses_a_bank_beyond_its_limit_and_says_where_to_go() -> None:
    X, y = np.ones((10, 4)), np.arange(10) % 2
    KNNHead(max_bank=160).fit(X, y)
    KNNHead(max_bank=80, bank_dtype="float16").fit(X, y)
    with pytest.raises(
        ValueError, match=r"160 bytes for 10 rows of 4 .*'heads.evaluation.knn_scores.score_knn'"
    ):
        KNNHead(max_bank=159).fit(X, y)


def test_knn_head__refuses_features_beyond_half_precision() -> None:
    X, y = np.array([[1.0], [70_000.0]]), np.array([0, 1])
    KNNHead().fit(X, y)
    with pytest.raises(ValueError, match=r"finite as float16.* choose bank_dtype='float32'"):
        KNNHead(bank_dtype="float16").fit(X, y)


def test_knn_head__refuses_features_that_are_not_finite_in_a_source() -> None:
    with pytest.raises(ValueError, match="features must be finite"):
        train([KNNHead()], ArrayBatches(np.array([[1.0], [np.nan]]), np.array([0, 1])))


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_knn_head__refuses_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ValueError, match="'device' must be"):
        KNNHead(engine="torch", device=device).fit(np.eye(3), np.array([0, 1, 1]))


def test_knn_head__engines_give_the_same_scores(rng) -> None:
    X, y = vit_like(80, 12)
    for rule in ("legacy", "exponential", "two_banks"):
        expected = KNNHead(k=7, rule=rule).fit(X, y).decision_function(X)
        head = KNNHead(k=7, rule=rule, engine="torch", device="cpu").fit(X, y)
        np.testing.assert_allclose(head.decision_function(X), expected, rtol=FLOAT32, atol=FLOAT32)


def test_knn_head__refuses_votes_by_negative_similarities() -> None:
    with pytest.raises(ValueError, match="must grow with nearness"):
        KNNHead(metric="euclidean").fit(np.eye(3), np.array([0, 1, 1]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bank_", np.ones((3, 3), np.float32)),
        ("bank_", np.full((4, 2), np.nan, np.float32)),
        ("bank_classes_", np.array([0, 1, 2, 1])),
        ("bank_classes_", np.array([0, 0, 0, 0])),
        ("bank_classes_", np.array([0.0, 1.0, 0.0, 1.0])),
        ("bank_classes_", [0, 1, 0, 1]),
        ("bank_classes_", np.array([[0, 1, 0, 1]])),
    ],
)
def test_knn_head__checks_what_is_loaded(name: str, value: Any) -> None:
    head = KNNHead().fit(np.eye(4)[:, :2], np.array([0, 1, 0, 1]))
    head.check_learned()
    setattr(head, name, value)
    with pytest.raises(ValueError, match=f"'{name}' must"):
        head.check_learned()


def test_knn_head__scores_in_bounded_memory(tmp_path: Path, rng) -> None:
    X, y = rng.normal(size=(4000, 32)).astype(np.float16), np.arange(4000) % 2
    np.save(tmp_path / "X.npy", np.tile(X, (8, 1)))
    queries = np.load(tmp_path / "X.npy", mmap_mode="r")
    head = KNNHead(bank_dtype="float16").fit(X, y)
    head.decision_function(queries[:100])  # loads what is compiled
    tracemalloc.start()
    head.decision_function(queries)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    all_similarities = 4 * len(X) * len(queries)
    assert peak < 40e6 < all_similarities / 10


def test_auroc_by_k__equals_scikit_learn_with_ties(rng) -> None:
    scores, labels = rng.integers(5, size=(80, 7)).astype(float), rng.integers(2, size=80)
    expected = [roc_auc_score(labels, column) for column in scores.T]
    np.testing.assert_allclose(auroc_by_k(scores, labels), expected, rtol=FLOAT64)


def test_auroc_by_k__refuses_one_class() -> None:
    with pytest.raises(ValueError, match="3 samples, 3 real and 0 fake"):
        auroc_by_k(np.ones((3, 2)), np.zeros(3))
