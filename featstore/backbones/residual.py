"""`ResidualBackbone`: weight-free forensic statistics, the embedded backbone for a first look.

**What it is not.** It is not a foundation model: nothing was learnt, nothing is downloaded, and it
sees no objects. It measures how a pixel relates to its neighbours, see
`featstore.backbones.forensics` for the statistics and their sources.

**What it is sensitive to.** Codec, JPEG quality, scaling, sharpening and camera noise all change
these numbers, often more than a generator does. If the real and the generated images of a
collection differ in any of them, a head on these features reports that difference. Images smaller
than the crop are padded with black, and the border of the padding is a strong edge: image size
then leaks into every feature. Choose a crop that fits the smallest image.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import forensics
from featstore.backbones.protocol import Features, Layer
from featstore.errors import ConfigError
from featstore.images.preprocess import Preprocess

ALGORITHM = 1
"""Version of the numbers, part of the fingerprint. Bump it when any feature changes."""

N_SCALES = 4
DEFAULT_CROP, MIN_CROP = 256, 64
LUMA = (1, 2, 1)
"""Weights of R, G and B; integers, so that residuals are exact in float32."""


class ResidualBackbone:
    """Residual, co-occurrence and spectral statistics of an image at four scales, without weights.

    Scale ``s`` looks at every ``2**s``-th pixel: all ``4**s`` phases of the luma and their
    transposes form one stack, without interpolation, and each statistic is pooled over the stack.
    Per scale and filter: two co-occurrences of nine bins (square roots of the frequencies), the
    share of zeros, and the logarithms of mean modulus, variance and kurtosis. Per scale: the
    logarithmic power spectrum of the residual of the last filter, averaged over 17 rings, and how
    far it rises above its surroundings at multiples of a quarter of the sampling rate.

    Parameters
    ----------
    model
        Side of the crop in pixels, a multiple of 8 and at least 64; 256 if empty.
    weights
        Must stay empty: there are none.
    taps, precision, device
        Must stay at their defaults: there is one tap, in float32, on the CPU.
    preprocess
        Geometry instead of the native centre crop; its crop must agree with `model`.

    Raises
    ------
    ConfigError
        If an argument asks for what this backbone does not have.

    Notes
    -----
    Every image is treated by itself: its row is bit-equal in any batch. An image of 128 pixels
    takes about 9 ms of one core, one of 256 pixels about 35 ms (AMD EPYC).

    Examples
    --------
    >>> backbone = ResidualBackbone("64")
    >>> backbone.submit(np.zeros((2, 64, 64, 3), np.uint8))()["cls"].shape
    (2, 4, 154)
    """

    def __init__(
        self,
        model: str = "",
        weights: str = "",
        *,
        taps: tuple[str, ...] = (),
        precision: str = "fp32",
        device: str = "cpu",
        preprocess: Preprocess | None = None,
    ) -> None:
        _refuse("weights", weights, "")
        _refuse("taps", tuple(taps), ())
        _refuse("precision", precision, "fp32")
        _refuse("device", device, "cpu")
        self.preprocess = preprocess or Preprocess(crop=_crop(model or str(DEFAULT_CROP)))
        crop = _crop(str(self.preprocess.crop))
        if model and _crop(model) != crop:
            raise ConfigError(
                f"'model' and the crop of 'preprocess' must agree, got {model!r} and {crop!r}; "
                "leave one of them out."
            )
        self.name = f"residual:{crop}"
        last = len(forensics.FILTERS[-1].kernel)
        self._spectra = [forensics.Spectrum(crop // 2**s - last + 1) for s in range(N_SCALES)]
        width = len(self._scale(np.zeros((crop, crop), np.float32), 0))
        self.layers = [Layer(f"scale.{s}", "residual", s, width) for s in range(N_SCALES)]

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the numbers, as JSON types, for the fingerprint.

        Returns
        -------
        dict
            Algorithm version, filters and constants, versions of NumPy and SciPy.
        """
        return {
            "model": self.name,
            "algorithm": ALGORITHM,
            "weights_sha256": None,
            "normalisation": {"luma": list(LUMA)},
            "precision": "fp32",
            "taps": ["residual"],
            "filters": {f.name: [list(row) for row in f.kernel] for f in forensics.FILTERS},
            "truncation": forensics.TRUNCATION,
            "rings": forensics.N_RINGS,
            "versions": {name: version(name) for name in ("numpy", "scipy")},
        }

    def submit(self, pixels: NDArray[np.uint8]) -> Callable[[], Features]:
        """Compute the features; there is no device to wait for, so the call itself does the work.

        Parameters
        ----------
        pixels
            Images, shape (n_images, crop, crop, 3), RGB.

        Returns
        -------
        callable
            Returns ``{"cls": float32 (n_images, 4, 154)}``, finite for any pixels.

        Raises
        ------
        ValueError
            If the images are not of the size of the crop.
        """
        crop = self.preprocess.crop
        if pixels.shape[1:] != (crop, crop, 3):
            raise ValueError(
                f"'pixels' must have shape (n_images, {crop}, {crop}, 3), got {pixels.shape!r}."
            )
        cls = np.empty((len(pixels), N_SCALES, self.layers[0].width), np.float32)
        for row, image in zip(cls, pixels, strict=True):
            luma = sum(weight * image[..., i].astype(np.float32) for i, weight in enumerate(LUMA))
            for scale in range(N_SCALES):
                row[scale] = self._scale(luma, scale)
        return lambda: {"cls": cls}

    def _scale(self, luma: forensics.Stack, scale: int) -> list[float]:
        stack = forensics.phases(luma, 2**scale)
        values: list[float] = []
        for _, kernel, neighbours in forensics.FILTERS:
            residuals = forensics.high_pass(stack, kernel)
            levels = forensics.quantise(residuals, sum(LUMA) * np.abs(kernel).max())
            for neighbour in neighbours:
                values.extend(np.sqrt(forensics.cooccurrence(levels, neighbour)))
            residuals *= np.float32(1 / (sum(LUMA) * np.linalg.norm(kernel)))
            values.extend(forensics.moments(residuals))
        spectrum = self._spectra[scale]
        power = spectrum.power(residuals[: len(stack) // 2])
        values.extend(np.log10(spectrum.rings(power) + forensics.ROUNDING_NOISE))
        values.extend(spectrum.peaks(power))
        return values


def _refuse(argument: str, value: Any, only: Any) -> None:
    if value != only:
        raise ConfigError(
            f"backbone 'residual' has no {argument} to choose: {argument!r} must be {only!r}, "
            f"got {value!r}; leave it out."
        )


def _crop(text: str) -> int:
    if not text.isdecimal() or int(text) < MIN_CROP or int(text) % 2 ** (N_SCALES - 1):
        raise ConfigError(
            f"the crop of backbone 'residual' must be a multiple of {2 ** (N_SCALES - 1)} and at "
            f"least {MIN_CROP}, got {text!r}; write for instance 'residual:{DEFAULT_CROP}'."
        )
    return int(text)
