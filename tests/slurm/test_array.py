"""Many jobs under a real Slurm: whatever happens to them, what they make is what one process makes."""

from __future__ import annotations

import json

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.conftest import Run, unettile

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


def test_an_array_with_a_task_requeued_and_one_cancelled(run: Run, cluster: Cluster, whole: bytes) -> None:
    planned = run.plan()
    assert (planned["blocks"], planned["blocks_per_shard"]) == (12, 3)
    array, stitch = run.submit()
    cluster.wait_for(array, lambda tasks: run.done(1) >= 1)
    assert cluster.call("scontrol", "requeue", f"{array}_1").returncode == 0
    cluster.wait_for(array, lambda tasks: run.done(2) >= 1)
    assert cluster.call("scancel", f"{array}_2").returncode == 0
    tasks = cluster.wait_until_over(array)
    states = {index: task["JobState"] for index, task in tasks.items()}
    assert states == {"0": "COMPLETED", "1": "COMPLETED", "2": "CANCELLED", "3": "COMPLETED"}, run.logs()
    assert tasks["1"]["Restarts"] == "1"
    assert {task["NodeList"] for task in tasks.values()} == set(cluster.nodes)
    assert 1 <= run.done(2) < 3, "the cancelled task finished its block and no more"
    assert cluster.wait_until_over(stitch)[stitch]["JobState"] == "CANCELLED", "its dependency never comes true"

    refused = unettile("stitch", run.directory, "-o", run.output, "--json")
    assert refused.returncode == 75 and "--array=2 " in refused.stderr.replace(",", " "), refused.stderr
    missing = json.loads(refused.stdout)["missing"]
    assert not run.output.exists()

    array, stitch = run.submit(f"--array={missing['array']}")
    assert {task["JobState"] for task in cluster.wait_until_over(array).values()} == {"COMPLETED"}, run.logs()
    assert cluster.wait_until_over(stitch)[stitch]["JobState"] == "COMPLETED", run.logs()
    assert run.output.read_bytes() == whole


def test_a_preempted_job_goes_on(run: Run, cluster: Cluster) -> None:
    run.plan()
    node = cluster.nodes[0]
    array, stitch = run.submit("--array=1", f"--nodelist={node}", "--cpus-per-task=2")
    cluster.wait_for(array, lambda tasks: run.done(1) >= 1)
    urgent = ("--partition=urgent", f"--nodelist={node}", "--cpus-per-task=2", "--mem=10M")
    script = "#!/bin/bash\nexec sleep 1\n"
    assert cluster.call("sbatch", *urgent, f"--output={run.place}/urgent.log", stdin=script).returncode == 0
    task = cluster.wait_until_over(array)["1"]
    assert (task["JobState"], task["Restarts"], run.done(1)) == ("COMPLETED", "1", 3), run.logs()
    log = (run.place / f"{array}_1.log").read_text()
    assert "Traceback" not in log and "blocks were there" in log, "the second start found what the first had done"
    assert cluster.wait_until_over(stitch)[stitch]["ExitCode"] == "75:0", "the other shards are missing"


def test_a_job_that_is_told_its_time_is_nearly_over_ends_with_75_and_goes_on(
    run: Run, cluster: Cluster, whole: bytes
) -> None:
    """SIGUSR1, as `#SBATCH --signal=B:USR1@60` sends it; then all is submitted again, and again."""
    run.plan()
    array, stitch = run.submit()
    cluster.wait_for(array, lambda tasks: run.done(1) >= 1)
    assert cluster.call("scancel", "--signal=USR1", "--batch", f"{array}_1").returncode == 0
    tasks = cluster.wait_until_over(array)
    assert {index: task["ExitCode"] for index, task in tasks.items()} == {
        "0": "0:0",
        "1": "75:0",
        "2": "0:0",
        "3": "0:0",
    }, run.logs()
    assert 1 <= run.done(1) < 3 and "SIGUSR1" in (run.place / f"{array}_1.log").read_text()
    assert cluster.wait_until_over(stitch)[stitch]["JobState"] == "CANCELLED"
    written = []
    for _ in range(2):  # the second time all is finished, the mask too: every job ends with 0
        array, stitch = run.submit()
        assert {task["ExitCode"] for task in cluster.wait_until_over(array).values()} == {"0:0"}, run.logs()
        assert cluster.wait_until_over(stitch)[stitch]["ExitCode"] == "0:0", run.logs()
        assert run.output.read_bytes() == whole
        written.append(run.output.stat().st_mtime_ns)
    assert written[0] == written[1], "a mask that is finished is not written again"


def test_the_memory_estimate_is_kept(run: Run, cluster: Cluster) -> None:
    if not cluster.limits_memory:
        pytest.skip("no memory control group of version 1 that may be written: nothing enforces --mem here")
    planned = run.plan()
    estimate = -(-planned["memory_bytes"] // 2**20)  # MiB
    array, _ = run.submit("--array=3", f"--mem={estimate}M")
    task = cluster.wait_until_over(array)["3"]
    assert task["JobState"] == "COMPLETED", f"{estimate} MiB were promised to be enough: {task} {run.logs()}"
    array, _ = run.submit("--array=0", f"--mem={estimate // 5}M")
    task = cluster.wait_until_over(array)["0"]
    assert task["JobState"] in ("OUT_OF_MEMORY", "FAILED") and run.done(0) == 0, run.logs()
    refused = unettile("stitch", run.directory, "-o", run.output, "--json")
    assert json.loads(refused.stdout)["missing"]["array"] == "0-2"


def test_nothing_is_left_behind(cluster: Cluster) -> None:
    """Three clusters at once do not meet, and each takes all of itself away."""
    with Cluster() as first, Cluster() as second:
        places = [first.place, second.place]
        for one in (first, second):
            done = one.call("sbatch", "--wait", "--output=/dev/null", stdin="#!/bin/bash\nexec true\n")
            assert done.returncode == 0, done.stderr
        daemons = [daemon for one in (first, second) for daemon in one.daemons]
    assert not any(place.exists() for place in places)
    assert all(daemon.returncode is not None for daemon in daemons)
