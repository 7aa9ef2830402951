"""Advice: what a command tells on the terminal is a warning here, shown where the caller stands."""

from __future__ import annotations

import sys
import warnings

from unettile.errors import Advice


def advise(line: str) -> None:
    """Warn of something that the caller should know; the warning names the first line outside of unettile."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "unettile":
        level, frame = level + 1, frame.f_back
    warnings.warn(line, Advice, stacklevel=level)
