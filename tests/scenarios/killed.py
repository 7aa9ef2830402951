"""A process that runs a command again and again, killed before or after its first, second, … change of a name.

    python -m tests.scenarios.killed FOLDER ARGUMENT...

For every such moment FOLDER/given is copied to FOLDER/try, the command runs there in a child that kills itself, and
then in one that does not. Prints a JSON object a moment: how the second ended, and what it left. The first line is that
of a command that nothing kills.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.server import WARM
from unettile.cli import run

NAMES = ("rename", "replace", "link", "symlink")


def main(folder: Path, arguments: list[str]) -> None:
    """Try every moment until the command ends before it; what it imports is imported once, here."""
    for name in WARM:
        importlib.import_module(name)
    say(0, attempt(folder, arguments, None))
    moment = 1
    while not attempt(folder, arguments, moment)["over"]:
        say(moment, attempt(folder, arguments, None, fresh=False))
        moment += 1


def attempt(folder: Path, arguments: list[str], moment: int | None, fresh: bool = True) -> dict[str, Any]:
    """Run the command in a child, killed at a moment."""
    place = folder / "try"
    if fresh:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / "given", place)
    child = os.fork()
    if child == 0:
        os.chdir(place)
        said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        if moment is not None:
            count_names(moment)
        os._exit(run(arguments))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"over": status != -signal.SIGKILL, "code": status, "said": (folder / "said").read_text("utf-8")[-500:]}


def count_names(moment: int) -> None:
    """Kill this process before or after a change of a name: 2 n - 1 is before the n-th, 2 n after it."""
    seen = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def changing(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            done = change(*arguments, **options)
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return changing

    for name in NAMES:
        setattr(os, name, counted(getattr(os, name)))


def say(moment: int, ended: dict[str, Any]) -> None:
    """Print how it ended, and the digests of what is there."""
    place = Path(sys.argv[1]) / "try"
    files = sorted(path for path in place.rglob("*") if path.is_file())
    left = {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    print(json.dumps({"moment": moment, "left": left} | ended), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
