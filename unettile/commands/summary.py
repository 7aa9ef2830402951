"""Summary: what `segment` says of its images: what it would do, what it did, a table of several, and the times."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unettile.commands.batch import Results, Status, Task
from unettile.commands.console import Console, format_duration, write_line
from unettile.commands.failures import Told
from unettile.errors import InputError
from unettile.wording import counted, size_text

if TYPE_CHECKING:
    from unettile.inference.predict import Predictor
    from unettile.segmentation.plan import Plan
    from unettile.segmentation.run.profile import Profile
    from unettile.segmentation.segment import SegmentResult
    from unettile.tiling import Shard

TABLE_ROWS = 40
"""Longer tables are shortened to what was refused."""


@dataclass(frozen=True)
class Intent:
    """What would be done with an image.

    Args:
        batch: windows at once.
        blocks: to be computed, of those of the plan.
        planes: of a stack; None for an image that is none.
        row_width: px at once, where blocks are computed by rows; None where by windows.
        memory_bytes, device_memory_bytes: of the machine and of the GPU at the peak; 0 where there is no GPU.
    """

    plan: Plan
    batch: int
    blocks: int
    planes: int | None
    row_width: int | None
    memory_bytes: int
    device_memory_bytes: int

    @classmethod
    def of(cls, plan: Plan, predictor: Predictor, batch: int | None, blocks: int, planes: int | None) -> Intent:
        """Work out what a plan needs; `batch` None for what fits.

        Raises:
            InputError: it does not fit into memory.
        """
        from unettile.segmentation.budget import estimate_device_memory, estimate_memory, fit_batch

        at_once = fit_batch(plan, predictor, batch)
        cut = predictor.engine.cut(plan.task)
        row_width = min(cut.width, plan.shape[1]) if cut.height < plan.block_edge else None
        memory, device_memory = (
            estimate(plan, predictor, at_once) for estimate in (estimate_memory, estimate_device_memory)
        )
        return cls(plan, at_once, blocks, planes, row_width, memory, device_memory)

    def __str__(self) -> str:
        """Return it as a line."""
        plan, many = self.plan, "" if self.planes is None else f"{counted(self.planes, 'plane')} of "
        way = "windows" if self.row_width is None else f"rows of {self.row_width} px"
        text = (
            f"{many}{size_text(plan.output_shape)}, {counted(len(plan.tiles), 'tile')} of {plan.output_edge} px, by"
            f" {way}, {self.blocks} of {counted(len(plan.blocks), 'block')}, batch {self.batch}, {plan.device},"
            f" {plan.precision}, about {self.memory_bytes / 2**30:.1f} GiB of memory"
        )
        return text + (
            f" and {self.device_memory_bytes / 2**30:.1f} GiB of the GPU's" if self.device_memory_bytes else ""
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        plan = self.plan
        return {
            "shape": list(plan.output_shape),
            **({} if self.planes is None else {"planes": self.planes}),
            "view": plan.view.to_dict(),
            "pixel_size_um": plan.pixel_size_um,
            "tile": plan.output_edge,
            "computed_by": "tiles" if self.row_width is None else "rows",
            "window": plan.geometry.input_edge(plan.output_edge),
            **({} if self.row_width is None else {"row_width": self.row_width}),
            "tiles": len(plan.tiles),
            "blocks": len(plan.blocks),
            "blocks_to_do": self.blocks,
            "batch": self.batch,
            "memory_bytes": self.memory_bytes,
            **({"device_memory_bytes": self.device_memory_bytes} if self.device_memory_bytes else {}),
            "device": plan.device,
            "precision": plan.precision,
            "classes": list(plan.class_names),
            "model_sha256": plan.model.sha256,
        }


def describe(task: Task, result: SegmentResult, shard: Shard | None) -> str:
    """Return the line that says what became of an image, or of a shard of it."""
    plan = result.plan
    parts = [
        size_text(plan.output_shape)
        if result.planes == 1
        else f"{result.planes} planes of {size_text(plan.output_shape)}"
    ]
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
