"""Shifted systems against Cholesky factors and least squares in float64."""

from typing import Any

import numpy as np
import pytest
from scipy.linalg import cho_factor, cho_solve

from heads.closed_form.spectrum import Spectrum

SHIFTS = np.array([1e-6, 1e-2, 1.0, 1e3])


def gram(n_rows: int, scales: Any) -> Any:
    X = np.random.default_rng(0).normal(size=(n_rows, len(scales))) * scales
    return X.T @ X


@pytest.mark.parametrize("scales", [np.ones(20), np.logspace(-3, 3, 20)], ids=["equal", "graded"])
def test_spectrum__solves_as_well_as_cholesky(scales: Any) -> None:
    A, rhs = gram(200, scales), np.random.default_rng(1).normal(size=(20, 3))
    rhs *= scales[:, None]
    solutions = Spectrum(A).solve(rhs, SHIFTS)
    for shift, solution in zip(SHIFTS, solutions, strict=True):
        expected = cho_solve(cho_factor(A + shift * np.eye(20)), rhs)
        # In every single unknown, of which the smallest are 1e-6 of the largest.
        np.testing.assert_allclose(solution, expected, rtol=1e-8)


def test_spectrum__without_shift_gives_the_minimum_norm() -> None:
    A = gram(5, np.ones(20))
    rhs = A @ np.random.default_rng(1).normal(size=(20, 2))
    (solution,) = Spectrum(A).solve(rhs, np.zeros(1))
    expected = np.linalg.lstsq(A, rhs, rcond=1e-12)[0]
    np.testing.assert_allclose(solution, expected, atol=1e-12)


def test_spectrum__of_zero_gives_zero() -> None:
    (solution,) = Spectrum(np.zeros((3, 3))).solve(np.zeros((3, 1)), np.zeros(1))
    np.testing.assert_array_equal(solution, 0)


def test_spectrum__shifts_below_rounding_do_not_blow_rounding_up() -> None:
    scales = np.logspace(-6, 6, 20)
    X = np.random.default_rng(0).normal(size=(300, 20)) * scales
    target = X @ (1 / scales)
    (solution,) = Spectrum(X.T @ X).solve((X.T @ target)[:, None], np.array([1e-12]))
    # Least squares fits the target wholly; no solution should be further from it than zero is.
    assert np.linalg.norm(X @ solution[:, 0] - target) <= np.linalg.norm(target)
