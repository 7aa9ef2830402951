"""A run that is stopped by a signal, or killed, and repeated gives the bytes of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.scenarios.conftest import Cli, make_pixels
from unettile.inference.predict import Predictor

SLOW = """
import sys, time, unettile.atomic, unettile.tiling
unettile.tiling.BLOCK_EDGE = 64
from unettile.segmentation.run.directory import RunDirectory
write, sync = RunDirectory.write_block, unettile.atomic._sync
def slowly(self, *arguments):
    write(self, *arguments)
    time.sleep(0.2)
def sync_slowly(path):
    sync(path)
    time.sleep(0.5 if path.name.startswith(".mask.tif") else 0)
RunDirectory.write_block, unettile.atomic._sync = slowly, sync_slowly
from unettile.cli import main
main()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model: Path) -> tuple[Path, bytes]:
    """An image of 9 blocks, and its mask from an uninterrupted run."""
    place = tmp_path_factory.mktemp("whole")
    tifffile.imwrite(place / "image.tif", make_pixels(190, 180))
    done = subprocess.run(command(place / "image.tif", model, place / "mask.tif"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place / "image.tif", (place / "mask.tif").read_bytes()


def command(image: Path, model: Path, out: Path) -> list[str]:
    return [sys.executable, "-c", SLOW, *("segment", str(image), "-m", str(model), "-o", str(out), "--tile", "68")]


def wait_for(process: subprocess.Popen[str], place: Path, pattern: str, count: int = 1) -> None:
    """Return when so many paths are there."""
    deadline = time.monotonic() + 200
    while len(list(place.glob(pattern))) < count:
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be stopped"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_stopped_and_repeated(tmp_path: Path, whole: tuple[Path, bytes], model: Path, number: signal.Signals) -> None:
    image, expected = whole
    out = tmp_path / "mask.tif"
    process = subprocess.Popen(command(image, model, out), stderr=subprocess.PIPE, text=True)
    wait_for(process, tmp_path, "**/done/*", 2)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=100)
    assert process.returncode == (75 if number == signal.SIGUSR1 else -number), err
    if number != signal.SIGKILL:
        assert "same command again" in err and "Traceback" not in err
    assert not out.exists()
    done_before = len(list(tmp_path.glob("**/done/*")))
    assert 2 <= done_before < 9
    repeated = subprocess.run(command(image, model, out), capture_output=True, text=True)
    assert repeated.returncode == 0, repeated.stderr
    assert out.read_bytes() == expected and list(tmp_path.iterdir()) == [out]
    again = subprocess.run(command(image, model, out), capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (0, f"{out} is finished already: nothing to do\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("stage", ["mask.tif.run", ".mask.tif.*.tmp"])
def test_stopped_at_the_start_and_while_the_file_is_written(
    tmp_path: Path, whole: tuple[Path, bytes], model: Path, number: signal.Signals, stage: str
) -> None:
    image, expected = whole
    out = tmp_path / "mask.tif"
    process = subprocess.Popen(command(image, model, out), stderr=subprocess.PIPE, text=True)
    wait_for(process, tmp_path, stage)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=100)
    assert process.returncode in (0, -number) and "Traceback" not in err, err
    if process.returncode:  # the last piece was written when the signal came: then it ended as if there had been none
        assert not out.exists()
        repeated = subprocess.run(command(image, model, out), capture_output=True, text=True)
        assert repeated.returncode == 0, repeated.stderr
    assert out.read_bytes() == expected and list(tmp_path.iterdir()) == [out]


# A process that has everything imported, from which each run is split off: a run then takes as long as its work.
KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
import unettile.tiling, unettile.segmentation.segment, unettile.segmentation.verify, unettile.models
from unettile.cli import run
unettile.tiling.BLOCK_EDGE = 64
times, out, arguments = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]

def start():
    child = os.fork()
    if child == 0:
        os._exit(run(arguments))
    return child

begin = time.monotonic()
os.waitpid(start(), 0)
lasting = time.monotonic() - begin
expected = out.read_bytes()
moments = random.Random(0)
killed = unequal = 0
codes = []
for _ in range(times):
    out.unlink()
    child = start()
    time.sleep(moments.uniform(0, lasting))
    os.kill(child, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if not out.exists() or out.with_name(out.name + ".run").exists():
        codes.append(os.waitstatus_to_exitcode(os.waitpid(start(), 0)[1]))
    unequal += out.read_bytes() != expected
print(json.dumps({"killed": killed, "unequal": unequal, "codes": codes, "left": os.listdir(out.parent)}))
"""


@pytest.mark.parametrize("times", [4, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_killed_at_random_moments(tmp_path: Path, whole: tuple[Path, bytes], model: Path, times: int) -> None:
    """Each kill is followed by the same command; some fall after the end, so there are more of them than are needed."""
    image, expected = whole
    out = tmp_path / "mask.tif"
    arguments = ["segment", str(image), "-m", str(model), "-o", str(out), "--tile", "68", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(times), str(out), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["killed"] >= times * 5 // 6
    assert report["unequal"] == 0 and set(report["codes"]) == {0}, done.stderr
    assert out.read_bytes() == expected
    assert report["left"] == ["mask.tif"]


def test_two_processes_with_the_same_command(tmp_path: Path, whole: tuple[Path, bytes], model: Path) -> None:
    image, expected = whole
    out = tmp_path / "mask.tif"
    arguments = [*command(image, model, out), "--overwrite"]  # the second may find the file of the first
    both = [subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=200)
        assert process.returncode == 0 and "Traceback" not in err, err
    assert out.read_bytes() == expected
    assert list(tmp_path.iterdir()) == [out]


def test_the_time_limit(
    cli: Cli, tmp_path: Path, whole: tuple[Path, bytes], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 75 and one line; the same command, given as often as it takes, makes the same file."""
    monkeypatch.setattr("unettile.tiling.BLOCK_EDGE", 64)
    image, expected = whole
    planes = Predictor.planes

    def slowly(self: Predictor, kinds: tuple[str, ...], windows: NDArray[np.float32]) -> NDArray[np.uint8]:
        time.sleep(0.4)
        return planes(self, kinds, windows)

    monkeypatch.setattr(Predictor, "planes", slowly)
    monkeypatch.setattr(Predictor, "by_rows", lambda *arguments: None)
    arguments = ("segment", image, "-m", model, "-o", tmp_path / "mask.tif", "--tile", 68, "--quiet")
    codes = []
    while not codes or codes[-1] == 75:
        done = cli(*arguments, "--max-time", "1s" if len(codes) < 2 else "1h")
        codes.append(done.code)
        assert done.code == 0 or ("--max-time" in done.err and done.err.count("\n") == 1), done.err
    assert codes == [75, 75, 0] and (tmp_path / "mask.tif").read_bytes() == expected
    done = cli(*arguments, "--overwrite", "--max-time", "soon")
    assert done.code == 2 and "--max-time" in done.err
