"""What the fuzz tier shares: the server, valid files of every kind, and how long each kind is tried."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tifffile

from tests.narrow import make_pixels
from tests.scenarios.conftest import make_model

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("UNETTILE_FUZZ_SECONDS", "100"))
"""For all kinds together, besides what starts the server."""
SEED = os.environ.get("UNETTILE_FUZZ_SEED", "1")
KINDS = 26
ALLOWED = (0, 2, 3, 75)
MOST_MIB = 1400  # the server's own libraries count, too


class Server:
    """Runs commands with limits."""

    def __init__(self) -> None:
        environ = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-m", "tests.fuzz.server"]
        self._child = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *arguments: object) -> dict[str, Any]:
        """Return how a command ended."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
        self._child.stdin.flush()
        found: dict[str, Any] = json.loads(self._child.stdout.readline())
        return found

    def close(self) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait()
        self._child.stdout.close()


@dataclass(frozen=True)
class Fuzz:
    """Tries one kind of input until its time is up, and collects what went wrong."""

    server: Server
    place: Path

    def each(self, kind: str, case: Callable[[random.Random, Path], list[object]]) -> None:
        """Run the commands that `case` makes of a seed and an empty folder; fail with all faults.

        Every command must end with 0, 2, 3 or 75, in time, in memory, and say what is wrong in one line.
        """
        until, number, faults = time.monotonic() + SECONDS / KINDS, 0, list[str]()
        while time.monotonic() < until or number < 3:
            folder = self.place / f"{number}"
            folder.mkdir()
            ended = self.server.run(*case(random.Random(f"{SEED} {kind} {number}"), folder))
            fault = _fault(ended)
            if fault:
                faults.append(f"{kind} {number}: {fault}: {ended['said'][-600:]}")
            number += 1
        assert not faults, f"{len(faults)} of {number} (UNETTILE_FUZZ_SEED={SEED}):\n" + "\n".join(faults[:10])


def _fault(ended: dict[str, Any]) -> str:
    if ended["code"] not in ALLOWED:
        return f"exit code {ended['code']}"
    if "Traceback" in ended["said"] or "Event loop is closed" in ended["said"]:
        return "a traceback"
    if ended["mib"] > MOST_MIB:
        return f"{ended['mib']:.0f} MiB"
    lines = [line for line in ended["said"].splitlines() if line.startswith("unettile: ")]
    if ended["code"] in (2, 3) and len(lines) != 1:
        return f"{len(lines)} lines that say why"
    return ""


@pytest.fixture(scope="package")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def fuzz(server: Server, tmp_path: Path) -> Fuzz:
    return Fuzz(server, tmp_path)


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("fuzz") / "model.safetensors", 1)


@pytest.fixture(scope="package")
def run_directory(tmp_path_factory: pytest.TempPathFactory, server: Server, model: Path) -> Path:
    """A finished run of one shard."""
    place = tmp_path_factory.mktemp("run")
    tifffile.imwrite(place / "image.tif", make_pixels(60, 80))
    command = ("segment", place / "image.tif", "-o", place / "run", "-m", model, "--shard", "0/1", "--tile", "68")
    ended = server.run(*command)
    assert ended["code"] == 0, ended
    return place / "run"
