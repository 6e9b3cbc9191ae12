"""The statistics of the residual backbone, against loops and closed forms."""

from itertools import product

import numpy as np
import pytest
import scipy.signal

from featstore.backbones.forensics import (
    FILTERS,
    N_RINGS,
    ROUNDING_NOISE,
    Spectrum,
    cooccurrence,
    high_pass,
    moments,
    phases,
    quantise,
)

FLOAT32_SUM = 1e-5
"""Relative: sums of a few thousand float32 values, added pairwise."""
FFT_FLOAT32 = 1e-4
"""Relative: a float32 FFT of 32 x 32 values against a float64 Fourier matrix."""


def integers(rng, *shape):
    return rng.integers(0, 1021, shape).astype(np.float32)


def loop_cooccurrence(image, kernel, step, neighbour):
    """One filter, one image, the slow way: dictionaries and Python integers only."""
    kernel_rows, kernel_columns = len(kernel), len(kernel[0])
    rows, columns = len(image) - kernel_rows + 1, len(image[0]) - kernel_columns + 1
    level = {}
    for y, x in product(range(rows), range(columns)):
        places = product(range(kernel_rows), range(kernel_columns))
        total = sum(kernel[i][j] * int(image[y + i][x + j]) for i, j in places)
        level[y, x] = max(-2, min(2, round(total / step)))
    counts = {}
    for (y, x), a in level.items():
        b = level.get((y + neighbour[0], x + neighbour[1]))
        if b is not None:
            orbit = frozenset({(a, b), (b, a), (-a, -b), (-b, -a)})
            counts[orbit] = counts.get(orbit, 0) + 1
    every = {
        frozenset({(a, b), (b, a), (-a, -b), (-b, -a)})
        for a, b in product(range(-2, 3), range(-2, 3))
    }
    ordered = sorted(every, key=min)
    return np.array([counts.get(orbit, 0) for orbit in ordered]) / sum(counts.values())


@pytest.mark.parametrize("chosen", FILTERS, ids=lambda f: f.name)
def test_cooccurrence__equals_a_double_loop(rng, chosen):
    smooth = np.cumsum(rng.integers(-20, 21, (14, 15)), axis=1) + 500
    step = 4.0 * np.abs(chosen.kernel).max()
    image = smooth.astype(np.float32)
    levels = quantise(high_pass(image[None], chosen.kernel), step)
    for neighbour in chosen.neighbours:
        expected = loop_cooccurrence(image, chosen.kernel, step, neighbour)
        np.testing.assert_array_equal(cooccurrence(levels, neighbour), expected)


def test_cooccurrence__ignores_sign_and_order(rng):
    levels = rng.integers(0, 5, (2, 9, 9)).astype(np.uint8)
    expected = cooccurrence(levels, (0, 1))
    np.testing.assert_array_equal(cooccurrence((4 - levels).astype(np.uint8), (0, 1)), expected)
    np.testing.assert_array_equal(cooccurrence(levels[..., ::-1], (0, 1)), expected)


@pytest.mark.parametrize("chosen", FILTERS, ids=lambda f: f.name)
def test_high_pass__equals_scipy(rng, chosen):
    image = integers(rng, 12, 17)
    expected = scipy.signal.correlate2d(image.astype(int), np.array(chosen.kernel), "valid")
    np.testing.assert_array_equal(high_pass(image[None], chosen.kernel)[0], expected)


@pytest.mark.parametrize("chosen", FILTERS, ids=lambda f: f.name)
def test_filters__do_not_see_a_constant(chosen):
    assert np.sum(chosen.kernel) == 0


def test_phases__hold_every_pixel_once_and_its_transpose(rng):
    image = integers(rng, 24, 24)
    stack = phases(image, 4)
    assert stack.shape == (32, 6, 6)
    np.testing.assert_array_equal(np.sort(stack[:16], axis=None), np.sort(image, axis=None))
    np.testing.assert_array_equal(stack[4 * 1 + 3], image[1::4, 3::4])
    np.testing.assert_array_equal(stack[16 + 4 * 1 + 3], image[1::4, 3::4].T)


