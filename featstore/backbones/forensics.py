"""How a pixel relates to its neighbours: the statistics behind the `residual` backbone.

High-pass residuals of the "spatial rich model" family and their co-occurrences follow [1]_, the
azimuthally averaged spectrum [2]_, the peaks that upsampling leaves at fractions of the sampling
rate [3]_. All functions take stacks of square images (n_images, side, side) in float32 and pool
over the stack. Logarithms are decimal.

References
----------
.. [1] J. Fridrich, J. Kodovsky, "Rich models for steganalysis of digital images", IEEE TIFS 7(3),
   2012: linear residuals, and their quantised, truncated and symmetrised co-occurrences.
.. [2] R. Durall, M. Keuper, J. Keuper, "Watch your up-convolution: CNN based generative deep
   neural networks are failing to reproduce spectral distributions", CVPR 2020.
.. [3] J. Frank et al., "Leveraging frequency analysis for deep fake image recognition", ICML 2020.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

TRUNCATION = 2
N_RINGS = 16
ROUNDING_NOISE = 1 / 12
"""Variance of rounding to integers, in squared grey levels: the floor under every logarithm."""

Stack = NDArray[np.float32]
Values = NDArray[np.float64]


class Filter(NamedTuple):
    """A high-pass kernel and the two neighbours (rows down, columns right) it is paired with."""

    name: str
    kernel: tuple[tuple[int, ...], ...]
    neighbours: tuple[tuple[int, int], tuple[int, int]]


_ALONG_ACROSS = ((0, 1), (1, 0))
_STRAIGHT_DIAGONAL = ((0, 1), (1, 1))
FILTERS = (
    Filter("first", ((-1, 1),), _ALONG_ACROSS),
    Filter("second", ((1, -2, 1),), _ALONG_ACROSS),
    Filter("third", ((1, -3, 3, -1),), _ALONG_ACROSS),
    Filter("edge3", ((-1, 2, -1), (2, -4, 2)), _ALONG_ACROSS),
    Filter("square3", ((-1, 2, -1), (2, -4, 2), (-1, 2, -1)), _STRAIGHT_DIAGONAL),
    Filter(
        "square5",
        (
            (-1, 2, -2, 2, -1),
            (2, -6, 8, -6, 2),
            (-2, 8, -12, 8, -2),
            (2, -6, 8, -6, 2),
            (-1, 2, -2, 2, -1),
        ),
        _STRAIGHT_DIAGONAL,
    ),
)


def phases(image: Stack, step: int) -> Stack:
    """Return every `step`-th pixel of an image, for all starts, and the transposes.

    Parameters
    ----------
    image
        Shape (side, side).
    step
        Positive divisor of the side.

    Returns
    -------
    ndarray
        Shape (2 * step**2, side / step, side / step): the phases, then their transposes, so that
        statistics pooled over the stack do not prefer a direction.

    Examples
    --------
    >>> phases(np.arange(16, dtype=np.float32).reshape(4, 4), 2)[1].tolist()
    [[1.0, 3.0], [9.0, 11.0]]
    """
    side = len(image) // step
    split = image.reshape(side, step, side, step).transpose(1, 3, 0, 2).reshape(-1, side, side)
    return np.concatenate([split, split.transpose(0, 2, 1)])


def high_pass(images: Stack, kernel: tuple[tuple[int, ...], ...]) -> Stack:
    """Correlate images with a kernel, without padding.

    Parameters
    ----------
    images
        Shape (n_images, height, width); integers below 2**17 give exact results.
    kernel
        Rows of integer weights.

    Returns
    -------
    ndarray
        Shape (n_images, height - kernel height + 1, width - kernel width + 1).

    Examples
    --------
    >>> high_pass(np.array([[[1, 4, 9, 16]]], np.float32), ((1, -2, 1),)).tolist()
    [[[2.0, 2.0]]]
    """
    height, width = images.shape[1] - len(kernel) + 1, images.shape[2] - len(kernel[0]) + 1
    total = np.zeros((len(images), height, width), np.float32)
    term = np.empty_like(total)
    for (i, j), weight in np.ndenumerate(np.array(kernel, np.float32)):
        np.multiply(images[:, i : i + height, j : j + width], weight, out=term)
        total += term
    return total


def quantise(residuals: Stack, step: float) -> NDArray[np.uint8]:
    """Round residuals to multiples of a step, truncate them at ±2 steps and add 2.

    Parameters
    ----------
    residuals
        Any shape.
    step
        Positive; SRM's ``q``.

    Returns
    -------
    ndarray
        Same shape, values 0 to 4. Ties go to the even multiple.

    Examples
    --------
    >>> quantise(np.array([-9.0, -1.0, 0.4, 2.2], np.float32), 1.0)
    array([0, 1, 2, 4], dtype=uint8)
    """
    scaled = residuals * np.float32(1 / step)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -TRUNCATION, TRUNCATION, out=scaled)
    scaled += TRUNCATION
    return scaled.astype(np.uint8)


def _symmetry_classes() -> NDArray[np.intp]:
    """Give the pairs (a, b), (b, a), (-a, -b) and (-b, -a) one number."""
    levels = range(-TRUNCATION, TRUNCATION + 1)
    return _numbered([min((a, b), (b, a), (-a, -b), (-b, -a)) for a, b in product(levels, levels)])


def _numbered(pairs: list[tuple[int, int]]) -> NDArray[np.intp]:
    order = sorted(set(pairs))
    return np.array([order.index(pair) for pair in pairs])


_CLASSES = _symmetry_classes()


def cooccurrence(levels: NDArray[np.uint8], neighbour: tuple[int, int]) -> Values:
    """Return how often quantised residuals meet at one displacement.

    Parameters
    ----------
    levels
        Shape (n_images, height, width), values 0 to 4.
    neighbour
        Rows down and columns right, not negative, smaller than the image.

    Returns
    -------
    ndarray
        Shape (9,): frequencies, sum 1, of the pairs (a, b) merged with (b, a), (-a, -b) and
        (-b, -a).

    Examples
    --------
    >>> cooccurrence(np.full((1, 8, 8), 2, np.uint8), (0, 1)).max()
    np.float64(1.0)
    """
    down, right = neighbour
    height, width = levels.shape[1] - down, levels.shape[2] - right
    pairs = levels[:, :height, :width] * np.uint8(2 * TRUNCATION + 1)
    pairs += levels[:, down:, right:]
    counts = np.bincount(pairs.ravel(), minlength=len(_CLASSES))
    return np.bincount(_CLASSES, weights=counts) / pairs.size


def moments(residuals: Stack) -> tuple[float, float, float, float]:
    """Return the share of zeros and the logarithms of mean modulus, variance and kurtosis.

    Parameters
    ----------
    residuals
        In grey levels, any shape.

    Returns
    -------
    tuple of float
        Finite for zeros: variance and kurtosis are those after adding Gaussian noise of variance
        `ROUNDING_NOISE`, the modulus has its standard deviation added.
    """
    zeros = 1 - np.count_nonzero(residuals) / residuals.size
    work = np.abs(residuals)
    modulus = work.mean()
    np.square(work, out=work)
    square = float(work.mean())
    np.square(work, out=work)
    noisy = square + ROUNDING_NOISE
    fourth = work.mean() + 6 * square * ROUNDING_NOISE + 3 * ROUNDING_NOISE**2
    logs = np.log10([modulus + np.sqrt(ROUNDING_NOISE), noisy, fourth / noisy**2])
    return (zeros, *logs.tolist())


class Spectrum:
    """Power spectrum of stacks of residuals of one size: rings and peaks.

    Parameters
    ----------
    side
        Side of the residuals in pixels, positive. Spectra have at least 32 x 32 bins.
    """

    def __init__(self, side: int) -> None:
        window = np.hanning(side + 2)[1:-1].astype(np.float32)
        window /= np.sqrt(np.square(window).sum())
        self._window = window[:, None] * window
        self.size = max(2 * N_RINGS, -(-side // 4) * 4)
        wave = np.arange(self.size)
        wave = np.minimum(wave, self.size - wave)
        radius = np.sqrt((2 * N_RINGS) ** 2 * (wave[:, None] ** 2 + wave**2)) / self.size
        self._ring = np.minimum(radius.astype(np.intp), N_RINGS).ravel()
        quarters = [(i, j) for i, j in product(range(4), range(4)) if i or j]
        folded = [(min(i, 4 - i), min(j, 4 - j)) for i, j in quarters]
        self._kind = _numbered([(min(pair), max(pair)) for pair in folded])
        centre = np.array(quarters)[:, :, None] * (self.size // 4) + np.arange(-3, 4)
        rows, columns = centre[:, 0, :, None] % self.size, centre[:, 1, None] % self.size
        self._near = (rows * self.size + columns).reshape(len(quarters), -1)

    def power(self, residuals: Stack) -> Stack:
        """Return the mean windowed periodogram of a stack.

        Parameters
        ----------
        residuals
            Shape (n_images, side, side).

        Returns
        -------
        ndarray
            Shape (size, size), zero frequency first; white noise of variance v has power v.
        """
        waves = scipy.fft.fft2(residuals * self._window, s=(self.size, self.size))
        power: Stack = (np.square(waves.real) + np.square(waves.imag)).mean(axis=0)
        return power

    def rings(self, power: Stack) -> Values:
        """Return the mean power in 16 equal rings up to the Nyquist frequency and in the corners.

        Parameters
        ----------
        power
            Shape (size, size), zero frequency first.

        Returns
        -------
        ndarray
            Shape (17,), from low to high frequency.
        """
        return np.bincount(self._ring, weights=power.ravel()) / np.bincount(self._ring)

    def peaks(self, power: Stack) -> Values:
        """Return how far the power rises above the median of the 7 x 7 bins around it.

        Parameters
        ----------
        power
            Shape (size, size), zero frequency first.

        Returns
        -------
        ndarray
            Shape (5,): logarithms of the ratio at (0, 1), (0, 2), (1, 1), (1, 2) and (2, 2)
            quarters of the sampling rate, where upsampling by 2 and by 4 leaves its traces;
            averaged over the directions of each.
        """
        near = power.ravel()[self._near] + ROUNDING_NOISE
        rise = np.log10(near[:, near.shape[1] // 2] / np.median(near, axis=1))
        return np.bincount(self._kind, weights=rise) / np.bincount(self._kind)
