"""Plan file: the plan of a run directory, on which all processes of the run agree."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from unettile.atomic import REFUSALS
from unettile.errors import InputError
from unettile.regular import read_regular
from unettile.segmentation.plan import Plan
from unettile.typed import Unfit

NAME = "plan.json"
_MOST_BYTES = 2**24


def check_agrees(path: Path, plan: Plan) -> None:
    """Refuse a run directory, if there is one, that was begun with another plan.

    Raises:
        InputError: says what differs.
    """
    differences = plan.differences(read_plan(path)) if is_run_directory(path) else []
    if differences:
        raise InputError(
            f"{path} holds an unfinished run that differs in {', '.join(differences)}: give the same options "
            "to go on, or remove that directory to start afresh"
        )


def begun_plan(path: Path) -> Plan | None:
    """Return the plan of a run that was begun there; None if there is none, or none that can be read."""
    try:
        return read_plan(path) if is_run_directory(path) else None
    except InputError:
        return None


def read_plan(path: Path) -> Plan:
    """Return the plan of a run directory.

    Raises:
        InputError: there is none, or one that is damaged or of another version.
    """
    file = path / NAME
    try:
        return Plan.from_json(read_regular(file, _MOST_BYTES))
    except OSError as error:
        raise InputError(f"cannot read {file}: {reason(error)}") from error
    except Unfit as error:
        raise InputError(
            f"{file} is damaged or of another version ({error}): remove it and give the command again to keep the"
            f" blocks that fit, or remove {path} to start afresh"
        ) from error


def is_run_directory(path: Path) -> bool:
    """Whether there is a plan in it."""
    return (path / NAME).is_file()


def lacks_plan(path: Path) -> bool:
    """Whether it is a run directory but for its plan."""
    return path.is_dir() and not is_run_directory(path) and any(path.iterdir()) and is_unborn(path)


def is_unborn(path: Path) -> bool:
    """Whether a directory holds no more than a run leaves that died before its plan was written, or that lost it."""
    return path.is_dir() and all(
        entry.name in ("done", "parts", "mask.zarr") or ".plan.json." in entry.name for entry in path.iterdir()
    )


def write_first(path: Path, text: str) -> None:
    """Write a file unless it exists, whole at its first appearance; of several writers, the first wins.

    A hard link to a finished file is atomic and fails if the name is taken, on network file systems too.
    """
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, "utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links; of writers at the same moment the last wins there
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_run(path: Path) -> None:
    """Remove a run directory, its plan last: what a kill leaves of it is a run directory still."""
    for entry in path.glob("*"):
        if entry.name != NAME:
            shutil.rmtree(entry, ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)


def reason(error: OSError) -> str:
    """Return in words why the system refused."""
    return REFUSALS.get(error.errno or 0, (error.strerror or str(error)).lower())
