"""The table of kinds: a CSV file beside a label image that says of which class each id is.

    id,class_name
    1,tumor
    2,stroma
    3,              its kind is not known

Columns `id` and `class_name`, or `class`, as `unettile objects --table` writes them; others are passed over.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError
from unettile.images.pairing import name_of
from unettile.objects.table import FORMULAS
from unettile.regular import read_regular

NAMED, NUMBERED = "class_name", "class"
"""Columns that may say the class; the first counts where both are there."""

_MOST_BYTES = 2**30
_SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True, eq=False)
class NamedIds:
    """Which ids have which class: those from one start up to the next have the same.

    Args:
        starts: (N,) int64, in order, the first at least 1.
        places: (N,) int64, of the class among the names.
        names: of classes, "" for none first.
    """

    starts: NDArray[np.int64]
    places: NDArray[np.int64]
    names: tuple[str, ...]

    @classmethod
    def of(cls, ids: NDArray[np.int64], each: Sequence[str]) -> NamedIds:
        """Return the classes of ids, each there once; others have none.

        >>> found = NamedIds.of(np.array([7, 2]), ("tumor", "stroma"))
        >>> found.starts.tolist(), [found.names[place] for place in found.places]
        ([2, 3, 7, 8], ['stroma', '', 'tumor', ''])
        """
        names = ("", *sorted(set(each) - {""}))
        numbers = {name: number for number, name in enumerate(names)}
        places = np.array([numbers[name] for name in each], np.int64)
        order = np.argsort(ids)
        ids, places = ids[order], places[order]
        ends = np.ones(ids.size, np.bool_)
        ends[:-1] = ids[1:] != ids[:-1] + 1
        starts = np.concatenate([ids, ids[ends] + 1])
        runs = np.concatenate([places, np.zeros(int(ends.sum()), np.int64)])
        order = np.argsort(starts)
        return cls(starts[order], runs[order], names)

    @classmethod
    def alike(cls, count: int, name: str) -> NamedIds:
        """Return the classes of the ids 1 to `count`, however many, which all have the same."""
        return cls(np.array([1, count + 1], np.int64), np.array([1, 0], np.int64), ("", name))


def table_beside(labels: Path) -> Path | None:
    """Return the table of a label image, NAME.csv beside it; None if there is none.

    >>> table_beside(Path("nowhere/a.ome.tif")) is None
    True
    """
    path = labels.with_name(f"{name_of(labels)}.csv")
    return path if path.is_file() else None


def is_kind_table(path: Path) -> bool:
    """Whether a CSV file has the columns of a table of kinds.

    Raises:
        InputError: it cannot be read.
    """
    head, _ = _columns(_text(path))
    return "id" in head and (NAMED in head or NUMBERED in head)


def read_kind_table(path: Path) -> NamedIds:
    """Return which ids have which class; whole numbers are the classes 1, 2, …, and 0 is none, as an empty cell is.

    Raises:
        InputError: it cannot be read, has other columns, no whole number for an id, or an id twice.
    """
    text = _text(path)
    head, separator = _columns(text)
    column = next((name for name in (NAMED, NUMBERED) if name in head), None)
    if "id" not in head or column is None:
        raise InputError(f"{path} has the columns {', '.join(head)[:100]}: need id, and {NAMED} or {NUMBERED}")
    place, said = head.index("id"), head.index(column)
    ids: list[int] = []
    names: list[str] = []
    for number, row in enumerate(csv.reader(io.StringIO(text), delimiter=separator), start=1):
        if number == 1 or not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(place, said) or not _is_id(row[place].strip()):
            raise InputError(f"{path}, line {number}: need an id, a whole number above 0, and its class")
        ids.append(int(row[place]))
        names.append(_name(row[said].strip()))
    found = np.array(ids, np.int64)
    known, counts = np.unique(found, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"{path} has the id {known[counts > 1][0]} twice: need one line for each")
    return NamedIds.of(found, names)


def _name(cell: str) -> str:
    """Return the name of a class; of a number that of a class without one, as the tables of unettile have it.

    >>> _name("tumor"), _name("2"), _name("0"), _name("'+x")
    ('tumor', 'class 2', '', '+x')
    """
    if cell.isdecimal():
        return f"class {int(cell)}" if int(cell) else ""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULAS) else cell


def _is_id(cell: str) -> bool:
    return cell.isascii() and cell.isdecimal() and len(cell) < 19 and int(cell) > 0  # below 2^63


def _columns(text: str) -> tuple[list[str], str]:
    """Return the names of the columns, and what stands between them."""
    line = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=line.count)
    return [cell.strip().lower() for cell in next(csv.reader([line], delimiter=separator), [])], separator


def _text(path: Path) -> str:
    try:
        return read_regular(path, _MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8: save the table as CSV in UTF-8") from error
