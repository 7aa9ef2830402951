"""Normalization: intensities scaled by percentiles of the whole image.

The percentiles come from a sample that depends on the image alone, never on tiles or shards, and the same pixel gives
the same float32 wherever it lies in an array: only correctly rounded elementwise operations are used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError

if TYPE_CHECKING:
    from unettile.images.slide import Slide

WHOLE_PIXELS = 2**22
"""Images of up to this many pixels are measured whole."""

SAMPLE_BOXES = 256
SAMPLE_EDGE = 128

LOWEST, HIGHEST = -1.0, 4.0
"""Scaled intensities are clipped to this range: a hot pixel must not drown its neighbourhood."""


@dataclass(frozen=True)
class Scaling:
    """The intensities of one image that become 0 and 1.

    Args:
        low: per channel, what becomes 0.
        high: per channel, what becomes 1; where it equals `low` the channel is constant and becomes 0.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or not self.low:
            raise ValueError("a scaling needs one low and one high intensity for each channel")
        if not all(math.isfinite(a) and math.isfinite(b) and a <= b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(f"a scaling needs finite intensities, low ≤ high: got {self.low}, {self.high}")

    def apply(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Return (pixels - low) / (high - low), clipped to [-1, 4], float32.

        Args:
            pixels: (…, C), any real type, finite.

        >>> Scaling((10.0,), (20.0,)).apply(np.array([[10], [15], [255]], np.uint8)).ravel().tolist()
        [0.0, 0.5, 4.0]
        """
        assert pixels.shape[-1] == len(self.low), f"{pixels.shape[-1]} channels, the scaling has {len(self.low)}"
        # float32 holds every number of these types; of wider ones the difference is taken before it is rounded.
        narrow = pixels.dtype in (np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.float16, np.float32)
        dtype = np.dtype(np.float32 if narrow else np.float64)
        low: NDArray[Any] = np.array(self.low).astype(dtype)
        spread: NDArray[Any] = np.array(self.high).astype(dtype) - low
        constant = spread <= 0
        scaled: NDArray[Any] = pixels.astype(dtype)
        scaled -= low
        scaled /= np.where(constant, np.ones_like(spread), spread)
        if constant.any():
            scaled[..., constant] = 0
        np.clip(scaled, LOWEST, HIGHEST, out=scaled)
        return scaled.astype(np.float32, copy=False)

    def to_dict(self) -> dict[str, Any]:
        return {"low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Scaling:
        return cls(tuple(float(v) for v in values["low"]), tuple(float(v) for v in values["high"]))


@dataclass(frozen=True)
class Normalization:
    """How an image's intensities are scaled.

    Args:
        low_percentile: of the image's pixels, becomes 0.
        high_percentile: of the image's pixels, becomes 1.
        per_channel: each channel by its own percentiles; otherwise all by those of all channels together, which keeps
            the colour of a stain.
        signed: the low percentile becomes -1 instead of 0.
        intensities: two numbers that become 0 and 1 in every image, instead of its percentiles; empty for those.
        moments: the mean becomes 0, and the mean and a standard deviation 1, instead of the percentiles.
        room: what would become 1 becomes 1 / room: clipping is so far off that nothing is clipped. The network
            multiplies by as much.
        eps: is added to the difference of the two intensities.

    Raises:
        ValueError: not 0 ≤ low < high ≤ 100, or no two intensities that rise.
    """

    low_percentile: float = 1.0
    high_percentile: float = 99.8
    per_channel: bool = False
    signed: bool = False
    intensities: tuple[float, ...] = ()
    moments: bool = False
    room: float = 1.0
    eps: float = 0.0

    def __post_init__(self) -> None:
        if not (1 <= self.room <= 2**60 and 0 <= self.eps < math.inf):
            raise ValueError(f"room {self.room:g} and eps {self.eps:g} do not fit: need 1 and more, 0 and more")
        if self.intensities and (len(self.intensities) != 2 or not self.intensities[0] < self.intensities[1]):
            raise ValueError(f"intensities {self.intensities} do not fit: need two, the first below the second")
        if not 0.0 <= self.low_percentile < self.high_percentile <= 100.0:
            raise ValueError(
                f"percentiles {self.low_percentile:g} and {self.high_percentile:g} do not fit:"
                " need 0 ≤ low < high ≤ 100"
            )

    def measure(self, slide: Slide) -> Scaling:
        """Return the scaling of an image, from all its pixels or, if it is large, from a fixed sample.

        Pixels without data, where the slide knows of such, are left out.

        Raises:
            InputError: a sampled pixel is not a finite number, or the image cannot be read.
        """
        return self._scaling(sample_pixels(slide))

    def measure_stack(self, slides: Iterable[Slide], count: int) -> Scaling:
        """Return the one scaling of several images, planes of a stack; a sample of each has an equal share.

        Args:
            slides: of the same channels; each is looked at once, and may be closed then.
            count: how many there are.

        Raises:
            InputError: as `measure`.
        """
        return self._scaling(np.concatenate([sample_pixels(slide, count) for slide in slides]))

    def measure_array(self, pixels: NDArray[Any]) -> Scaling:
        """Return the scaling of an image in memory (H, W, C): the same numbers as `measure` of its file.

        Raises:
            InputError: a sampled pixel is not a finite number.
        """
        height, width, channels = pixels.shape
        parts = [pixels[box.slices].reshape(-1, channels) for box in sample_boxes((height, width))]
        sample = np.concatenate(parts)
        if sample.dtype.kind == "f" and not np.isfinite(sample).all():
            raise InputError("an image holds pixels that are not finite numbers; replace NaN and infinities")
        return self._scaling(sample)

    def _scaling(self, sample: NDArray[Any]) -> Scaling:
        """Return the scaling from sampled pixels (n, C)."""
        measure = _moments if self.moments else partial(_percentiles, ends=(self.low_percentile, self.high_percentile))
        channels = sample.shape[1]
        pairs: list[tuple[float, float]]
        if self.intensities:
            pairs = [(self.intensities[0], self.intensities[1])] * channels
        elif self.per_channel:
            pairs = [measure(sample[:, channel]) for channel in range(channels)]
        else:
            pairs = [measure(sample.ravel())] * channels
        if self.signed:  # what becomes 0 lies in the middle
            pairs = [((low + high) / 2, high) for low, high in pairs]
        if self.room > 1 or self.eps:
            pairs = [(low, low + self.room * (high - low + self.eps)) for low, high in pairs]
        return Scaling(tuple(low for low, _ in pairs), tuple(high for _, high in pairs))

    def to_dict(self) -> dict[str, Any]:
        return {
            "low_percentile": self.low_percentile,
            "high_percentile": self.high_percentile,
            "per_channel": self.per_channel,
            **({"signed": True} if self.signed else {}),  # the plans and masks of other models stay what they were
            **({"intensities": list(self.intensities)} if self.intensities else {}),
            **({"moments": True} if self.moments else {}),
            **({"room": self.room} if self.room > 1 else {}),
            **({"eps": self.eps} if self.eps else {}),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Normalization:
        percentiles = float(values["low_percentile"]), float(values["high_percentile"])
        intensities = tuple(float(value) for value in values.get("intensities", ()))
        return cls(
            *percentiles,
            bool(values["per_channel"]),
            bool(values.get("signed", False)),
            intensities,
            bool(values.get("moments", False)),
            float(values.get("room", 1.0)),
            float(values.get("eps", 0.0)),
        )


def sample_pixels(slide: Slide, sharing: int = 1) -> NDArray[Any]:
    """Return the pixels (n, C) of an image that are measured, without those that hold no data.

    Args:
        sharing: so many images are measured together.

    Raises:
        InputError: one of them is not a finite number, or the image cannot be read.
    """
    parts = []
    for box in sample_boxes(slide.shape, sharing):
        pixels = slide.read(box)
        check_finite(pixels, box, slide.path)
        known = slide.known(box)
        parts.append(pixels.reshape(-1, slide.channels) if known is None else pixels[known])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def sample_boxes(shape: tuple[int, int], sharing: int = 1) -> Iterator[Box]:
    """Yield the boxes whose pixels are measured: the whole image, or up to 256 boxes of 128 px spread evenly over it.

    A function of the image's shape alone, and of how many images share the sample. A long narrow image gets more boxes
    along its length.
    """
    height, width = shape
    if height * width * sharing <= WHOLE_PIXELS:
        yield Box.of_shape(shape)
        return
    most = max(1, SAMPLE_BOXES // sharing)
    side = math.isqrt(most)
    rows = min(side, -(-height // SAMPLE_EDGE))
    columns = min(most // rows, -(-width // SAMPLE_EDGE))
    rows = min(most // columns, -(-height // SAMPLE_EDGE))
    for row in range(rows):
        y0, y1 = _piece(row, rows, height)
        for column in range(columns):
            x0, x1 = _piece(column, columns, width)
            yield Box(y0, x0, y1, x1)


def check_finite(pixels: NDArray[Any], box: Box, path: Path) -> None:
    """Refuse pixels that are not finite numbers; integers always are.

    Args:
        pixels: (h, w, C), read from `box` of the image at `path`.

    Raises:
        InputError: names the first such pixel.
    """
    if pixels.dtype.kind != "f":
        return
    finite = np.isfinite(pixels)
    if not finite.all():
        y, x, channel = np.argwhere(~finite)[0].tolist()
        raise InputError(
            f"{path}: the pixel at y {box.y0 + y}, x {box.x0 + x} is {pixels[y, x, channel]};"
            " need finite numbers: replace NaN and infinities"
        )


def _piece(index: int, count: int, length: int) -> tuple[int, int]:
    """Return start and stop of a sampled piece, in the middle of its share of the length."""
    edge = min(SAMPLE_EDGE, length)
    start = (2 * index + 1) * length // (2 * count) - edge // 2
    start = max(0, min(length - edge, start))
    return start, start + edge


def _moments(values: NDArray[Any]) -> tuple[float, float]:
    exact = values.astype(np.float64)
    mean = float(exact.mean())
    return mean, mean + float(exact.std())


def _percentiles(values: NDArray[Any], ends: tuple[float, float]) -> tuple[float, float]:
    # Differences of small unsigned numbers in order are exact in their own type, which takes an eighth of the memory.
    exact = values.dtype in (np.uint8, np.uint16)
    low, high = np.percentile(values if exact else values.astype(np.float64), ends)
    return float(low), float(high)
