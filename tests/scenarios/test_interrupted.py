"""A run that is stopped by a signal, or killed, and repeated gives the bytes of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tifffile

from tests.scenarios.conftest import make_pixels

SLOW = """
import time, unettile.tiling
unettile.tiling.BLOCK_EDGE = 64
from unettile.segmentation.rundir import RunDirectory
write = RunDirectory.write_block
def slowly(self, *arguments):
    write(self, *arguments)
    time.sleep(0.2)
RunDirectory.write_block = slowly
from unettile.cli import main
main()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model: Path) -> tuple[Path, bytes]:
    """An image of 20 blocks, and its mask from an uninterrupted run."""
    place = tmp_path_factory.mktemp("whole")
    tifffile.imwrite(place / "image.tif", make_pixels(250, 300))
    done = subprocess.run(command(place / "image.tif", model, place / "mask.tif"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place / "image.tif", (place / "mask.tif").read_bytes()


def command(image: Path, model: Path, out: Path) -> list[str]:
    return [sys.executable, "-c", SLOW, *("segment", str(image), "-m", str(model), "-o", str(out), "--tile", "68")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_and_repeated(tmp_path: Path, whole: tuple[Path, bytes], model: Path, number: signal.Signals) -> None:
    image, expected = whole
    out = tmp_path / "mask.tif"
    process = subprocess.Popen(command(image, model, out), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while len(list(tmp_path.glob("**/done/*"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be stopped"
        time.sleep(0.02)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=100)
    assert process.returncode == -number, err
    if number != signal.SIGKILL:
        assert "same command again" in err and "Traceback" not in err
    assert not out.exists()
    done_before = len(list(tmp_path.glob("**/done/*")))
    assert 2 <= done_before < 20
    repeated = subprocess.run(command(image, model, out), capture_output=True, text=True)
    assert repeated.returncode == 0, repeated.stderr
    assert out.read_bytes() == expected
    assert list(tmp_path.iterdir()) == [out]
