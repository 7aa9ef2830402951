"""The command line: the commands assembled, errors turned into exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from unettile import __version__
from unettile.commands.console import one_line, write_line
from unettile.commands.evaluate import evaluate
from unettile.commands.failures import Failure, Told, explain
from unettile.commands.help import Command, Group
from unettile.commands.models import models
from unettile.commands.objects import objects
from unettile.commands.segment import segment
from unettile.commands.signals import SIGPIPE, StopNow, die_of, stop_at_once
from unettile.commands.stitch import stitch
from unettile.commands.streams import close_streams, discard_output, open_streams, to_json, write_result
from unettile.commands.train import train
from unettile.commands.weights import weights
from unettile.errors import Incomplete, Interrupted, UnettileError

REPORT = "This is a defect of unettile: please report it with the lines above, the command, and"

STATUS = {1: "failed", 2: "usage", 3: "refused", 75: "incomplete"}
"""What --json calls an exit code; a signal's is "stopped"."""

RESUME = "give the same command with --resume to go on"
"""What `train` needs, which does not go on by itself."""

WAITING = "OMP_WAIT_POLICY"
"""Tells OpenMP, which reads it as PyTorch is loaded, what a thread does while it waits for the others."""

COMPLETION = "_UNETTILE_COMPLETE"
"""Set by a shell that asks what may follow on its command line."""

# BadParameter's base is the error of every wrong command line; Typer itself gives it no public name.
CommandLineError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="unettile",
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 a defect of unettile, 2 usage, 3 input refused, 75 incomplete (run it again), "
    "130 and 143 stopped by a signal (run it again to go on).",
    pretty_exceptions_enable=False,
)
for command in (segment, stitch, objects, weights, train, evaluate, models):
    app.command(cls=Command)(command)


def _show_version(asked: bool) -> None:
    if asked:
        write_result(f"unettile {__version__}\n")
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
    os.environ.setdefault(WAITING, "PASSIVE")  # threads that spin take the time of those they wait for
    open_streams()
    logging.getLogger().addHandler(logging.NullHandler())  # what libraries log would stand between our messages
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    if COMPLETION in os.environ:
        app(prog_name="unettile")  # answers the shell and exits
    exit_code = run(sys.argv[1:])
    # The message is the last word: threads that still read meet libraries that are being shut down.
    threading.excepthook = lambda args: None
    sys.unraisablehook = lambda args: None
    close_streams()
    if exit_code > 128:
        die_of(exit_code - 128)
    sys.exit(exit_code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; 128 + n if signal n stopped it. Messages are on stderr then.

    With `--json`, a command that fails says so on stdout, too, in one object with `status`, `code` and `message`.
    """
    try:
        with stop_at_once():
            exit_code = _invoke(arguments)
            write_result("")
            return exit_code
    except BrokenPipeError:  # nobody reads on, `unettile models | head -1` say
        discard_output()
        return 128 + SIGPIPE
    except SystemExit as leaving:
        if not leaving.code:  # Typer, once it has installed a completion
            return 0
        discard_output()  # rich, where nobody reads on
        return 128 + SIGPIPE
    except (StopNow, KeyboardInterrupt) as stop:
        signum = stop.signum if isinstance(stop, StopNow) else int(signal.SIGINT)
        again = Incomplete("stopped by SIGUSR1; give the same command again to go on")
        return _fail(arguments, again if signum == signal.SIGUSR1 else Interrupted(signum), {})
    except Told as told:
        return _fail(arguments, told.error, told.details)
    except Exception as error:
        return _fail(arguments, error, {})


def _invoke(arguments: Sequence[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with command.make_context("unettile", list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    return 0


def _fail(arguments: Sequence[str], error: Exception, details: dict[str, Any]) -> int:
    """Say what ended a command, for a person and, with --json, for a program; return the exit code."""
    name = next((word for word in arguments if not word.startswith("-")), "")
    if isinstance(error, Interrupted) and name == "train" and "--resume" not in arguments:
        error = Interrupted(error.signum, RESUME)
    failure = _wrong_command_line(error) or explain(error, name)
    if failure is None:
        traceback.print_exception(error)
        failure = Failure(1, f"{type(error).__name__}: {one_line(str(error))}")
        write_line(f"{REPORT} the version, {__version__}.")
    else:
        write_line(f"unettile: {failure.message}")
    if "--json" in arguments:
        status = STATUS.get(failure.exit_code, "stopped")
        with suppress(UnettileError, BrokenPipeError):  # it was told already that nobody reads on
            told = {"status": status, "code": failure.exit_code, "message": failure.message}
            write_result(to_json(told | details) + "\n")
    return failure.exit_code


def _wrong_command_line(error: Exception) -> Failure | None:
    """Return what Typer says about a wrong command line, in one line."""
    if not isinstance(error, CommandLineError):
        return None
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "unettile"
    said = " ".join(one_line(error.format_message()).split()).rstrip(".")  # type: ignore[attr-defined]
    return Failure(2, f"{said}; see {path} --help")
