"""Classes of ids: how an image of ids carries the class of each object in its metadata.

"id_classes": 1                                            all objects are of class 1
"id_classes": {"type": "uint8", "zlib": "eJxjZGIGAAAO…"}   class of id 1, 2, …, little-endian, in base64
"id_shares":  the same; the share of an object's pixels that are of its class, in 1/255
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES_KEY, SHARES_KEY, COUNT_KEY = "id_classes", "id_shares", "objects"

MOST_IDS = 2**32 - 1
_TYPES = ("uint8", "uint16", "uint32")


@dataclass(frozen=True)
class IdClasses:
    """The classes of the objects of an image of ids.

    Args:
        classes: (N,) uint32 of the ids 1 … N.
        shares: (N,) float64 of the object's pixels that are of its class; None where objects are of one class alone.
    """

    classes: NDArray[np.uint32]
    shares: NDArray[np.float64] | None = None

    def to_metadata(self) -> dict[str, Any]:
        """Return what the image's metadata say of its ids.

        >>> IdClasses(np.array([2, 2], np.uint32)).to_metadata()
        {'objects': 2, 'id_classes': 2}
        """
        found: dict[str, Any] = {COUNT_KEY: int(self.classes.size), CLASSES_KEY: _packed(self.classes)}
        if self.shares is not None:
            found[SHARES_KEY] = _packed(np.rint(255 * self.shares).astype(np.uint32))
        return found

    @classmethod
    def from_metadata(cls, described: Mapping[str, Any]) -> IdClasses | None:
        """Return the classes that metadata state; None where they state none.

        Raises:
            ValueError: they cannot be meant.
        """
        if CLASSES_KEY not in described:
            return None
        count = described.get(COUNT_KEY)
        if type(count) is not int or not 0 <= count <= MOST_IDS:
            raise ValueError(f"{COUNT_KEY} is no number of objects")
        shares = described.get(SHARES_KEY)
        return cls(
            _unpacked(described[CLASSES_KEY], count),
            None if shares is None else _shares(_unpacked(shares, count)),
        )


def _shares(levels: NDArray[np.uint32]) -> NDArray[np.float64]:
    if levels.size and levels.strides == (0,):  # one for all
        return np.broadcast_to(np.minimum(levels[0] / 255, 1.0), levels.shape)
    return np.minimum(levels / 255, 1.0)


def _packed(numbers: NDArray[np.uint32]) -> Any:
    largest = int(numbers.max(initial=0))
    if numbers.size == 0 or int(numbers.min()) == largest:
        return largest
    kind = next(name for name in _TYPES if largest <= np.iinfo(name).max)
    data = zlib.compress(numbers.astype(np.dtype(kind).newbyteorder("<")).tobytes(), 9)
    return {"type": kind, "zlib": base64.b64encode(data).decode("ascii")}


def _unpacked(packed: Any, count: int) -> NDArray[np.uint32]:
    if type(packed) is int and 0 <= packed <= np.iinfo(np.uint32).max:
        return np.broadcast_to(np.uint32(packed), count)  # takes no memory, however many a stranger's file may claim
    if not isinstance(packed, dict) or packed.get("type") not in _TYPES or not isinstance(packed.get("zlib"), str):
        raise ValueError("neither a class nor a packed list of classes")
    kind = np.dtype(packed["type"]).newbyteorder("<")
    try:
        reader = zlib.decompressobj()
        data = reader.decompress(base64.b64decode(packed["zlib"], validate=True), count * kind.itemsize + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError("a packed list that is damaged") from error
    if len(data) != count * kind.itemsize:
        raise ValueError(f"a packed list that is not of {count} objects")
    return np.frombuffer(data, kind).astype(np.uint32)
