"""View: which 2-D image of a file is meant, and what is known of its pixels.

file ── series ── level ── z, t ── channels        a slide is one leaf of this tree
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from unettile.errors import UsageError
from unettile.images.channels import NoSuchChannel, find_channels
from unettile.images.pixelsize import PixelSize
from unettile.wording import size_text

SAME_SIZE = 1.05
"""Pixels whose edges differ by no more than this factor count as equally large: nothing is resampled for less."""

OPTIONS = {"series": "--series", "level": "--level", "mpp": "--mpp", "channels": "--channel", "z": "--z", "t": "--time"}
"""Fields of a view and the options that choose them."""

_LISTED = 8


class NoSuchImage(Exception):
    """What a view asks for is not in the file; the message completes "FILE: …"."""


class ManyPlanes(NoSuchImage):
    """A stack of which no plane was chosen.

    Args:
        axis: along which there are several, "z" or "t".
        length: how many.
    """

    def __init__(self, message: str, axis: str, length: int) -> None:
        super().__init__(message)
        self.axis, self.length = axis, length


@dataclass(frozen=True)
class Level:
    """One resolution of an image.

    Args:
        shape: height and width, px.
        downsample: how many pixels of the largest resolution one pixel is, (y, x).
        pixel_size_um: height and width of a pixel, micrometres; None if the file does not say.
    """

    shape: tuple[int, int]
    downsample: tuple[float, float] = (1.0, 1.0)
    pixel_size_um: PixelSize | None = None


@dataclass(frozen=True)
class View:
    """Which image of a file is meant; what is None is the file's only choice, or its first.

    A slide's own view is complete: opened with it again, the file gives the same pixels. Only `mpp` may still be None,
    where nothing is resampled.

    Args:
        series: of a file with several images, counted from 0.
        level: resolution, 0 is the largest; with `mpp`, the one to resample.
        mpp: edge of a pixel, micrometres.
        channels: by number, counted from 0, or by the name that the file gives them; text that is no name is a number.
        z: plane of a stack, counted from 0.
        t: point in time, counted from 0.

    Raises:
        UsageError: a number that cannot be meant.
    """

    series: int | None = None
    level: int | None = None
    mpp: float | None = None
    channels: tuple[int | str, ...] | None = None
    z: int | None = None
    t: int | None = None

    def __post_init__(self) -> None:
        for name in ("series", "level", "z", "t"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UsageError(f"{OPTIONS[name]} {value} cannot be meant: need a number counted from 0")
        if self.mpp is not None and not (math.isfinite(self.mpp) and self.mpp > 0):
            raise UsageError(f"--mpp {self.mpp:g} cannot be meant: need micrometres per pixel, like 0.5")
        if self.channels is not None and not self.channels:
            raise UsageError("--channel names none: need channel numbers counted from 0, like 0 or 0,1,2")

    def to_dict(self) -> dict[str, Any]:
        """Return the view as JSON."""
        values = asdict(self)
        return values if self.channels is None else values | {"channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> View:
        channels = values["channels"]
        return cls(**{**values, "channels": None if channels is None else tuple(channels)})

    def differences(self, earlier: View) -> list[str]:
        """Name the options in which this view differs from an earlier one."""
        pairs = [(OPTIONS[name], getattr(earlier, name), getattr(self, name)) for name in OPTIONS]
        return [
            f"{option} ({_said(before)} before, {_said(now)} now)" for option, before, now in pairs if before != now
        ]

    def pick_series(self, names: Sequence[str], main: Sequence[int]) -> int:
        """Return the number of the image that is meant.

        Args:
            names: what to call the images of the file in a message, in their order.
            main: the numbers of those that are no companions (label, thumbnail, …) of another.

        Raises:
            NoSuchImage: no such number, or none was given and there are several.
        """
        if self.series is None and len(main) == 1:
            return main[0]
        listed = ", ".join(f"{number}: {names[number]}" for number in range(len(names))[:_LISTED])
        listed += ", …" if len(names) > _LISTED else ""
        if self.series is None:
            raise NoSuchImage(f"it holds {len(main)} images ({listed}); need one: choose with --series N")
        if self.series >= len(names):
            count = f"{len(names)} images" if len(names) > 1 else "one image"
            raise NoSuchImage(f"--series {self.series} does not exist: it holds {count} ({listed})")
        return self.series

    def pick_level(self, levels: Sequence[Level]) -> tuple[int, float | None]:
        """Return the number of the resolution to read, and the pixel size to resample it to, or None.

        For a pixel size, it is the smallest resolution whose pixels are not larger, or the largest one of all.

        Raises:
            NoSuchImage: no such level, or a pixel size is asked for and the file states none.
        """
        if self.level is not None and self.level >= len(levels):
            listed = ", ".join(f"{n}: {size_text(one.shape)}" for n, one in enumerate(levels[:_LISTED]))
            count = f"{len(levels)} levels" if len(levels) > 1 else "one level"
            raise NoSuchImage(f"--level {self.level} does not exist: it has {count} ({listed})")
        if self.mpp is None:
            return self.level or 0, None
        if levels[0].pixel_size_um is None:
            raise NoSuchImage(
                f"--mpp {self.mpp:g} cannot be found: the file does not state the size of its pixels;"
                f" choose one of its {len(levels)} levels with --level, or resize the image"
            )
        sizes = [max(level.pixel_size_um or (math.inf,)) for level in levels]
        fitting = [number for number, size in enumerate(sizes) if size <= self.mpp * SAME_SIZE]
        number = self.level if self.level is not None else max(fitting, key=lambda n: sizes[n], default=0)
        near = all(1 / SAME_SIZE <= edge / self.mpp <= SAME_SIZE for edge in levels[number].pixel_size_um or ())
        return number, None if near else self.mpp

    def pick_plane(self, axis: str, length: int) -> int:
        """Return the index along depth (`z`) or time (`t`).

        Raises:
            NoSuchImage: none was given and there are several, or there is no such plane.
        """
        wanted: int | None = getattr(self, axis)
        option = OPTIONS[axis]
        what = "planes in depth" if axis == "z" else "points in time"
        if wanted is None and length > 1:
            message = f"it is a stack of {length} {what}; need one: choose with {option} N, from 0 to {length - 1}"
            raise ManyPlanes(message, axis, length)
        if wanted is not None and wanted >= length:
            if length == 1:
                one = "plane" if axis == "z" else "point in time"
                raise NoSuchImage(f"{option} {wanted} does not exist: it holds one {one}; leave {option} out")
            raise NoSuchImage(f"{option} {wanted} does not exist: it holds {length} {what}; use 0 to {length - 1}")
        return wanted or 0

    def pick_channels(self, count: int, names: Sequence[str] = ()) -> tuple[int, ...]:
        """Return the numbers of the channels that are meant, in the order asked for.

        Args:
            count: channels that there are.
            names: theirs, if the file gives any.

        Raises:
            NoSuchImage: one that is not there, or a name that two channels have.
        """
        if self.channels is None:
            return tuple(range(count))
        try:
            return find_channels(self.channels, count, names)
        except NoSuchChannel as error:
            raise NoSuchImage(str(error)) from error

    def resolved(
        self, series: int, level: tuple[int, float | None], plane: tuple[int, int], channels: Sequence[int]
    ) -> View:
        """Return the complete view of a slide that was opened; `plane` is (t, z)."""
        return replace(
            self, series=series, level=level[0], mpp=level[1], t=plane[0], z=plane[1], channels=tuple(channels)
        )


FIRST = View()
"""The only image of a file, whole, at its largest resolution."""


def whole_factor(length: int, reduced: int) -> float:
    """Return how many px of a length one px of its reduced version is, where writers round to whole pixels.

    >>> whole_factor(2967, 742), whole_factor(2967, 741), whole_factor(100, 30)
    (4.0, 4.0, 3.3333333333333335)
    """
    factor = round(length / reduced)
    return float(factor) if factor >= 1 and abs(length / factor - reduced) < 1 else length / reduced


def _said(value: Any) -> str:
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
