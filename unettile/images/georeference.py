"""Georeference: where on earth the pixels of a map lie, as the tags of a GeoTIFF say it (OGC 19-008, version 1.1).

Corners of pixels are told in the map's coordinates, x first: the upper left corner of pixel (row, column) lies at
(a · column + b · row + c, d · column + e · row + f). Files that place the centres of pixels, as the key GTRasterType
may say, are read and written so; here corners are meant all the same.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.images.orientation import stored_affine

Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f) of the module's formula."""

Entry = tuple[int, str, tuple[float, ...] | str]
"""A tag: its number, the letter of its type in `struct`, or "s" for a text, and its values."""

_SCALE, _TIEPOINTS, _MATRIX, _KEYS, _DOUBLES, _TEXT = 33550, 33922, 34264, 34735, 34736, 34737
_RASTER_TYPE, _GEODETIC, _PROJECTED, _IS_POINT, _USER_DEFINED = 1025, 2048, 3072, 2, 32767
_MODEL_TYPE, _IS_GEODETIC = 1024, 2
_MOST_POINTS = 2**14


@dataclass(frozen=True)
class Georeference:
    """Where on earth pixels lie.

    Args:
        affine: from columns and rows to the map's coordinates; None where there are points instead.
        points: (column, row, x, y, z) of pixels whose places are known; empty where there is an affine map.
        keys: of the coordinate system: the tag GeoKeyDirectory.
        doubles, text: what the keys point to: the tags GeoDoubleParams and GeoAsciiParams.
    """

    affine: Affine | None = None
    points: tuple[tuple[float, ...], ...] = ()
    keys: tuple[int, ...] = ()
    doubles: tuple[float, ...] = ()
    text: str = ""

    @classmethod
    def of_tags(cls, tags: Mapping[int, Any]) -> Georeference | None:
        """Return what the tags of a page say, by their numbers; None if they do not place it, or cannot be meant."""
        keys = tuple(int(key) for key in _numbers(tags.get(_KEYS)))
        found = cls(keys=keys, doubles=_numbers(tags.get(_DOUBLES)), text=str(tags.get(_TEXT) or ""))
        half = 0.5 if found._key(_RASTER_TYPE) == _IS_POINT else 0.0
        ties, scale, matrix = (_numbers(tags.get(tag)) for tag in (_TIEPOINTS, _SCALE, _MATRIX))
        if len(matrix) == 16:
            a, b, c, d, e, f = matrix[0], matrix[1], matrix[3], matrix[4], matrix[5], matrix[7]
        elif len(scale) >= 2 and len(ties) >= 6:
            a, b, c = scale[0], 0.0, ties[3] - ties[0] * scale[0]
            d, e, f = 0.0, -scale[1], ties[4] + ties[1] * scale[1]
        elif len(ties) >= 18 and len(ties) % 6 == 0:
            rows = [ties[start : start + 6] for start in range(0, min(len(ties), 6 * _MOST_POINTS), 6)]
            return replace(found, points=tuple((i + half, j + half, x, y, z) for i, j, _, x, y, z in rows))
        else:
            return None
        affine = a, b, c - half * (a + b), d, e, f - half * (d + e)
        return replace(found, affine=affine) if a * e != b * d else None

    def entries(self) -> list[Entry]:
        """Return the tags that say it."""
        half = 0.5 if self._key(_RASTER_TYPE) == _IS_POINT else 0.0
        found: list[Entry] = []
        if self.affine is None:
            ties = [(column - half, row - half, 0.0, *place) for column, row, *place in self.points]
            found.append((_TIEPOINTS, "d", tuple(number for tie in ties for number in tie)))
        else:
            a, b, c, d, e, f = self.affine
            c, f = c + half * (a + b), f + half * (d + e)
            if b == d == 0 and a > 0 > e:
                found += [(_SCALE, "d", (a, -e, 0.0)), (_TIEPOINTS, "d", (0.0, 0.0, 0.0, c, f, 0.0))]
            else:
                matrix = (a, b, 0.0, c, d, e, 0.0, f, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
                found.append((_MATRIX, "d", matrix))
        if self.keys:
            found.append((_KEYS, "H", self.keys))
        if self.doubles:
            found.append((_DOUBLES, "d", self.doubles))
        if self.text:
            found.append((_TEXT, "s", self.text))
        return found

    def scaled(self, rows: float, columns: float) -> Georeference:
        """Return it for pixels that are so many times as high and wide, from the same corner."""
        return self._after((columns, 0.0, 0.0, 0.0, rows, 0.0))

    def moved(self, row: float, column: float) -> Georeference:
        """Return it for pixels that are counted from the corner of pixel (row, column)."""
        return self._after((1.0, 0.0, column, 0.0, 1.0, row))

    def turned(self, shape: tuple[int, int], orientation: int) -> Georeference:
        """Return it for an image that is shown as its orientation says; `shape` is that of the shown image, px."""
        return self._after(stored_affine(shape, orientation))

    def to_map(self, columns: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.float64]:
        """Return (x, y), (N, 2), of places that are given in px, (N,) each; (0, 0) is the upper left corner."""
        assert self.affine is not None
        return _applied(self.affine, columns, rows)

    def to_pixels(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        """Return columns and rows, px, (N, 2), of places on the map, (N,) each."""
        assert self.affine is not None
        return _applied(_inverse(self.affine), x, y)

    @property
    def epsg(self) -> int | None:
        """Number of the coordinate system in EPSG's register; None if it has none there."""
        keys = (_GEODETIC,) if self._key(_MODEL_TYPE) == _IS_GEODETIC else (_PROJECTED, _GEODETIC)
        for key in keys:
            number = self._key(key)
            if number is not None:
                return number if 1024 <= number < _USER_DEFINED else None
        return None

    def is_near(self, other: Georeference, px: float) -> bool:
        """Whether another one has the same coordinate system, and places pixels there within so many px."""
        if (self.keys, self.doubles, self.text) != (other.keys, other.doubles, other.text):
            return False
        if self.affine is None or other.affine is None:
            return self.points == other.points
        a, b, c, d, e, f = _after(_inverse(self.affine), other.affine)
        return max(map(abs, (a - 1, b, c, d, e - 1, f))) <= px

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "affine": None if self.affine is None else list(self.affine),
            "points": [list(point) for point in self.points],
            "keys": list(self.keys),
            "doubles": list(self.doubles),
            "text": self.text,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Georeference:
        """Read JSON.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        affine = values["affine"]
        if affine is not None:
            a, b, c, d, e, f = (_finite(number) for number in affine)
            affine = a, b, c, d, e, f
        points = tuple(tuple(_finite(number) for number in point) for point in values["points"])
        doubles = tuple(_finite(number) for number in values["doubles"])
        return cls(affine, points, tuple(int(key) for key in values["keys"]), doubles, str(values["text"]))

    def _after(self, affine: Affine) -> Georeference:
        """Return it for pixels whose places, by an affine map, are those of pixels here."""
        if self.affine is not None:
            return replace(self, affine=_after(self.affine, affine))
        a, b, c, d, e, f = _inverse(affine)
        moved = ((a * i + b * j + c, d * i + e * j + f, *place) for i, j, *place in self.points)
        return replace(self, points=tuple(moved))

    def _key(self, number: int) -> int | None:
        """Return the value of a key that is a number; None if it is not there."""
        for start in range(4, len(self.keys) - 3, 4):
            key, place, _, value = self.keys[start : start + 4]
            if key == number and place == 0:
                return value
        return None


def pack_entry(entry: Entry) -> tuple[int, bytes]:
    """Return how many values a tag has, and their bytes, little-endian."""
    _, letter, values = entry
    if isinstance(values, str):
        data = values.encode("utf-8") + b"\0"
        return len(data), data
    return len(values), struct.pack(f"<{len(values)}{letter}", *values)


def _after(outer: Affine, inner: Affine) -> Affine:
    """Return the map that takes `inner` first."""
    a, b, c, d, e, f = outer
    p, q, r, s, t, u = inner
    return a * p + b * s, a * q + b * t, a * r + b * u + c, d * p + e * s, d * q + e * t, d * r + e * u + f


def _applied(affine: Affine, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    a, b, c, d, e, f = affine
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def _inverse(affine: Affine) -> Affine:
    a, b, c, d, e, f = affine
    size = a * e - b * d
    return e / size, -b / size, (b * f - c * e) / size, -d / size, a / size, (c * d - a * f) / size


def _numbers(value: Any) -> tuple[Any, ...]:
    """Return the numbers of a tag; none if it is not there, or one of them cannot be meant."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return ()
    return tuple(value) if all(isinstance(one, int | float) and math.isfinite(one) for one in value) else ()


def _finite(number: Any) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is no number")
    return value
