"""Channels: which ones a user means who gives their numbers, or the names that the file gives them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_LISTED = 8


class NoSuchChannel(Exception):
    """What was asked for is not there, or is there twice; the message completes "FILE: …"."""


def find_channels(wanted: Sequence[int | str], count: int, names: Sequence[str] = ()) -> tuple[int, ...]:
    """Return the numbers of channels, in the order asked for.

    Text is a name if a channel has it, and otherwise a number: a channel that is called 488 is found by that name.
    Names may hold commas, at which the command line was cut.

    Args:
        wanted: numbers from 0, or text.
        count: channels that there are.
        names: theirs, if the file gives any.

    Raises:
        NoSuchChannel: one that is not there, or a name that two channels have.

    >>> find_channels(["488", "0"], 3, ["405", "488", "561"])
    (1, 0)
    """
    numbers: list[int] = []
    names = names[:count]
    place = 0
    while place < len(wanted):
        number, length = _named(wanted[place:], names)
        if length == 0:
            number, length = _numbered(wanted[place], count, names), 1
        numbers.append(number)
        place += length
    return tuple(numbers)


def _named(wanted: Sequence[int | str], names: Sequence[str]) -> tuple[int, int]:
    """Return the channel that the first words name, and how many words its name takes; 0 words for none."""
    words = [str(word) for word in wanted]
    texts = next((n for n, word in enumerate(wanted) if not isinstance(word, str)), len(wanted))
    for length in range(texts, 0, -1):
        text = ",".join(words[:length])
        for alike in (_plain, lambda name: _plain(name).casefold()):
            same = [number for number, name in enumerate(names) if name and alike(name) == alike(text)]
            if len(same) == 1:
                return same[0], length
    return 0, 0


def _numbered(wanted: int | str, count: int, names: Sequence[str]) -> int:
    """Return the channel of a number.

    Raises:
        NoSuchChannel: there is none, or it is no number.
    """
    if isinstance(wanted, int) or (wanted.isascii() and wanted.isdecimal()):
        if int(wanted) < count:
            return int(wanted)
        named = f"; its channels are {_listed(names)}" if any(names) else ""
        raise NoSuchChannel(
            f"channel {wanted} does not exist: it has {count}; use numbers from 0 to {count - 1}{named}"
        )
    same = sum(_plain(name).casefold() == _plain(wanted).casefold() for name in names)
    if same > 1:
        raise NoSuchChannel(f"{same} channels are named {wanted!r}: choose by number, from 0 to {count - 1}")
    if not any(names):
        raise NoSuchChannel(
            f"channel {wanted!r} does not exist: the file names none; use numbers from 0 to {count - 1}"
        )
    raise NoSuchChannel(f"channel {wanted!r} does not exist: its channels are {_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(f"{number}: {name}" for number, name in enumerate(names[:_LISTED]))
    return listed + (", …" if len(names) > _LISTED else "")


def _plain(name: str) -> str:
    """Return a name with one form for each letter and sign, and no blanks that do not part words."""
    text = " ".join(unicodedata.normalize("NFKC", name).split())
    return re.sub(r" ?, ?", ",", text)
