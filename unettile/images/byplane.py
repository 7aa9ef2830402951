"""Metadata of a stack's file: what its planes have in common, and what each has of its own.

"planes": {"t": [0], "z": [5, 6, 7]}      which planes of the image those of the file are
"objects": [31, 29, 30]                   of each, all depths of the first time, then of the next
"id_classes": [1, 1, 1]                   the same, and so are "id_shares"; see `idclasses`
"by_plane": {"scaling": [{…}, {…}, {…}]}  the same of all else that is not alike in them
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeGuard

from unettile.images.idclasses import CLASSES_KEY, COUNT_KEY, SHARES_KEY
from unettile.images.planes import Planes

PLANES_KEY, OWN_KEY = "planes", "by_plane"
_LISTED = (COUNT_KEY, CLASSES_KEY, SHARES_KEY)


def merge_planes(
    planes: Planes, every: Sequence[Mapping[str, Any]], keys: Collection[str] | None = None
) -> dict[str, Any]:
    """Return the metadata of a stack.

    Args:
        planes: of the image.
        every: the metadata of each plane.
        keys: of them, what may differ from plane to plane; None for all. Of the rest the first plane's is taken.
    """
    found = dict(every[0])
    for key in _LISTED:
        if key in found:
            found[key] = [one[key] for one in every]
    may = [key for key in found if key not in _LISTED and (keys is None or key in keys)]
    own = {key: [one.get(key) for one in every] for key in may if any(one.get(key) != found[key] for one in every)}
    for key in own:
        del found[key]
    found[PLANES_KEY] = {"t": list(planes.times), "z": list(planes.depths)}
    return found | ({OWN_KEY: own} if own else {})


def planes_of(described: Mapping[str, Any]) -> Planes | None:
    """Return which planes of the image those of a stack's file are; None where its metadata do not say.

    >>> planes_of({"planes": {"t": [0], "z": [5, 6]}})
    Planes(times=(0,), depths=(5, 6))
    """
    stated = described.get(PLANES_KEY)
    times, depths = (stated.get("t"), stated.get("z")) if isinstance(stated, dict) else (None, None)
    if not _are_numbers(times) or not _are_numbers(depths):
        return None
    return Planes(tuple(times), tuple(depths))


def take_plane(described: Mapping[str, Any], plane: tuple[int, int] | None) -> dict[str, Any]:
    """Return the metadata of a plane of a stack; those of a file that holds no stack are returned as they are.

    Args:
        plane: (t, z) in the file; None for none: then what is not common to all is left out.
    """
    found, planes = dict(described), planes_of(described)
    if planes is None:
        return found
    own = found.pop(OWN_KEY, None)
    several = dict(own) if isinstance(own, dict) else {}
    several |= {key: found.pop(key) for key in _LISTED if isinstance(found.get(key), list)}
    number = 0 if plane is None else plane[0] * len(planes.depths) + plane[1]
    if plane is None and len(planes) > 1:
        return found
    return found | {
        key: values[number] for key, values in several.items() if isinstance(values, list) and number < len(values)
    }


def _are_numbers(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and bool(values) and all(type(one) is int and one >= 0 for one in values)