def test_moments__equal_the_formulas_of_a_noisy_residual(rng):
    residuals = rng.normal(0, 3, (2, 40, 40)).astype(np.float32)
    residuals[0, :4] = 0
    exact = residuals.astype(np.float64)
    second, fourth = np.mean(exact**2), np.mean(exact**4)
    noise = ROUNDING_NOISE
    expected = [
        4 * 40 / exact.size,
        np.log10(np.abs(exact).mean() + np.sqrt(noise)),
        np.log10(second + noise),
        np.log10((fourth + 6 * second * noise + 3 * noise**2) / (second + noise) ** 2),
    ]
    np.testing.assert_allclose(moments(residuals), expected, rtol=FLOAT32_SUM)


def test_moments__of_nothing_are_those_of_rounding_noise():
    zeros, _, variance, kurtosis = moments(np.zeros((1, 8, 8), np.float32))
    assert (zeros, variance) == (1.0, np.log10(ROUNDING_NOISE))
    assert kurtosis == pytest.approx(np.log10(3))


def loop_power(residuals, size):
    """Windowed periodogram with a float64 Fourier matrix instead of an FFT."""
    side = residuals.shape[1]
    window = np.sin(np.pi * np.arange(1, side + 1) / (side + 1)) ** 2
    window /= np.sqrt(np.sum(window**2))
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(size), np.arange(side)) / size)
    images = residuals.astype(np.float64) * np.outer(window, window)
    return np.mean([np.abs(fourier @ image @ fourier.T) ** 2 for image in images], axis=0)


@pytest.mark.parametrize(("side", "size"), [(12, 32), (33, 36), (60, 60)])
def test_spectrum__power_equals_a_fourier_matrix(rng, side, size):
    residuals = rng.normal(0, 2, (3, side, side)).astype(np.float32)
    spectrum = Spectrum(side)
    assert spectrum.size == size
    power = spectrum.power(residuals)
    np.testing.assert_allclose(power, loop_power(residuals, size), rtol=FFT_FLOAT32, atol=1e-4)


@pytest.mark.parametrize("side", [12, 28, 60])
def test_spectrum__rings_equal_a_double_loop(rng, side):
    spectrum = Spectrum(side)
    power = rng.exponential(1, (spectrum.size, spectrum.size)).astype(np.float32)
    sums, counts = [0.0] * (N_RINGS + 1), [0] * (N_RINGS + 1)
    for row, column in product(range(spectrum.size), range(spectrum.size)):
        waves = [min(k, spectrum.size - k) for k in (row, column)]
        cycles_per_pixel = np.sqrt(waves[0] ** 2 + waves[1] ** 2) / spectrum.size
        ring = min(int(cycles_per_pixel / 0.5 * N_RINGS), N_RINGS)
        sums[ring] += float(power[row, column])
        counts[ring] += 1
    np.testing.assert_allclose(spectrum.rings(power), np.array(sums) / counts, rtol=FLOAT32_SUM)


@pytest.mark.parametrize("side", [4, 12, 25, 33, 124, 252])
def test_spectrum__no_ring_is_empty(side):
    spectrum = Spectrum(side)
    rings = spectrum.rings(np.ones((spectrum.size, spectrum.size), np.float32))
    np.testing.assert_array_equal(rings, np.ones(N_RINGS + 1))


@pytest.mark.parametrize(
    ("peak", "period"),
    [(0, (1, 4)), (1, (1, 2)), (2, (4, 4)), (3, (2, 4)), (4, (2, 2))],
)
def test_spectrum__finds_the_pattern_of_an_upsampling(rng, peak, period):
    noise = rng.normal(0, 1, (2, 60, 60))
    y, x = np.arange(60)[:, None], np.arange(60)
    rows, columns = (np.cos(2 * np.pi * axis / p) for axis, p in zip((y, x), period, strict=True))
    spectrum = Spectrum(60)
    patterned = spectrum.power((noise + 3 * rows * columns).astype(np.float32))
    peaks = spectrum.peaks(patterned)
    assert peaks.argmax() == peak
    assert peaks[peak] > 1
    assert np.delete(peaks, peak).max() < 0.5
