"""HSICLinear against HSIC of Gram matrices, random representations, and partial least squares."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cross_decomposition import PLSSVD, PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from support.features import Data, vit_like

from heads.closed_form.hsic_linear import HSICLinear
from heads.hsic.statistics import delta_gram, hsic_biased

ROUNDING = 1e-9  # relative; sums over a few hundred rows and eigenvectors of small problems
LAMBDAS = [{"lambda_x": 0.0}, {"lambda_x": 0.05}, {"lambda_x": 3.0, "lambda_y": 0.5}]
CONSTRAINTS = ["orthonormal", "unit_variance"]


def data(n_classes: int = 3, n_samples: int = 150, n_features: int = 9) -> Data:
    X, y = vit_like(n_samples, n_features)
    labels = y if n_classes == 2 else np.arange(n_samples) % n_classes
    return X + 0.5 * np.eye(n_classes, n_features)[labels], labels


def covariances(X: Any, y: Any) -> tuple[Any, Any]:
    centred, n = X - X.mean(0), len(y) - 1
    return centred.T @ centred / n, centred.T @ np.eye(y.max() + 1)[y] / n


def objective(W: Any, X: Any, y: Any, lambda_x: float, lambda_y: float) -> float:
    Z = X @ W.T
    gram_z = Z @ Z.T
    return lambda_y * hsic_biased(gram_z, delta_gram(y)) - lambda_x * hsic_biased(X @ X.T, gram_z)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("lambdas", LAMBDAS, ids=str)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_hsic_linear__rows_solve_the_eigenproblem(
    n_classes: int, lambdas: Any, constraint: Any
) -> None:
    X, y = data(n_classes)
    head = HSICLinear(n_components=4, constraint=constraint, shrinkage=0, **lambdas).fit(X, y)
    Cxx, Cxy = covariances(X, y)
    W, values = head.encoder_weight_, head.eigenvalues_
    M = head.lambda_y * Cxy @ Cxy.T - head.lambda_x * Cxx @ Cxx
    B = np.eye(9) if constraint == "orthonormal" else Cxx
    scale = np.abs(M).max()
    np.testing.assert_allclose(M @ W.T, B @ W.T * values, rtol=0, atol=ROUNDING * scale)
    np.testing.assert_allclose(W @ B @ W.T, np.eye(4), rtol=0, atol=ROUNDING)
    assert (np.diff(values) <= 0).all()


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("lambdas", LAMBDAS, ids=str)
def test_hsic_linear__values_are_those_of_gram_matrices(lambdas: Any, constraint: Any) -> None:
    X, y = data()
    head = HSICLinear(n_components=3, constraint=constraint, **lambdas).fit(X, y)
    Z = head.transform(X)
    gram_x, gram_z = X @ X.T, Z @ Z.T
    assert head.hsic_x_ == pytest.approx(hsic_biased(gram_x, gram_z), rel=ROUNDING)
    assert head.hsic_y_ == pytest.approx(hsic_biased(gram_z, delta_gram(y)), rel=ROUNDING)
    value = head.lambda_y * head.hsic_y_ - head.lambda_x * head.hsic_x_
    assert head.eigenvalues_.sum() == pytest.approx(value, rel=1e-7)


@given(seed=st.integers(0, 2**32 - 1), n_components=st.integers(1, 4))
def test_hsic_linear__no_orthonormal_representation_is_better(seed: int, n_components: int) -> None:
    X, y = data()
    head = HSICLinear(lambda_x=0.05, n_components=n_components).fit(X, y)
    rng = np.random.default_rng(seed)
    best = objective(head.encoder_weight_, X, y, 0.05, 1.0)
    near = head.encoder_weight_ + 1e-3 * rng.normal(size=(n_components, 9))
    for other in (near, rng.normal(size=(n_components, 9))):
        W = np.linalg.qr(other.T)[0].T
        assert objective(W, X, y, 0.05, 1.0) <= best * (1 + 1e-12)


def test_hsic_linear__without_input_term_is_pls_svd() -> None:
    X, y = data(n_classes=4)
    head = HSICLinear(lambda_x=0.0).fit(X, y)
    pls = PLSSVD(n_components=3, scale=False).fit(X, np.eye(4)[y])
    alignment = np.abs(np.einsum("hd,dh->h", head.encoder_weight_, pls.x_weights_))
    np.testing.assert_allclose(alignment, 1, rtol=1e-10)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_hsic_linear__first_row_is_the_first_weight_vector_of_pls_regression(
    n_classes: int,
) -> None:
    X, y = data(n_classes)
    head = HSICLinear(lambda_x=0.0, n_components=1).fit(X, y)
    pls = PLSRegression(n_components=1, scale=False, tol=1e-14).fit(X, np.eye(n_classes)[y])
    assert abs(head.encoder_weight_[0] @ pls.x_weights_[:, 0]) == pytest.approx(1, abs=1e-10)


def test_hsic_linear__of_two_classes_is_a_ridge_with_the_squared_covariance() -> None:
    X, y = data(2)
    head = HSICLinear(lambda_x=0.05).fit(X, y)
    Cxx, Cxy = covariances(X, y)
    direction = np.linalg.solve(0.05 * Cxx @ Cxx + head.eigenvalues_[0] * np.eye(9), Cxy[:, 1])
    direction /= np.linalg.norm(direction)
    assert abs(head.encoder_weight_[0] @ direction) == pytest.approx(1, abs=1e-10)


def test_hsic_linear__with_unit_variance_and_no_input_term_is_fishers_discriminant() -> None:
    X, y = data(3)
    head = HSICLinear(lambda_x=0.0, constraint="unit_variance", shrinkage=0).fit(X, y)
    fisher = LinearDiscriminantAnalysis(solver="svd").fit(X, y)
    ours, theirs = (np.linalg.qr(A)[0] for A in (head.encoder_weight_.T, fisher.scalings_))
    cosines = np.linalg.svd(ours.T @ theirs, compute_uv=False)
    np.testing.assert_allclose(cosines, 1, rtol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_hsic_linear__classifier_is_a_discriminant_on_the_representation(n_classes: int) -> None:
    X, y = data(n_classes)
    head = HSICLinear(lambda_x=0.001, n_components=2).fit(X, y)
    Z = head.transform(X)
    np.testing.assert_allclose(Z.mean(0), 0, atol=1e-10)
    model = LinearDiscriminantAnalysis(solver="lsqr").fit(Z, y)
    np.testing.assert_allclose(head.predict_proba(X), model.predict_proba(Z), rtol=0, atol=1e-8)


def test_hsic_linear__keeps_the_components_that_raise_the_objective() -> None:
    X, y = data(n_classes=4)
    assert HSICLinear(lambda_x=0.0).fit(X, y).encoder_weight_.shape == (3, 9)
    strong = HSICLinear(lambda_x=100.0).fit(X, y)
    assert strong.encoder_weight_.shape == (1, 9)
    assert strong.eigenvalues_[0] < 0


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_hsic_linear__standardize_equals_standardised_features(constraint: Any) -> None:
    X, y = data()
    X = X * np.logspace(-2, 2, 9)
    head = HSICLinear(standardize=True, constraint=constraint).fit(X, y)
    expected = HSICLinear(constraint=constraint).fit(X / X.std(0), y)
    np.testing.assert_allclose(
        head.decision_function(X), expected.decision_function(X / X.std(0)), rtol=0, atol=1e-8
    )


def test_hsic_linear__in_pieces_equals_the_whole() -> None:
    X, y = data()
    head = HSICLinear().partial_fit(X[:50], y[:50]).merge(HSICLinear().partial_fit(X[50:], y[50:]))
    expected = HSICLinear().fit(X, y)
    np.testing.assert_allclose(head.encoder_weight_, expected.encoder_weight_, atol=ROUNDING)
    np.testing.assert_allclose(head.coef_, expected.coef_, atol=ROUNDING)


def test_hsic_linear__refuses_more_components_than_features() -> None:
    with pytest.raises(ValueError, match="features, 9, got 10"):
        HSICLinear(n_components=10).fit(*data())


def test_hsic_linear__unit_variance_leaves_directions_without_variance_out() -> None:
    X, y = data()
    X[:, 0] = 2 * X[:, 1] - X[:, 2]
    options: Any = {"lambda_x": 0.0, "constraint": "unit_variance", "shrinkage": 0.0}
    head = HSICLinear(**options).fit(X, y)
    np.testing.assert_allclose(np.cov(head.transform(X).T), np.eye(2), rtol=0, atol=ROUNDING)
    expected = HSICLinear(**options).fit(X[:, 1:], y)
    np.testing.assert_allclose(head.predict_proba(X), expected.predict_proba(X[:, 1:]), atol=1e-9)
    with pytest.raises(ValueError, match="linearly independent features, 8, got 9"):
        head.set_params(n_components=9).fit(X, y)


def test_hsic_linear__unit_variance_refuses_features_that_are_all_constant() -> None:
    with pytest.raises(ValueError, match="features must vary"):
        HSICLinear(constraint="unit_variance").fit(np.ones((10, 3)), np.arange(10) % 2)
