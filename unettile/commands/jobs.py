"""What `segment` does with its images: one, a shard of one, or a batch; planned or done; and what it says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from unettile.commands.batch import Outcome, Results, Status, Task, run_tasks
from unettile.commands.console import Console, format_duration, write_line
from unettile.commands.failures import Told, writing_to
from unettile.commands.signals import GRACE_S, ShouldStop, finish_step_first
from unettile.errors import InputError
from unettile.wording import counted, size_text

if TYPE_CHECKING:
    from pathlib import Path

    from unettile.inference.predict import Predictor
    from unettile.segmentation.options import SegmentOptions
    from unettile.segmentation.plan import Plan
    from unettile.segmentation.run.profile import Profile
    from unettile.segmentation.run.watch import Watch
    from unettile.segmentation.segment import SegmentResult
    from unettile.tiling import Shard

TABLE_ROWS = 40
"""Longer tables are shortened to what was refused."""

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
    """

    predictor: Predictor
    options: SegmentOptions
    profile: Profile
    shard: Shard | None = None
    batch: bool = False
    overwrite: bool = False
    verify: bool = False
    deadline: float | None = None

    def plan(self, task: Task) -> Outcome:
        """Check a task and say what would be done, without writing anything."""
        from unettile.segmentation.budget import estimate_device_memory, estimate_memory, fit_batch
        from unettile.segmentation.finished import is_finished
        from unettile.segmentation.output import check_format, check_output
        from unettile.segmentation.planes import choose_planes
        from unettile.segmentation.planning import plan_image
        from unettile.segmentation.suiting import advice

        options, planes = choose_planes(task.image, self.predictor, self.options)
        plan = plan_image(task.image, self.predictor, options, self.shard.count if self.shard else 1)
        if planes is None and self.shard is None and not self.overwrite and is_finished(task.output, plan):
            return _skipped(task)
        if self.shard is None:
            check_format(task.output, plan)
            if not self.batch or task.output.parent.exists():
                check_output(task.output, overwrite=self.overwrite)
        blocks = self.shard.blocks(plan.blocks) if self.shard else range(len(plan.blocks))
        batch = fit_batch(plan, self.predictor, self.options.batch)
        memory = estimate_memory(plan, self.predictor, batch)
        device_memory = estimate_device_memory(plan, self.predictor, batch)
        cut = self.predictor.engine.cut(plan.task)
        by_rows, width = cut.height < plan.block_edge, min(cut.width, plan.shape[1])
        details = {
            "shape": list(plan.output_shape),
            **({} if planes is None else {"planes": len(planes)}),
            "view": plan.view.to_dict(),
            "pixel_size_um": plan.pixel_size_um,
            "tile": plan.output_edge,
            "computed_by": "rows" if by_rows else "tiles",
            "window": plan.geometry.input_edge(plan.output_edge),
            **({"row_width": width} if by_rows else {}),
            "tiles": len(plan.tiles),
            "blocks": len(plan.blocks),
            "blocks_to_do": len(blocks),
            "batch": batch,
            "memory_bytes": memory,
            **({"device_memory_bytes": device_memory} if device_memory else {}),
            "device": plan.device,
            "precision": plan.precision,
            "classes": list(plan.class_names),
            "model_sha256": plan.model.sha256,
        }
        many = "" if planes is None else f"{counted(len(planes), 'plane')} of "
        message = (
            f"would write {task.output}: {many}{_size(plan)}, {counted(len(plan.tiles), 'tile')} of"
            f" {plan.output_edge} px, by {f'rows of {width} px' if by_rows else 'windows'}, {len(blocks)} of"
            f" {counted(len(plan.blocks), 'block')}, batch {batch}, {plan.device}, {plan.precision}, "
            f"about {memory / 2**30:.1f} GiB of memory"
        )
        if device_memory:
            message += f" and {device_memory / 2**30:.1f} GiB of the GPU's"
        lines = advice(self.predictor.checkpoint, plan, str(task.image))
        return Outcome(task, Status.PLANNED, "; ".join([message, *lines]), details)

    def run(self, task: Task, watch: Watch) -> Outcome:
        """Segment one image."""
        from unettile.segmentation.stacks import segment, segment_part

        if self.shard is not None:
            with writing_to(task.output):
                result = segment_part(
                    task.image, task.output, self.shard, self.predictor, self.options, watch, self.verify
                )
        else:
            with writing_to(task.output):
                result = segment(
                    task.image, task.output, self.predictor, self.options, watch, self.overwrite, self.verify
                )
        if result.was_finished:
            outcome = _skipped(task)
        else:
            outcome = Outcome(task, Status.DONE, _message(task, result, self.shard), result.to_dict())
        if self.shard is not None:
            outcome.details["shard"] = f"{self.shard.index}/{self.shard.count}"
        verification = result.verification
        if verification is None:
            return outcome
        text = (
            f"; {verification.tiles} tiles again at {verification.other_edge} px: largest difference "
            f"{verification.largest_difference:.3g}, {verification.differing_pixels} of {verification.pixels} px differ"
            " from what was written"
        )
        details = outcome.details | {"verify": verification.to_dict()}
        return replace(outcome, message=outcome.message + text, details=details)

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
            with console.progress(tasks[0].image.name) as on_progress:
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
                    show(finished, len(tasks), f"{task.image.name}{doing} {100 * done // total} %")

                @contextmanager
                def stage(name: str) -> Iterator[Callable[[int, int], None]]:
                    yield lambda done, total: on_progress(done, total, f", {name}")

                show(finished, len(tasks), task.image.name)
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


