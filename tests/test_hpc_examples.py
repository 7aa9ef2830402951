"""The examples of docs/hpc.md do what the page says, on a small image."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from unettile.cli import run

PAGE = (ROOT / "docs" / "hpc.md").read_text("utf-8")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with an image called slide.tif, and a unettile to be called."""
    shutil.copy(ROOT / "sample_data" / "nuclei.tif", tmp_path / "slide.tif")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "unettile"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m unettile "$@"\n')
    program.chmod(0o755)
    return tmp_path


def shell(text: str, place: Path) -> None:
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=place,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def check_mask(place: Path) -> None:
    assert run(["segment", str(place / "slide.tif"), "-o", str(place / "whole.tif")]) == 0
    assert (place / "mask.tif").read_bytes() == (place / "whole.tif").read_bytes()


def fenced(start: str) -> str:
    """Return the fenced block that begins with, or whose comment is, `start`."""
    found = re.search(
        rf"(?:<!-- {re.escape(start)} -->\n```\w+\n|```\w+\n(?={re.escape(start)}))(.*?)```", PAGE, re.DOTALL
    )
    assert found, start
    return found[1]


def test_the_shell_example(place: Path) -> None:
    shell(fenced("seq 0 7 |").replace("0 7", "0 1").replace("/8", "/2"), place)
    check_mask(place)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_snakemake_example(place: Path) -> None:
    if shutil.which("snakemake") is None:
        pytest.skip("no snakemake: pip install snakemake")
    (place / "Snakefile").write_text(fenced("snakemake-example").replace("JOBS = 16", "JOBS = 2"))
    shell("snakemake --cores 2 mask.tif", place)
    check_mask(place)
