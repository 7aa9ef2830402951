"""What `segment` does with its images: one, a shard of one, or a batch; planned or done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unettile.commands.batch import Outcome, Results, Status, Task, run_tasks
from unettile.commands.console import Console
from unettile.commands.failures import Told, writing_to
from unettile.commands.signals import GRACE_S, ShouldStop, finish_step_first
from unettile.commands.summary import Intent, describe
from unettile.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    from unettile.commands.gpus import Gpus
    from unettile.inference.predict import Predictor
    from unettile.segmentation.options import SegmentOptions
    from unettile.segmentation.run.profile import Profile
    from unettile.segmentation.run.watch import Watch
    from unettile.segmentation.share import Share
    from unettile.tiling import Shard

STOPPING = "stopping after the window in work; a second signal stops at once"


@dataclass(frozen=True)
class Job:
    """How every image of a command is segmented.

    Args:
        shard: part of the one image, written to a run directory; None for the whole.
        batch: OUT is a directory.
        verify: compute a sample again and report the difference.
        deadline: when to stop, by `time.monotonic`, s; None for never.
        profile: of the command, since it had loaded its libraries.
        gpus: that share every image; None for the predictor's device alone.
        share: of the one image, for a process that has begun it with the same command; None for the whole.
    """

    predictor: Predictor
    options: SegmentOptions
    profile: Profile
    shard: Shard | None = None
    batch: bool = False
    overwrite: bool = False
    verify: bool = False
    deadline: float | None = None
    gpus: Gpus | None = None
    share: Share | None = None

    def plan(self, task: Task) -> Outcome:
        """Check a task and say what would be done, without writing anything."""
        from unettile.segmentation.division import Division
        from unettile.segmentation.finished import is_finished
        from unettile.segmentation.output import check_format, check_output
        from unettile.segmentation.planes import choose_planes
        from unettile.segmentation.planning import plan_image
        from unettile.segmentation.stackfile import check_stack_format
        from unettile.segmentation.stacks import is_stack_finished
        from unettile.segmentation.suiting import advice
        from unettile.tiling import Shard

        options, planes = choose_planes(task.image, self.predictor, self.options)
        shard = self.shard or Shard(0, 1)
        division = Division(1 if planes is None else len(planes), shard.count)
        plan = plan_image(task.image, self.predictor, options, division.plane_shards)
        if self.shard is None:
            if planes is None:
                finished = not self.overwrite and is_finished(task.output, plan, options.zarr)
            else:
                there = (task.image, task.output, self.predictor, options, planes)
                finished = not self.overwrite and is_stack_finished(*there)
            if finished:
                return _skipped(task)
            if planes is None:
                check_format(task.output, plan)
            else:
                check_stack_format(task.output, planes, plan)
            if not self.batch or task.output.parent.exists():
                check_output(task.output, overwrite=self.overwrite)
        blocks = division.part(shard).blocks(plan.blocks)
        own = None if planes is None else len(division.planes_of(shard.index))
        intent = Intent.of(plan, self.predictor, self.options.batch, len(blocks), own)
        lines = advice(self.predictor.checkpoint, plan, str(task.image))
        if self.gpus is not None:
            lines = [f"shared by {', '.join(self.gpus.devices)}, a process for each", *lines]
        message = "; ".join([f"would write {task.output}: {intent}", *lines])
        return Outcome(task, Status.PLANNED, message, intent.to_dict() | self._devices())

    def run(self, task: Task, watch: Watch) -> Outcome:
        """Segment one image."""
        from unettile.images.labelplace import unseen_line
        from unettile.segmentation.segment import run_directory_for
        from unettile.segmentation.stacks import segment, segment_part
        from unettile.tiling import Shard

        if self.share is not None:
            there = task.image, run_directory_for(task.output), Shard(0, 1)
            segment_part(*there, self.predictor, self.options, watch, share=self.share)
            return Outcome(task, Status.DONE, "")
        if self.shard is not None:
            with writing_to(task.output):
                result = segment_part(
                    task.image, task.output, self.shard, self.predictor, self.options, watch, self.verify
                )
        else:
            with writing_to(task.output):
                crew = None if self.gpus is None else self.gpus.of(task)
                result = segment(
                    task.image, task.output, self.predictor, self.options, watch, self.overwrite, self.verify, crew
                )
            if (line := unseen_line(task.output)) is not None:
                watch.advise(line)
        if result.was_finished:
            outcome = _skipped(task)
        else:
            outcome = Outcome(task, Status.DONE, describe(task, result, self.shard), result.to_dict() | self._devices())
        if self.shard is not None:
            outcome.details["shard"] = f"{self.shard.index}/{self.shard.count}"
        verification = result.verification
        if verification is None:
            return outcome
        where = "" if verification.planes is None else f" of {counted(verification.planes, 'plane')}"
        text = (
            f"; {verification.tiles} tiles{where} again at {verification.other_edge} px: largest difference "
            f"{verification.largest_difference:.3g}, {verification.differing_pixels} of {verification.pixels} px differ"
            " from what was written"
        )
        details = outcome.details | {"verify": verification.to_dict()}
        return replace(outcome, message=outcome.message + text, details=details)

    def _devices(self) -> dict[str, list[str]]:
        """Return what --json says of several devices."""
        return {} if self.gpus is None else {"devices": list(self.gpus.devices)}

    def plan_all(self, tasks: Sequence[Task]) -> Results:
        """Plan every image; errors as in `run_all`."""
        if self.batch:
            return run_tasks(tasks, self.plan)
        with _of(tasks[0]):
            return Results((self.plan(tasks[0]),))

    def run_all(self, tasks: Sequence[Task], console: Console) -> Results:
        """Segment every image, showing how far it is.

        Raises:
            Told: of the only image; for a batch it is noted in the results.
        """
        from unettile.segmentation.run.watch import Watch

        with finish_step_first("" if console.quiet else STOPPING, GRACE_S) as should_stop:
            if self.batch:
                return self._run_batch(tasks, console, should_stop)
            with console.progress(tasks[0].title) as on_progress:
                watch = Watch(
                    on_progress,
                    should_stop,
                    deadline=self.deadline,
                    on_advice=console.message,
                    profile=self.profile,
                    stage=console.progress,
                )
                with _of(tasks[0]):
                    return Results((self.run(tasks[0], watch),))

    def _run_batch(self, tasks: Sequence[Task], console: Console, should_stop: ShouldStop) -> Results:
        from unettile.segmentation.run.watch import Watch

        with _directory(tasks[0].output.parent), console.images("images") as show:
            finished = 0

            def work(task: Task) -> Outcome:
                nonlocal finished

                def on_progress(done: int, total: int, doing: str = "") -> None:
                    show(finished, len(tasks), f"{task.title}{doing} {100 * done // total} %")

                @contextmanager
                def stage(name: str) -> Iterator[Callable[[int, int], None]]:
                    yield lambda done, total: on_progress(done, total, f", {name}")

                show(finished, len(tasks), task.title)
                try:
                    watch = Watch(
                        on_progress,
                        should_stop,
                        deadline=self.deadline,
                        on_advice=console.message,
                        profile=self.profile,
                        stage=stage,
                    )
                    return self.run(task, watch)
                finally:
                    finished += 1
                    show(finished, len(tasks), "")

            return run_tasks(tasks, work)


@contextmanager
def _of(task: Task) -> Iterator[None]:
    """Tell --json which image an error is of."""
    try:
        yield
    except Exception as error:
        raise Told(error, {"image": str(task.image), "output": str(task.output)}) from error


@contextmanager
def _directory(path: Path) -> Iterator[None]:
    """Make the output directory; take it away again if nothing came into it."""
    existed = path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if not existed:
            with suppress(OSError):
                path.rmdir()  # fails if it holds anything


def _skipped(task: Task) -> Outcome:
    from unettile.images.provenance import finished_line

    return Outcome(task, Status.SKIPPED, finished_line(task.output))
