"""Where the time went: the parts of the main thread add up, inner parts are taken out of outer ones, pixels stay."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from unettile.cli import run
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.run.profile import Profile
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.segment import segment_image, segment_shard
from unettile.tiling import Shard


def seconds(profile: dict[str, Any], thread: str = "main") -> dict[str, float]:
    return {one["part"]: one["seconds"] for one in profile["parts"] if one["thread"] == thread}


def test_the_parts_of_the_main_thread_add_up() -> None:
    start = time.perf_counter()
    profile = Profile()
    before = seconds(profile.to_dict())["start-up"]
    with profile.part("outer"):
        time.sleep(0.02)
        with profile.part("inner"):
            time.sleep(0.03)
        with profile.part("inner"):
            time.sleep(0.03)
    found = profile.to_dict()
    parts = seconds(found)
    assert parts.keys() == {"start-up", "other", "outer", "inner"}
    assert parts["inner"] >= 0.06 and parts["outer"] >= 0.02
    assert sum(parts.values()) == pytest.approx(found["seconds"], abs=0.003)
    assert found["seconds"] - before <= time.perf_counter() - start + 0.001
    assert sum(one["share"] for one in found["parts"]) == pytest.approx(1, abs=0.001)


def test_threads_have_clocks_of_their_own() -> None:
    profile = Profile()

    def work() -> None:
        with profile.part("read"):
            sum(range(200_000))

    threads = [threading.Thread(target=work, name=f"reader_{number}") for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = profile.to_dict()
    (reader,) = (one for one in found["parts"] if one["thread"] == "reader")
    assert reader["part"] == "read" and 0 < reader["busy_seconds"] <= reader["seconds"] + 0.01
    assert "read" not in seconds(found)


@pytest.mark.parametrize("edge", [32, 404])  # windows, and rows
def test_a_run_tells_its_parts(tmp_path: Path, image: Path, predictor: Predictor, edge: int) -> None:
    for number in range(2):
        watch = Watch()
        segment_shard(image, tmp_path / "run", Shard(number, 2), predictor, SegmentOptions(output_edge=edge), watch)
        assert {"plan", "wait"} <= seconds(watch.profile.to_dict()).keys()
    watch = Watch()
    segment_image(image, tmp_path / "mask.tif", predictor, SegmentOptions(output_edge=edge), watch)
    found = watch.profile.to_dict()
    assert {"start-up", "other", "plan", "wait", "compute", "normalise", "write"} == seconds(found).keys()
    assert seconds(found, "reader").keys() == {"read"} and seconds(found, "writer").keys() == {"write"}


def test_the_command_shows_a_table_and_changes_nothing(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    image.rename(tmp_path / "images" / "one.tif")
    base = ["segment", str(tmp_path / "images"), "--device", "cpu"]
    assert run([*base, "-o", str(tmp_path / "plain"), "--quiet", "--json"]) == 0
    assert "profile" not in json.loads(capsys.readouterr().out)
    assert run([*base, "-o", str(tmp_path / "told"), "--profile", "--json"]) == 0
    shown = capsys.readouterr()
    profile = json.loads(shown.out)["profile"]
    assert profile.keys() == {"seconds", "processor_seconds", "parts"}
    assert all(one.keys() == {"thread", "part", "seconds", "busy_seconds", "share"} for one in profile["parts"])
    assert "thread  part" in shown.err and "compute" in shown.err
    assert (tmp_path / "told" / "one.tif").read_bytes() == (tmp_path / "plain" / "one.tif").read_bytes()
