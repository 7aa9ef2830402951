"""A machine that lets a process have no more: one line, code 75, nothing lost, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tifffile

from tests.conftest import ROOT
from tests.scenarios.conftest import Cli, make_pixels

LIMITED = """
import resource, sys
from unettile.cli import main
resource.setrlimit(getattr(resource, sys.argv.pop(1)), [int(sys.argv.pop(1))] * 2)
main()
"""
NOBODY = 61234
"""A user without any process: limits of processes count those of a user, and not those of root."""

AS_NOBODY = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    "--inh-caps=+dac_override", "--ambient-caps=+dac_override",
)  # fmt: skip
"""With the right to read wherever Python is installed."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three small images."""
    images = tmp_path / "in"
    images.mkdir()
    for index in range(3):
        tifffile.imwrite(images / f"{index}.tif", make_pixels(40, 50, seed=index))
    return images


def limited(images: Path, model: Path, limit: str, value: int, *program: str) -> subprocess.CompletedProcess[str]:
    words = ("segment", images, "-m", model, "-o", images.parent / "out")
    return subprocess.run(
        [*program, sys.executable, "-c", LIMITED, limit, str(value), *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)},
        timeout=200,
    )


def check_it_goes_on(cli: Cli, images: Path, model: Path) -> None:
    out = images.parent / "out"
    assert cli("segment", images, "-m", model, "-o", out).code == 0
    assert sorted(path.name for path in out.iterdir()) == ["0.tif", "1.tif", "2.tif"]
    assert not [path for path in images.parent.iterdir() if path.name.startswith(".")]


def test_no_more_files(cli: Cli, images: Path, model: Path) -> None:
    done = limited(images, model, "RLIMIT_NOFILE", 6)
    assert done.returncode == 75 and "Traceback" not in done.stderr, done.stderr
    assert "ulimit -n" in done.stderr.splitlines()[-1]
    assert "2 not begun" in done.stderr, "what stops one image stops them all: none of them is to blame"
    check_it_goes_on(cli, images, model)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="limits of processes need another user")
@pytest.mark.parametrize("processes", [2, 8])
def test_no_more_threads(cli: Cli, images: Path, model: Path, processes: int) -> None:
    """Libraries of compiled code would end the process, or send it a signal, without a word of ours."""
    with tempfile.TemporaryDirectory() as folder:  # one that another user may enter
        place = Path(folder)
        place.chmod(0o777)
        check_threads_run_out(cli, images.rename(place / "in"), model, processes)


def check_threads_run_out(cli: Cli, images: Path, model: Path, processes: int) -> None:
    done = limited(images, model, "RLIMIT_NPROC", processes, *AS_NOBODY)
    assert done.returncode == 75 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("unettile: ") and "ulimit -u" in done.stderr
    check_it_goes_on(cli, images, model)


def test_no_more_address_space(cli: Cli, images: Path, model: Path) -> None:
    done = limited(images, model, "RLIMIT_AS", 2**30)
    last = done.stderr.splitlines()[-1]
    assert done.returncode in (3, 75) and "Traceback" not in done.stderr, done.stderr
    assert "memory" in last or "ulimit" in last
    check_it_goes_on(cli, images, model)


def test_an_environment_of_nothing(images: Path, model: Path, tmp_path: Path) -> None:
    """No home, no place for temporary files, streams that are closed, an encoding without ×."""
    words = ["segment", str(images / "0.tif"), "-m", str(model), "-o", str(tmp_path / "mask.tif")]
    program = f'exec "{sys.executable}" -m unettile "$@"'
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": "/nonexistent", "PYTHONIOENCODING": "ascii"}
    environment |= {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    for streams in ("", "<&- >&- 2>&-"):
        done = subprocess.run(
            ["bash", "-c", f"{program} {streams}", "-", *words, "--overwrite"], capture_output=True, env=environment
        )
        assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
        assert tifffile.imread(tmp_path / "mask.tif").shape == (40, 50)
