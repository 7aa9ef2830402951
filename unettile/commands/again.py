"""This very command, in words that can be given again from another directory and on another machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer


def program_words() -> list[str]:
    """Return how this very unettile is called from elsewhere."""
    called = Path(sys.argv[0])
    return (
        [str(called.absolute())]
        if called.name == "unettile" and called.exists()
        else [sys.executable, "-m", "unettile"]
    )


def given_options(context: typer.Context, leave_out: Sequence[str]) -> tuple[str, ...]:
    """Return the options that were given on the command line, as they can be given again from any directory.

    Args:
        context: of the command.
        leave_out: names of parameters, as Python has them.
    """
    words: list[str] = []
    for parameter in context.command.params:
        name = parameter.name
        source = context.get_parameter_source(name) if name else None
        if name is None or name in leave_out or source is None or source.name != "COMMANDLINE":
            continue
        option = max(parameter.opts, key=len)
        if not option.startswith("-"):
            continue
        value: Any = context.params[name]
        if isinstance(value, bool):
            words += [option] if value else [max(parameter.secondary_opts, key=len)]
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            text = str(getattr(one, "value", one))
            if isinstance(one, Path) or (name == "model" and Path(text).exists()):
                text = str(Path(text).absolute())
            words += [option, text]
    return tuple(words)
