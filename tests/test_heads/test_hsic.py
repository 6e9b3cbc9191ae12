"""HSIC statistics against published numbers, two independent packages, and double loops.

The decimals are closed forms or values computed once in double precision from the definitions.
"""

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.preprocessing import KernelCenterer

from heads.hsic.statistics import (
    center_gram,
    cka,
    delta_gram,
    hsic_biased,
    hsic_unbiased,
    median_bandwidth,
    rbf_gram,
    squared_distances,
)

TABLE = 1e-10  # the tabulated values carry 10 to 12 decimals
ROUNDING = 1e-12  # a few hundred float64 operations
FLOOR = 5e-9  # relative effect of the 1e-8 that `rbf_gram` adds to 2σ² = 2, doubled for products


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def rbf(X: np.ndarray, bandwidth: float) -> np.ndarray:
    """Gaussian Gram matrix without the floor in the denominator."""
    return rbf_kernel(X, gamma=1 / (2 * bandwidth**2))


def linear(X: np.ndarray) -> np.ndarray:
    return X @ X.T


RAMP = column(0, 1, 2, 3, 4, 5)
SQUARES = RAMP**2


# ------------------------------------------------------------------ values


@pytest.mark.parametrize(("k", "ell"), [(0.3, 0.7), (0.0, 0.0), (0.9, 0.1)])
def test_hsic_biased__two_samples_have_a_closed_form(k: float, ell: float) -> None:
    K, L = np.array([[1, k], [k, 1]]), np.array([[1, ell], [ell, 1]])
    assert_allclose(hsic_biased(K, L), (1 - k) * (1 - ell), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(
    ("n", "expected"), [(4, 0.4444444444), (16, 0.2844444444), (128, 0.2539525079)]
)
def test_hsic_biased__balanced_labels_with_themselves(n: int, expected: float) -> None:
    L = delta_gram(np.arange(n) % 2)
    value = hsic_biased(L, L)
    assert_allclose(value, n**2 / (4 * (n - 1) ** 2), rtol=ROUNDING)
    assert_allclose(value, expected, atol=TABLE)
    assert_allclose(value * (n - 1) ** 2 / n**2, 0.25, rtol=ROUNDING)


@pytest.mark.parametrize(
    ("n", "expected"), [(4, 0.6666666667), (6, 0.4), (10, 0.3174603175), (128, 0.2539842520)]
)
def test_hsic_unbiased__balanced_labels_with_themselves(n: int, expected: float) -> None:
    L = delta_gram(np.arange(n) % 2)
    assert_allclose(hsic_unbiased(L, L), expected, atol=TABLE)


def test_hsic__imbalanced_labels_with_themselves() -> None:
    L = delta_gram([0, 0, 0, 1, 1, 1, 1, 1])
    assert_allclose(hsic_biased(L, L), 4 * (3 * 5 / 8) ** 2 / 7**2, rtol=ROUNDING)
    assert_allclose(hsic_biased(L, L), 0.2869897959, atol=TABLE)
    assert_allclose(hsic_unbiased(L, L), 0.2857142857, atol=TABLE)


def test_hsic_biased__linear_kernels_give_the_squared_covariance() -> None:
    x = column(1, 2, 3, 4)
    value = hsic_biased(linear(x), linear(x**2))
    assert_allclose(value, np.cov(x.ravel(), x.ravel() ** 2)[0, 1] ** 2, rtol=ROUNDING)
    assert_allclose(value, 69.4444444444, atol=TABLE)


def test_hsic__table_for_alternating_labels() -> None:
    n, K, L = 5, rbf(column(0, 1, 2, 3, 4), 1), delta_gram([0, 1, 0, 1, 0])
    assert_allclose(hsic_biased(K, L), 0.026119978740, atol=TABLE)
    assert_allclose(hsic_biased(K, L) * (n - 1) ** 2 / n**2, 0.016716786393, atol=TABLE)
    assert_allclose(hsic_unbiased(K, L), -0.118088583541, atol=TABLE)
    assert_allclose(cka(K, L), 0.096437814411, atol=TABLE)
    assert_allclose(hsic_biased(K, K), 0.203773834962, atol=TABLE)
    assert_allclose(hsic_unbiased(K, K), 0.108120997355, atol=TABLE)


def test_hsic__a_label_bandwidth_of_one_scales_by_a_constant() -> None:
    y = [0, 1, 0, 1, 0]
    K, L = rbf(column(0, 1, 2, 3, 4), 1), rbf(column(*y), 1)
    assert_allclose(hsic_biased(K, L), 0.010277410803, atol=TABLE)
    assert_allclose(hsic_unbiased(K, L), -0.046464237061, atol=TABLE)
    ratio = hsic_biased(K, L) / hsic_biased(K, delta_gram(y))
    assert_allclose(ratio, 1 - np.exp(-0.5), rtol=TABLE)
    assert_allclose(ratio, 0.3934693403, atol=TABLE)
    assert_allclose(cka(K, L), cka(K, delta_gram(y)), rtol=TABLE)


def test_hsic__table_for_a_parabola() -> None:
    n, K, L = 6, rbf(RAMP, 1), rbf(SQUARES, 5)
    assert_allclose(hsic_biased(K, L), 0.175893284546, atol=TABLE)
    assert_allclose(hsic_biased(K, L) * (n - 1) ** 2 / n**2, 0.122148114268, atol=TABLE)
    assert_allclose(hsic_unbiased(K, L), 0.088296701989, atol=TABLE)


def test_hsic_biased__median_bandwidths_of_a_parabola() -> None:
    D, E = squared_distances(RAMP), squared_distances(SQUARES)
    value = hsic_biased(rbf_gram(D, median_bandwidth(D)), rbf_gram(E, median_bandwidth(E)))
    assert_allclose(value, 0.128339117175, rtol=FLOOR)


def test_hsic_biased__sorted_labels() -> None:
    y = [0, 0, 0, 1, 1, 1]
    assert_allclose(hsic_biased(rbf(RAMP, 1), delta_gram(y)), 0.191423613505, atol=TABLE)
    assert_allclose(hsic_biased(rbf(RAMP, 1), rbf(column(*y), 1)), 0.075319322921, atol=TABLE)


# ------------------------------------------------------------------ definitions, by brute force


def double_loop_hsic(K: np.ndarray, L: np.ndarray) -> float:
    """``tr(K H L H) / (n - 1)²`` with explicit centring matrices."""
    n = len(K)
    H = np.eye(n) - 1 / n
    KH, LH = K @ H, L @ H
    return sum(KH[i, j] * LH[j, i] for i in range(n) for j in range(n)) / (n - 1) ** 2


def four_sum_hsic(K: np.ndarray, L: np.ndarray) -> float:
    """Return the U-statistic: the mean of the HSIC kernel over tuples of distinct indices."""
    n = range(len(K))
    pairs = [K[i, j] * L[i, j] for i, j in itertools.permutations(n, 2)]
    triples = [K[i, j] * L[i, k] for i, j, k in itertools.permutations(n, 3)]
    quadruples = [K[i, j] * L[k, m] for i, j, k, m in itertools.permutations(n, 4)]
    return float(np.mean(pairs) + np.mean(quadruples) - 2 * np.mean(triples))


def test_hsic_biased__equals_a_double_loop(rng: np.random.Generator) -> None:
    K, L = rbf(rng.normal(size=(9, 3)), 1.5), rbf(rng.normal(size=(9, 2)), 0.7)
    assert_allclose(hsic_biased(K, L), double_loop_hsic(K, L), rtol=ROUNDING)


def test_hsic_unbiased__equals_the_mean_over_distinct_indices(rng: np.random.Generator) -> None:
    K, L = rbf(rng.normal(size=(7, 3)), 1.5), rbf(rng.normal(size=(7, 2)), 0.7)
    assert_allclose(hsic_unbiased(K, L), four_sum_hsic(K, L), rtol=1e3 * ROUNDING)


def test_hsic__exact_mean_over_all_permutations(rng: np.random.Generator) -> None:
    n = 5
    K, L = rbf(rng.normal(size=(n, 2)), 1.0), rbf(rng.normal(size=(n, 2)), 1.0)
    shuffled = [L[np.ix_(p, p)] for p in map(list, itertools.permutations(range(n)))]
    floor = np.trace(center_gram(K)) * np.trace(center_gram(L)) / (n - 1) ** 3
    assert_allclose(np.mean([hsic_biased(K, M) for M in shuffled]), floor, rtol=ROUNDING)
    assert_allclose(np.mean([hsic_unbiased(K, M) for M in shuffled]), 0, atol=ROUNDING)


@given(
    labels=st.lists(st.integers(0, 1), min_size=4, max_size=12).filter(
        lambda y: 0 < sum(y) < len(y)
    ),
    seed=st.integers(0, 2**16),
)
def test_hsic_biased__with_labels_is_a_class_mmd(labels: list[int], seed: int) -> None:
    y, n = np.array(labels), len(labels)
    K = rbf(np.random.default_rng(seed).normal(size=(n, 3)), 1.0)
    real, fake = y == 0, y == 1
    mmd = K[np.ix_(real, real)].mean() + K[np.ix_(fake, fake)].mean()
    mmd -= 2 * K[np.ix_(real, fake)].mean()
    expected = 2 * (real.sum() * fake.sum() / n) ** 2 * mmd / (n - 1) ** 2
    assert_allclose(hsic_biased(K, delta_gram(y)), expected, rtol=1e-9, atol=ROUNDING)


def test_hsic_biased__is_the_sum_of_the_squared_centred_rows(rng: np.random.Generator) -> None:
    K = rbf(rng.normal(size=(40, 3)), 1.0)
    n, a, g = len(K), K.mean(axis=1), K.mean()
    centred_rows = (center_gram(K) ** 2).sum(axis=1)
    expanded_rows = (K**2).sum(axis=1) - 2 * K @ a + (a**2).sum() - n * (a - g) ** 2
    assert_allclose(centred_rows, expanded_rows, rtol=ROUNDING)
    assert_allclose(centred_rows.sum(), (n - 1) ** 2 * hsic_biased(K, K), rtol=ROUNDING)


# ------------------------------------------------------------------ independent packages


@pytest.fixture
def _uncompiled() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:  # half a minute of compiling otherwise
        patch.setattr(numba.config, "DISABLE_JIT", True)
        yield


@pytest.fixture
def hyppo_hsic(_uncompiled: None) -> Any:
    with warnings.catch_warnings():  # hyppo 0.5 imports from a module that SciPy deprecates
        warnings.filterwarnings("ignore", "Please import `random`", DeprecationWarning)
        from hyppo.independence import Hsic
    return Hsic


@pytest.fixture(scope="module")
def dcor() -> Any:
    import dcor  # compiles for some seconds the first time; it cannot be imported uncompiled

    return dcor


def test_cka__is_the_square_of_the_statistic_of_hyppo(hyppo_hsic: Any) -> None:
    theirs = hyppo_hsic(bias=True, gamma=0.5).statistic(RAMP, SQUARES)
    assert_allclose(theirs, 0.9167555097, atol=TABLE)
    assert_allclose(np.sqrt(cka(rbf(RAMP, 1), rbf(SQUARES, 1))), theirs, rtol=ROUNDING)


def test_hsic_unbiased__agrees_with_hyppo(hyppo_hsic: Any) -> None:
    gamma = 1 / (2 * median_bandwidth(squared_distances(RAMP), "offdiag") ** 2)
    K, L = rbf_kernel(RAMP, gamma=gamma), rbf_kernel(SQUARES, gamma=gamma)
    theirs = hyppo_hsic(bias=False).statistic(RAMP, SQUARES)
    ours = hsic_unbiased(K, L) / np.sqrt(hsic_unbiased(K, K) * hsic_unbiased(L, L))
    assert_allclose(theirs, 0.8328760334, atol=TABLE)
    assert_allclose(ours, theirs, rtol=ROUNDING)


def distance_kernel(X: np.ndarray) -> np.ndarray:
    """Return the kernel whose HSIC is a quarter of the squared distance covariance."""
    norms = np.linalg.norm(X, axis=1)
    return (norms[:, None] + norms[None, :] - euclidean_distances(X)) / 2


def test_hsic__agrees_with_the_distance_covariance_of_dcor(dcor: Any) -> None:
    n, K, L = len(RAMP), distance_kernel(RAMP), distance_kernel(SQUARES)
    plain = {"method": "naive", "compile_mode": dcor.CompileMode.NO_COMPILE}
    biased = 4 * hsic_biased(K, L) * (n - 1) ** 2 / n**2
    assert_allclose(biased, dcor.distance_covariance_sqr(RAMP, SQUARES, **plain), rtol=ROUNDING)
    assert_allclose(biased, 8.5339506173, atol=TABLE)
    unbiased = 4 * hsic_unbiased(K, L)
    assert_allclose(unbiased, dcor.u_distance_covariance_sqr(RAMP, SQUARES, **plain), rtol=ROUNDING)
    assert_allclose(unbiased, 7.7777777778, atol=TABLE)


def test_rbf_gram__agrees_with_scikit_learn(rng: np.random.Generator) -> None:
    X = rng.normal(size=(20, 5))
    assert_allclose(rbf_gram(squared_distances(X), 2.0), rbf(X, 2.0), rtol=4 * FLOOR)


def test_center_gram__agrees_with_scikit_learn(rng: np.random.Generator) -> None:
    K = rbf(rng.normal(size=(20, 5)), 2.0)
    assert_allclose(center_gram(K), KernelCenterer().fit_transform(K), rtol=0, atol=ROUNDING)


# ------------------------------------------------------------------ distances and bandwidths


def test_squared_distances__equal_a_double_loop(rng: np.random.Generator) -> None:
    X = rng.normal(size=(8, 4))
    expected = [[((a - b) ** 2).sum() for b in X] for a in X]
    assert_allclose(squared_distances(X), expected, rtol=ROUNDING, atol=ROUNDING)


def test_squared_distances__keep_their_digits_under_an_offset(rng: np.random.Generator) -> None:
    X = rng.normal(size=(30, 2000)).astype(np.float32)
    exact = squared_distances(X.astype(np.float64))
    distances = squared_distances(X + np.float32(100))
    off_diagonal = ~np.eye(30, dtype=bool)
    # Adding 100 rounds each value of X by up to 4e-6; two thousand of them average out.
    assert_allclose(distances[off_diagonal], exact[off_diagonal], rtol=1e-5)


def test_squared_distances__are_zero_on_the_diagonal_and_never_negative() -> None:
    X = np.full((50, 300), 0.1, dtype=np.float32)
    X[::2] += np.float32(1e-6)
    distances = squared_distances(X)
    assert distances.dtype == np.float32
    assert (np.diag(distances) == 0).all()
    assert (distances >= 0).all()


def test_median_bandwidth__of_a_parabola() -> None:
    D, E = squared_distances(RAMP), squared_distances(SQUARES)
    assert_allclose([median_bandwidth(D), median_bandwidth(E)], [2, 8], rtol=ROUNDING)
    offdiag = [median_bandwidth(D, "offdiag"), median_bandwidth(E, "offdiag")]
    assert_allclose(offdiag, [2, 9], rtol=ROUNDING)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9])