def report(results: Results, batch: bool, console: Console, profile: Profile | None = None) -> None:
    """Say how it went: a line for one image, a table for several.

    Args:
        profile: shown, too; None for none.

    Raises:
        Told: images were refused, what stopped the batch, or the first defect that an image brought out.
    """
    outcomes = results.outcomes
    times = {} if profile is None else {"profile": profile.to_dict()}
    if not batch:
        console.message(outcomes[0].message)
        _show_times(times, console)
        console.result(outcomes[0].to_dict() | times)
        return
    counts = Counter(outcome.status for outcome in outcomes)
    refused = [outcome for outcome in outcomes if outcome.status in (Status.REFUSED, Status.FAILED)]
    shown = outcomes if len(outcomes) <= TABLE_ROWS else refused
    if console.quiet:
        for outcome in refused:
            write_line(f"unettile: {outcome.message}")
    elif shown:
        console.table(
            ("image", "status", ""),
            [(str(outcome.task.image), outcome.status.value, outcome.message) for outcome in shown],
        )
    tally = {status.value.replace(" ", "_"): count for status, count in counts.items()}
    _show_times(times, console)
    details = {"images": [outcome.to_dict() for outcome in outcomes], **tally, **times}
    summary = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
    if results.error is not None:
        console.message(f"{counted(len(outcomes), 'image')}: {summary}")
        raise Told(results.error, details)
    if refused:
        verb, them = ("was", "it") if len(refused) == 1 else ("were", "them")
        raise Told(
            InputError(
                f"{len(refused)} of {counted(len(outcomes), 'image')} {verb} refused ({summary}): mend {them} and give"
                " the same command again"
            ),
            details,
        )
    console.message(f"{counted(len(outcomes), 'image')}: {summary}")
    console.result({"status": "done"} | details)


def _show_times(times: dict[str, Any], console: Console) -> None:
    """Show a profile as a table: seconds by the clock, seconds of a processor, and the share of all."""
    for profile in times.values():
        rows = [
            (one["thread"], one["part"], f"{one['seconds']:.2f}", f"{one['busy_seconds']:.2f}", f"{one['share']:.1%}")
            for one in profile["parts"]
        ]
        total = ("all", "", f"{profile['seconds']:.2f}", f"{profile['processor_seconds']:.2f}", "100.0%")
        console.table(("thread", "part", "seconds", "busy", "share"), [*rows, total])


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


def _size(plan: Plan) -> str:
    return size_text(plan.output_shape)


def _message(task: Task, result: SegmentResult, shard: Shard | None) -> str:
    plan = result.plan
    parts = [_size(plan) if result.planes == 1 else f"{result.planes} planes of {_size(plan)}"]
    if result.written.class_pixels:
        area = plan.output_shape[0] * plan.output_shape[1] * result.planes
        parts += [f"{100 * count / area:.1f} % {name}" for name, count in list(result.written.class_pixels.items())[1:]]
    if result.left_out is not None:
        parts.append(f"{100 * result.left_out:.1f} % left out as background")
    if result.written.found is not None:
        parts.append(counted(result.written.found.count, "object"))
    parts.append(f"{format_duration(result.seconds)} at {result.pixels_per_second / 1e6:.2f} Mpx/s")
    if result.tally.resumed:
        parts.append(f"{result.tally.resumed} of {counted(len(plan.blocks) * result.planes, 'block')} were there")
    what = f"wrote {task.output}"
    if shard is not None:
        blocks = f"{result.tally.computed} of {counted(len(plan.blocks) * result.planes, 'block')}"
        what = f"wrote shard {shard.index}/{shard.count} to {task.output} ({blocks})"
    return f"{what}: {', '.join(parts)}"
