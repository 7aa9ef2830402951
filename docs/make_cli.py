"""Write docs/cli.md from the commands themselves: `python docs/make_cli.py`; --check fails if it is out of date."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from unettile.cli import app
from unettile.commands.help import argument_text, default_text, option_text, synopsis

PAGE = Path(__file__).parent / "cli.md"
HEAD = """# Command line

Made by `python docs/make_cli.py` from the commands; do not edit.

Progress and messages go to stderr; stdout holds results only, and with `--json` exactly one JSON object, also where
the command fails: `status`, `code` and `message` say how. A message has one line: what is wrong, what was got, what is
needed, what to do. Sizes are height × width, and coordinates (y, x), everywhere.

`unettile --install-completion` teaches your shell (bash, zsh, fish, PowerShell) to complete commands and options.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a defect of unettile: a traceback, to be reported |
| 2 | usage: a wrong option, or options that exclude each other |
| 3 | an input or a destination was refused; nothing was written under a final name |
| 75 | incomplete, but safe (SIGUSR1, `--max-time`, missing blocks, no room for threads): give the same command again |
| 130, 143 | stopped by SIGINT or SIGTERM within seconds: give the same command again |
"""


def make_page() -> str:
    """Return the page as Markdown."""
    group: Any = typer.main.get_command(app)
    return HEAD + "".join(_section(command) for command in group.commands.values())


def _section(command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    options = [option for option in options if not option.hidden]
    called = synopsis(command, f"unettile {command.name}")
    lines = ["", f"## {command.name}", "", "```", called, "```", "", _prose(command.help), ""]
    lines += ["| argument or option | meaning | default |", "|---|---|---|"]
    lines += [_row(argument_text(argument), argument) for argument in arguments]
    lines += [_row(option_text(option), option) for option in options]
    return "\n".join(lines) + "\n"


def _prose(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _row(name: str, parameter: Any) -> str:
    default = default_text(parameter)
    shown = "required" if parameter.required else f"`{default}`" if default else ""
    return f"| `{_cell(name)}` | {_cell(parameter.help)} | {shown} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write the page, or check it."""
    page = make_page()
    if "--check" in sys.argv[1:]:
        if not PAGE.is_file() or PAGE.read_text("utf-8") != page:
            sys.exit(f"{PAGE.name} is out of date: run python docs/make_cli.py")
    else:
        PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
