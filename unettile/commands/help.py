"""Help: what `--help` shows, in plain text that is the same for every version of Typer and on every terminal."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

import typer.core

from unettile.commands.options import COMPUTE, INPUT, OUTPUT
from unettile.limits import check_threads, count_threads

WIDEST = 100
"""Columns of text; longer lines are hard to read."""

_INDENT, _GAP = 2, 24
_GENERAL = "Options"


def argument_text(argument: Any) -> str:
    """Return an argument as the synopsis has it: IMAGE..., or [NAME|FILE] where it may be left out."""
    name = argument.metavar or argument.name.upper()
    return f"{name}..." if argument.nargs == -1 and not name.endswith("...") else str(name)


def option_text(option: Any) -> str:
    """Return an option with what it takes: `-o, --output OUT`; a flag takes nothing."""
    names = ", ".join(sorted(option.opts, key=len))
    return names if option.is_flag else f"{names} {option.metavar or option.name.upper()}"


def default_text(parameter: Any) -> str:
    """Return the default as it would be given; empty where there is none, or leaving out an option is the default."""
    default = parameter.default
    if default is None or default is False or default is Ellipsis or parameter.required:
        return ""
    return str(getattr(default, "value", default))


def synopsis(command: Any, path: str) -> str:
    """Return how a command is called, what is required by name.

    Args:
        path: the words before its arguments.
    """
    arguments = [argument_text(one) for one in command.params if one.param_type_name == "argument"]
    required = [
        f"{min(one.opts, key=len)} {one.metavar or one.name.upper()}"
        for one in command.params
        if one.param_type_name == "option" and one.required
    ]
    return " ".join([path, *arguments, *required, "[OPTIONS]"])


def help_text(command: Any, context: Any) -> str:
    """Return all that `--help` of a command shows."""
    width = min(WIDEST, shutil.get_terminal_size().columns)
    parameters = command.get_params(context)
    rows = [(argument_text(one), one) for one in parameters if one.param_type_name == "argument"]
    sections = {"Arguments": rows}
    options = [one for one in parameters if one.param_type_name == "option" and not one.hidden]
    for panel in (INPUT, OUTPUT, COMPUTE, _GENERAL):
        chosen = [one for one in options if (getattr(one, "rich_help_panel", None) or _GENERAL) == panel]
        sections[panel] = [(option_text(one), one) for one in chosen]
    lines = [f"Usage: {synopsis(command, context.command_path)}", "", *_paragraphs(command.help or "", width)]
    for title, entries in sections.items():
        if entries:
            lines += ["", f"{title}:"]
            lines += [line for name, one in entries for line in _entry(name, _described(one), width)]
    return "\n".join(lines) + "\n"


def group_text(group: Any, context: Any) -> str:
    """Return all that `unettile --help` shows."""
    width = min(WIDEST, shutil.get_terminal_size().columns)
    lines = [f"Usage: {context.command_path} COMMAND [ARGUMENTS] [OPTIONS]", "", *_paragraphs(group.help or "", width)]
    lines += ["", "Commands:"]
    for name in group.list_commands(context):
        summary = " ".join((group.get_command(context, name).help or "").split("\n\n")[0].split())
        lines += _entry(name, summary, width)
    lines += ["", f"{_GENERAL}:"]
    for one in group.get_params(context):
        lines += _entry(option_text(one), _described(one), width)
    return "\n".join([*lines, "", *_paragraphs(group.epilog or "", width)]) + "\n"


class Command(typer.core.TyperCommand):
    """A command whose help is that of this module; it begins only where there is room for its threads."""

    def invoke(self, ctx: Any) -> Any:
        check_threads(count_threads())
        return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(help_text(self, ctx))


class Group(typer.core.TyperGroup):
    """The commands together, with help as of this module."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(group_text(self, ctx))


def _described(parameter: Any) -> str:
    text, default = parameter.help or "", default_text(parameter)
    if default and "Default:" not in text:
        text += f" Default: {default}."
    return f"{text} Required." if parameter.required and parameter.param_type_name == "option" else text


def _paragraphs(text: str, width: int) -> list[str]:
    wrapped = [textwrap.fill(" ".join(part.split()), width) for part in text.strip().split("\n\n")]
    return "\n\n".join(wrapped).splitlines()


def _entry(name: str, text: str, width: int) -> list[str]:
    """Return a name and its text beside it, or below where the name is long."""
    wrapped = textwrap.wrap(text, max(30, width - _GAP - _INDENT), break_on_hyphens=False) or [""]
    indent = " " * (_INDENT + _GAP)
    if len(name) + 2 > _GAP:
        return [" " * _INDENT + name, *(indent + line for line in wrapped)]
    return [f"{'':{_INDENT}}{name:<{_GAP}}{wrapped[0]}".rstrip(), *(indent + line for line in wrapped[1:])]
