"""FewShotSVM against published decision values and scikit-learn."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.svm import SVC
from support.features import ill_conditioned, vit_like
from support.vectors import stored

from heads.logistic.probe import LogisticProbe
from heads.loop.batch_source import ArrayBatches
from heads.loop.passes import train
from heads.svm.probe import FewShotSVM

SAME_FORMULA = 1e-10  # the decision function is ours, the solution scikit-learn's
PUBLISHED = 1e-10  # computed with the same solver
STOPPED_EARLY = 3e-3  # of the published logistic regression, whose solver stops at 1e-4


@pytest.mark.parametrize(("name", "n_rows"), [("full", 200), ("20", 20)])
def test_few_shot_svm__equals_published_decision_values(name: str, n_rows: int) -> None:
    vectors = stored("fiser_neighbours")
    head = FewShotSVM().fit(vectors["knn_db"][:n_rows], vectors["knn_db_lab"][:n_rows])
    found = head.decision_function(vectors["knn_q"])
    np.testing.assert_allclose(found, vectors[f"svm_{name}"], rtol=0, atol=PUBLISHED)
    assert head.gamma_ == pytest.approx(float(vectors[f"svm_{name}_gamma"]), rel=1e-12)
    n_support = [(head.dual_coef_ < 0).sum(), (head.dual_coef_ > 0).sum()]
    assert n_support == vectors[f"svm_{name}_nsv"].tolist()


@pytest.mark.parametrize(("name", "n_rows"), [("full", 200), ("20", 20)])
def test_published_linear_head__is_logistic_regression_stopped_early(
    name: str, n_rows: int
) -> None:
    vectors = stored("fiser_neighbours")
    X, y = vectors["knn_db"][:n_rows].astype(float), vectors["knn_db_lab"][:n_rows]
    head = LogisticProbe().fit(X, y)
    found = head.decision_function(vectors["knn_q"])
    np.testing.assert_allclose(found, vectors[f"linear_{name}"], rtol=0, atol=STOPPED_EARLY)

    def objective(w: Any, b: float) -> float:
        return float(w @ w / 2 - np.log(expit((2 * y - 1) * (X @ w + b))).sum())

    published = vectors[f"linear_{name}_coef"].astype(float)
    np.testing.assert_allclose(published[:-1], head.coef_[0], rtol=0, atol=STOPPED_EARLY)
    ours = objective(head.coef_[0], head.intercept_[0])
    assert ours <= objective(published[:-1], published[-1])


@pytest.mark.parametrize("make", [vit_like, ill_conditioned])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"kernel": "linear"},
        {"C": 10.0, "gamma": "auto"},
        {"C": 0.1, "gamma": 0.003},
        {"kernel": "linear", "C": 0.01},
        {"C": 10.0, "tol": 0.3},
    ],
    ids=str,
)
def test_few_shot_svm__equals_scikit_learn(make: Any, parameters: dict[str, Any]) -> None:
    X, y = make(80, 24)
    X = X.astype(float)
    if parameters.get("kernel") == "linear":
        X = X / np.abs(X).max(0)  # the solver's time grows with the scale
    head, expected = FewShotSVM(**parameters).fit(X[:60], y[:60]), SVC(**parameters)
    values = expected.fit(X[:60], y[:60]).decision_function(X)
    scale = np.abs(values).max()
    np.testing.assert_allclose(
        head.decision_function(X), values, rtol=0, atol=SAME_FORMULA * max(1, scale)
    )
    np.testing.assert_array_equal(head.predict(X), expected.predict(X))


def test_few_shot_svm__large_offsets_do_not_cancel() -> None:
    X, y = vit_like(60, 10)
    X = X.astype(float) + 1e5
    head, expected = FewShotSVM().fit(X, y), SVC().fit(X, y)
    found, values = head.decision_function(X), expected.decision_function(X)
    np.testing.assert_allclose(found, values, rtol=0, atol=SAME_FORMULA)


def test_few_shot_svm__labels_keep_their_names() -> None:
    X, y = vit_like(60, 10)
    names = np.array(["real", "fake"])[y]
    head, expected = FewShotSVM().fit(X, names), SVC().fit(X, names)
    np.testing.assert_array_equal(head.predict(X), expected.predict(X))
    values = expected.decision_function(X.astype(float))
    np.testing.assert_allclose(head.decision_function(X), values, rtol=0, atol=SAME_FORMULA)


def test_few_shot_svm__probability_is_the_logistic_function_of_the_decision() -> None:
    X, y = vit_like(60, 10)
    head = FewShotSVM().fit(X, y)
    found = head.predict_proba(X)[:, 1]
    np.testing.assert_allclose(found, expit(head.decision_function(X)), rtol=1e-12)


def test_few_shot_svm__constant_features_have_the_gamma_of_scikit_learn() -> None:
    X, y = np.full((6, 2), 3.0), np.arange(6) % 2
    head, expected = FewShotSVM().fit(X, y), SVC().fit(X, y)
    assert head.gamma_ == 1
    np.testing.assert_allclose(head.decision_function(X), expected.decision_function(X), atol=1e-12)


def test_few_shot_svm__refuses_many_rows_and_says_what_to_use() -> None:
    X, y = vit_like(50, 4)
    FewShotSVM(max_rows=50).fit(X, y)
    with pytest.raises(ValueError, match=r"'max_rows' = 49 rows, got 50; .*use LogisticProbe"):
        FewShotSVM(max_rows=49).fit(X, y)


def test_few_shot_svm__heads_trained_together_equal_single_fits() -> None:
    X, y = vit_like(50, 4)
    grid: list[dict[str, Any]] = [{}, {"C": 10.0}, {"kernel": "linear", "C": 0.1}, {"gamma": 0.5}]
    heads = [FewShotSVM(**point) for point in grid]
    train(heads, ArrayBatches(X, y))
    for head, point in zip(heads, grid, strict=True):
        expected = FewShotSVM(**point).fit(X, y).decision_function(X)
        np.testing.assert_array_equal(head.decision_function(X), expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dual_coef_", np.ones(3)),
        ("dual_coef_", None),
        ("support_vectors_", np.ones((2, 3))),
        ("intercept_", np.array([np.nan])),
        ("gamma_", 0.0),
        ("gamma_", "scale"),
        ("gamma_", float("inf")),
    ],
)
def test_few_shot_svm__checks_what_is_loaded(name: str, value: Any) -> None:
    head = FewShotSVM().fit(np.eye(2), np.array([0, 1]))
    head.check_learned()
    setattr(head, name, value)
    with pytest.raises(ValueError, match=r"'(dual_coef_|support_vectors_|intercept_|gamma_)' must"):
        head.check_learned()
