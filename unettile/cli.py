"""The command line: the commands assembled, errors turned into exit codes."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from unettile import __version__
from unettile.commands.console import one_line, write_line
from unettile.commands.evaluate import evaluate
from unettile.commands.failures import Failure, explain
from unettile.commands.models import models
from unettile.commands.objects import objects
from unettile.commands.segment import segment
from unettile.commands.signals import SIGPIPE, StopNow, die_of, stop_at_once
from unettile.commands.stitch import stitch
from unettile.commands.streams import mend_streams
from unettile.commands.train import train
from unettile.commands.weights import weights
from unettile.errors import Interrupted

REPORT = "This is a defect of unettile: please report it with the lines above, the command, and"

# BadParameter's base is the error of every wrong command line; Typer itself gives it no public name.
CommandLineError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="unettile",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 a defect of unettile, 2 usage, 3 input refused, 75 incomplete (run it again), "
    "130 and 143 stopped by a signal (run it again to go on).",
)
for command in (segment, stitch, objects, weights, train, evaluate, models):
    app.command()(command)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"unettile {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def unettile(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Segment images too large for a network: the mask depends on the image and the model, not on the tiles."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)
        raise typer.Exit(2)


def main() -> None:
    """Run the command line of this process and exit."""
    mend_streams()
    logging.getLogger().addHandler(logging.NullHandler())  # what libraries log would stand between our messages
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    exit_code = run(sys.argv[1:])
    if exit_code > 128:
        die_of(exit_code - 128)
    sys.exit(exit_code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; 128 + n if signal n stopped it. Messages are on stderr then."""
    try:
        with stop_at_once():
            exit_code = _invoke(arguments)
            sys.stdout.flush()
            return exit_code
    except (BrokenPipeError, SystemExit):  # SystemExit is what rich makes of a broken pipe; nothing else raises it
        # Nobody reads on, `unettile models | head -1` say. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + SIGPIPE
    except (StopNow, KeyboardInterrupt) as stop:
        signum = stop.signum if isinstance(stop, StopNow) else 2
        write_line(f"unettile: {Interrupted(signum)}")
        return 128 + signum
    except Exception as error:
        failure = _wrong_command_line(error) or explain(error)
        if failure is None:
            traceback.print_exc()
            write_line(f"{REPORT} the version, {__version__}.")
            return 1
        write_line(f"unettile: {failure.message}")
        return failure.exit_code


def _invoke(arguments: Sequence[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with command.make_context("unettile", list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    return 0


def _wrong_command_line(error: Exception) -> Failure | None:
    """Return what Typer says about a wrong command line, in one line."""
    if not isinstance(error, CommandLineError):
        return None
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "unettile"
    said = " ".join(one_line(error.format_message()).split()).rstrip(".")  # type: ignore[attr-defined]
    return Failure(2, f"{said}; see {path} --help")
