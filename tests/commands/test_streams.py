"""Standard streams that are closed, full, or cannot hold what is written; raw bytes in names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import unettile
from unettile.commands.streams import to_json

ROOT = Path(__file__).parent.parent.parent

CHILD = """
import sys
from pathlib import Path
from unettile import cli
from unettile.commands.console import Console
def invoke(arguments):
    Path("first").write_text("a file takes the lowest number that is free")
    with open("second", "w") as file:
        assert file.fileno() > 2, file.fileno()
    console = Console(json_output="--json" in arguments)
    console.message("µ × …")
    if "--json" in arguments:
        console.result({"µ": 1, "file": sys.argv[-1]})
    if "--text" in arguments:
        console.text("µ × …\\n")
    if "--script" in arguments:
        console.script(f"µ {sys.argv[-1]}\\n")
    return 0
cli._invoke = invoke
cli.main()
"""


def shell(tmp_path: Path, line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell in which $child is the program above."""
    (tmp_path / "child.py").write_text(CHILD)
    return subprocess.run(
        ["bash", "-c", line.replace("$child", f"{sys.executable} {tmp_path / 'child.py'}")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_no_harm(tmp_path: Path, closed: str) -> None:
    done = shell(tmp_path, f"$child {closed}")
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "first").read_text().startswith("a file"), "nothing else was written into it"


@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
@pytest.mark.parametrize("what", ["--json", "--text", "--script"])
def test_a_result_that_cannot_be_written_is_told(tmp_path: Path, where: str, what: str) -> None:
    done = shell(tmp_path, f"$child {what} x {where}")
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 3 and len(lines) == 2, done.stderr
    assert "cannot write to standard output" in lines[1]


@pytest.mark.parametrize("where", ["2>/dev/full", "2> >(true)"])
def test_nobody_has_to_hear_the_messages(tmp_path: Path, where: str) -> None:
    done = shell(tmp_path, f"$child --json x {where}")
    assert done.returncode == 0 and json.loads(done.stdout)["µ"] == 1


def test_nobody_reads_on(tmp_path: Path) -> None:
    done = shell(tmp_path, "set -o pipefail; $child --text | true; exit ${PIPESTATUS[0]}")
    assert done.returncode in (0, 141) and b"Traceback" not in done.stderr and b"Exception" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1", "utf-8", "utf-8:strict"])
def test_any_encoding_will_do(tmp_path: Path, encoding: str) -> None:
    done = shell(tmp_path, "$child --text --json x", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    first = done.stdout.splitlines()[0].decode(encoding.split(":")[0])
    assert json.loads(first) == {"µ": 1, "file": "x"}


def test_raw_bytes_in_names_break_no_json_and_stay_bytes_in_scripts(tmp_path: Path) -> None:
    done = shell(tmp_path, r"$child --json $'a\xff\xfe.tif'")
    assert os.fsencode(json.loads(done.stdout.decode("utf-8"))["file"]) == b"a\xff\xfe.tif"
    done = shell(tmp_path, r"$child --script $'a\xff.tif'")
    assert done.stdout == "µ ".encode() + b"a\xff.tif\n"
    assert json.loads(to_json({"a": "\ud800"})) == {"a": "\ud800"}


def test_the_version_needs_somewhere_to_go(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "unettile", "--version"]
    done = subprocess.run(["bash", "-c", '"$@" >&-', "-", *words], capture_output=True, text=True)
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and "closed" in done.stderr
    assert subprocess.run(words, capture_output=True, text=True).stdout == f"unettile {unettile.__version__}\n"


def test_the_message_is_the_last_word(tmp_path: Path) -> None:
    """A thread that still reads when its library is shut down says nothing any more."""
    script = """
import sys, threading, time
from unettile import cli

def late():
    time.sleep(0.3)
    raise RuntimeError("Event loop is closed")

def run(arguments):
    threading.Thread(target=late).start()
    print("unettile: the message", file=sys.stderr)
    return 3

cli.run = run
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "unettile: the message\n")
