"""What a command shows: messages and progress on stderr, one JSON object on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unettile.commands.progress import (
    IMAGES,
    MEGAPIXELS,
    STEPS,
    BarProgress,
    Pace,
    PlainProgress,
    Unit,
    make_bar,
)
from unettile.commands.streams import to_json, write_bytes, write_error, write_result
from unettile.duration import format_duration

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Console", "format_duration", "one_line", "write_line"]


class Console:
    """Write for a person to stderr, and for a program to stdout.

    Args:
        quiet: write nothing to stderr but errors.
        json_output: print the result as one JSON object on stdout; without it stdout stays empty.
    """

    def __init__(self, quiet: bool = False, json_output: bool = False) -> None:
        self.quiet = quiet
        self.json_output = json_output
        self._bar: Progress | None = None

    def message(self, text: str) -> None:
        """Write one line to stderr, unless quiet."""
        if not self.quiet:
            write_line(text)

    def result(self, value: dict[str, Any]) -> None:
        """Print the result as JSON if that was asked for."""
        if self.json_output:
            write_result(to_json(value) + "\n")

    def text(self, text: str) -> None:
        """Print a result that is text by nature, a table say, on stdout; what its encoding lacks is escaped."""
        write_result(text)

    def script(self, text: str) -> None:
        """Print a script on stdout, names in it byte for byte."""
        write_bytes(text)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table of text to stderr, columns aligned to the left."""
        lines = [[one_line(cell) for cell in row] for row in (header, *rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        for line in lines:
            self.message("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """Show how many pixels are done; yields a function that takes pixels done and pixels in all.

        A bar on a terminal, else a plain line every 30 s and one at the end.

        Args:
            label: what is being worked on, a file's name for instance.
        """
        with self._counter(label, MEGAPIXELS) as update:
            yield lambda done, total: update(done, total, "")

    @contextmanager
    def steps(self, label: str) -> Iterator[Callable[[int, int, str], None]]:
        """Show how many steps are done; yields a function that takes steps done, steps in all, and a note."""
        with self._counter(label, STEPS) as update:
            yield update

    @contextmanager
    def images(self, label: str) -> Iterator[Callable[[int, int, str], None]]:
        """Show how many images are done; yields a function that takes images done, images in all, and a note."""
        with self._counter(label, IMAGES) as update:
            yield update

    @contextmanager
    def _counter(self, label: str, unit: Unit) -> Iterator[Callable[[int, int, str], None]]:
        label = one_line(label)
        if self.quiet:
            yield lambda done, total, note: None
        elif self._bar is not None:  # a stage of what is shown already
            yield BarProgress(self._bar, label, unit).update
        elif sys.stderr.isatty():
            try:
                with make_bar() as self._bar:
                    yield BarProgress(self._bar, label, unit).update
            finally:
                self._bar = None
        else:
            plain = PlainProgress(label, unit, write_line, Pace())
            yield plain.update
            plain.finish()


def one_line(text: str) -> str:
    """Return the text with every control character (line breaks, terminal escapes) replaced by a blank.

    >>> one_line("two\\nlines")
    'two lines'
    """
    return "".join(character if character.isprintable() else " " for character in text).strip()


def write_line(text: str) -> None:
    """Write one line to stderr, whatever the text holds."""
    write_error(one_line(text) + "\n")
