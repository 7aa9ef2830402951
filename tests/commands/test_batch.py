"""Many images, one command: names that cannot clash, failures that stay alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from unettile.commands.batch import Outcome, Status, Task, passed_over, plan_shard, plan_tasks, run_tasks
from unettile.errors import Incomplete, InputError, Interrupted, UsageError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")


def test_one_image_is_a_file(tmp_path: Path) -> None:
    image = tmp_path / "a.ome.tif"
    touch(image)
    assert plan_tasks([image], tmp_path / "b.png") == [Task(image, tmp_path / "b.png")]
    with pytest.raises(UsageError, match=r"is a directory: .*use .*/a\.tif"):
        plan_tasks([image], tmp_path)
    with pytest.raises(InputError, match="no such file"):
        plan_tasks([Path("slidse")], tmp_path / "masks")


def test_a_directory_even_of_one_image_becomes_a_directory(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.ome.tif")
    out = tmp_path / "out"
    assert plan_tasks([tmp_path / "in"], out) == [Task(tmp_path / "in" / "a.ome.tif", out / "a.tif")]
    with pytest.raises(UsageError, match="looks like a file"):
        plan_tasks([tmp_path / "in"], tmp_path / "out.tif")
    touch(tmp_path / "out.tif")
    with pytest.raises(UsageError, match="is a file"):
        plan_tasks([Path("a.tif"), Path("b.tif")], tmp_path / "out.tif")


def test_a_shard_is_a_directory(tmp_path: Path) -> None:
    assert plan_shard([Path("a.tif")], tmp_path / "run") == [Task(Path("a.tif"), tmp_path / "run")]
    with pytest.raises(UsageError, match="looks like a file: --shard needs a run directory"):
        plan_shard([Path("a.tif")], tmp_path / "mask.tif")
    with pytest.raises(UsageError, match="one image"):
        plan_shard([tmp_path], tmp_path / "run")


def test_clashes_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.tif", tmp_path / "in" / "a.png")
    with pytest.raises(UsageError, match="would both become"):
        plan_tasks([tmp_path / "in"], tmp_path / "out")
    with pytest.raises(UsageError, match="would both become"):
        plan_tasks([Path("a.tif"), Path("a.tif")], tmp_path / "out")


def test_an_image_is_never_its_own_output(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.tif")
    for images, output in (
        ([tmp_path / "in" / "a.tif"], tmp_path / "in" / "a.tif"),
        ([tmp_path / "in"], tmp_path / "in"),
    ):
        with pytest.raises(UsageError, match="is one of the inputs"):
            plan_tasks(images, output)


def test_a_format_is_for_directories(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.ome.tif")
    out = tmp_path / "out"
    assert plan_tasks([tmp_path / "in"], out, "png") == [Task(tmp_path / "in" / "a.ome.tif", out / "a.png")]
    assert plan_tasks([tmp_path / "in"], out, ".PNG")[0].output == out / "a.png"
    for call in (
        lambda: plan_tasks([tmp_path / "in" / "a.ome.tif"], tmp_path / "b.tif", "png"),
        lambda: plan_shard([Path("a.tif")], tmp_path / "run", "png"),
        lambda: plan_tasks([tmp_path / "in"], out, "docx"),
    ):
        with pytest.raises(UsageError, match=r"for directories|ending"):
            call()


def test_directories_below_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.tif")
    for name in ("b", "c", "d", "e", ".hidden"):
        (tmp_path / "in" / name).mkdir()
    assert passed_over([tmp_path / "in" / "a.tif"]) == []
    assert passed_over([tmp_path / "in"]) == [
        f"directories below {tmp_path / 'in'} are not searched: b, c, d and 1 more"
    ]


def test_a_bad_image_does_not_stop_the_others() -> None:
    tasks = [Task(Path(name), Path(f"{name}.tif")) for name in "abcd"]
    defect = ZeroDivisionError("ours")

    def work(task: Task) -> Outcome:
        if task.image.name == "b":
            raise InputError("b is bad")
        if task.image.name == "c":
            raise defect
        return Outcome(task, Status.DONE, "ok")

    results = run_tasks(tasks, work)
    assert [outcome.status for outcome in results.outcomes] == ["done", "refused", "failed", "done"]
    assert results.error is defect


@pytest.mark.parametrize("error", [UsageError("no"), Interrupted(2), Incomplete("time")])
def test_what_concerns_all_stops_all(error: Exception) -> None:
    def work(task: Task) -> Outcome:
        if task.image.name == "b":
            raise error
        return Outcome(task, Status.DONE, "ok")

    results = run_tasks([Task(Path(name), Path(f"{name}.tif")) for name in "abcd"], work)
    assert [outcome.status for outcome in results.outcomes] == ["done", "stopped", "not begun", "not begun"]
    assert results.error is error