def test_median_bandwidth__is_the_lower_median_of_a_sorted_list(
    n: int, rng: np.random.Generator
) -> None:
    D = squared_distances(rng.normal(size=(n, 3)))
    everything = sorted(D.ravel())
    off = sorted(D[i, j] for i in range(n) for j in range(n) if i != j)
    assert median_bandwidth(D) == np.sqrt(everything[(len(everything) - 1) // 2])
    assert median_bandwidth(D, "offdiag") == np.sqrt(off[(len(off) - 1) // 2])


@pytest.mark.parametrize(("n_real", "n_fake"), [(64, 64), (50, 78), (5, 123)])
def test_median_bandwidth__of_labels_gives_the_delta_kernel(n_real: int, n_fake: int) -> None:
    y = np.repeat([0.0, 1.0], [n_real, n_fake])
    D = squared_distances(y[:, None])
    assert median_bandwidth(D) == 0
    assert_allclose(rbf_gram(D, 0.0), delta_gram(y), atol=ROUNDING)


# ------------------------------------------------------------------ invariances


def median_hsic(Z: np.ndarray, L: np.ndarray) -> float:
    D = squared_distances(Z)
    return hsic_biased(rbf_gram(D, median_bandwidth(D)), L)


def test_hsic__ignores_the_order_of_the_samples(rng: np.random.Generator) -> None:
    K, L = rbf(rng.normal(size=(20, 3)), 1.0), delta_gram(rng.integers(0, 2, 20))
    order = rng.permutation(20)
    P, Q = K[np.ix_(order, order)], L[np.ix_(order, order)]
    assert_allclose(hsic_biased(P, Q), hsic_biased(K, L), rtol=ROUNDING)
    assert_allclose(hsic_unbiased(P, Q), hsic_unbiased(K, L), rtol=1e3 * ROUNDING)


def test_hsic__ignores_rotation_translation_scale_and_label_names(rng: np.random.Generator) -> None:
    Z, y = rng.normal(size=(20, 4)), rng.integers(0, 2, 20)
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    expected = median_hsic(Z, delta_gram(y))
    for moved in (Z @ rotation, Z + 3.0, 100 * Z):
        assert_allclose(median_hsic(moved, delta_gram(y)), expected, rtol=2 * FLOOR)
    assert median_hsic(Z, delta_gram(1 - y)) == expected


def test_hsic_biased__normalised_by_n_squared_ignores_duplication(rng: np.random.Generator) -> None:
    Z, y = rng.normal(size=(10, 4)), rng.integers(0, 2, 10)
    once = hsic_biased(rbf(Z, 1), delta_gram(y)) * 9**2 / 10**2
    twice = hsic_biased(rbf(np.tile(Z, (2, 1)), 1), delta_gram(np.tile(y, 2))) * 19**2 / 20**2
    assert_allclose(twice, once, rtol=ROUNDING)


def test_cka__is_one_for_a_scaled_kernel_and_zero_to_one_otherwise(
    rng: np.random.Generator,
) -> None:
    K, L = rbf(rng.normal(size=(20, 3)), 1.0), rbf(rng.normal(size=(20, 3)), 1.0)
    assert_allclose(cka(K, 7 * K), 1, rtol=ROUNDING)
    assert 0 < cka(K, L) < 1


# ------------------------------------------------------------------ refusals


def test_hsic__matrices_must_fit_together() -> None:
    with pytest.raises(ValueError, match="same shape"):
        hsic_biased(np.eye(4), np.eye(5))
    with pytest.raises(ValueError, match="over all pairs"):
        hsic_biased(np.ones((4, 3)), np.eye(4))


def test_hsic_unbiased__needs_four_samples() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        hsic_unbiased(np.eye(3), np.eye(3))


def test_cka__refuses_a_constant_kernel() -> None:
    with pytest.raises(ValueError, match="constant"):
        cka(np.ones((4, 4)), np.eye(4))


def test_median_bandwidth__refuses_an_unknown_rule() -> None:
    with pytest.raises(ValueError, match="'with_diag' or 'offdiag', got 'mean'"):
        median_bandwidth(np.zeros((4, 4)), "mean")  # type: ignore[arg-type]


@pytest.mark.parametrize("bandwidth", [-1.0, float("nan")])
def test_rbf_gram__refuses_a_bad_bandwidth(bandwidth: float) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        rbf_gram(np.zeros((2, 2)), bandwidth)
