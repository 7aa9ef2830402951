"""Segmenting: an image, or a shard of it, from its slide to a file or a run directory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.output import check_format, check_output, write_output
from unettile.segmentation.plan import Plan
from unettile.segmentation.planning import make_plan, open_image
from unettile.segmentation.predict import Predictor
from unettile.segmentation.rundir import RunDirectory
from unettile.segmentation.work import Watch, Work
from unettile.tiling import Shard


@dataclass(frozen=True)
class SegmentResult:
    """How a run went.

    Args:
        output: the file, or the run directory of a shard.
        class_pixels: pixels of each class by name; None for probabilities and for shards.
        computed, resumed: blocks.
        seconds: that this process took.
        pixels: that this process computed.
    """

    output: Path
    plan: Plan = field(repr=False)
    computed: int
    resumed: int
    pixels: int
    seconds: float
    class_pixels: dict[str, int] | None = None

    @property
    def pixels_per_second(self) -> float:
        return self.pixels / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, object]:
        """Return the result as JSON."""
        plan = self.plan
        return {
            "output": str(self.output),
            "shape": list(plan.shape),
            "write": plan.write,
            "classes": list(plan.class_names),
            "class_pixels": self.class_pixels,
            "model_sha256": plan.model["sha256"],
            "tile": plan.output_edge,
            "precision": plan.precision,
            "device": plan.device,
            "exact": plan.geometry.exact,
            "blocks": len(plan.blocks),
            "blocks_computed": self.computed,
            "blocks_resumed": self.resumed,
            "seconds": round(self.seconds, 3),
            "pixels_per_second": round(self.pixels_per_second),
        }


def run_directory_for(output: Path) -> Path:
    """Return where a run without `--shard` keeps what it has done: beside its output."""
    return output.with_name(f"{output.name}.run")


def segment_image(
    image: Path,
    output: Path,
    predictor: Predictor,
    options: SegmentOptions,
    watch: Watch | None = None,
    overwrite: bool = False,
) -> SegmentResult:
    """Segment a whole image into a file; a run that was stopped is gone on with.

    Raises:
        InputError: image or destination refused, or an unfinished run differs; nothing is under the final name.
        UsageError: options that do not fit.
        Interrupted: `should_stop` returned a signal; what is finished is kept in the run directory.
    """
    watch = watch or Watch()
    start = time.monotonic()
    check_output(output, overwrite=overwrite)
    with open_image(image, options) as slide:
        plan = make_plan(slide, predictor, options)
        check_format(output, plan)
        run = RunDirectory.join(run_directory_for(output), plan)
        work = Work(slide, predictor, options.batch_for(predictor), run)
        try:
            work.do(range(len(plan.blocks)), watch)
        except Exception:
            run.remove_if_empty()  # a run refused before its first block should not bind the next to its options
            raise
    counts = write_output(run, output)
    run.remove()
    class_pixels = dict(zip(plan.class_names, counts, strict=True)) if counts else None
    seconds = time.monotonic() - start
    return SegmentResult(output, plan, work.computed, work.resumed, work.pixels, seconds, class_pixels)


def segment_shard(
    image: Path,
    directory: Path,
    shard: Shard,
    predictor: Predictor,
    options: SegmentOptions,
    watch: Watch | None = None,
) -> SegmentResult:
    """Segment one shard of an image into a run directory, which `stitch_run` turns into a file.

    Raises:
        InputError: image or directory refused, or the directory's plan differs.
        UsageError: options that do not fit.
        Interrupted: `should_stop` returned a signal; what is finished is kept.
    """
    watch = watch or Watch()
    start = time.monotonic()
    with open_image(image, options) as slide:
        plan = make_plan(slide, predictor, options, shard.count)
        run = RunDirectory.join(directory, plan)
        work = Work(slide, predictor, options.batch_for(predictor), run)
        work.do(shard.blocks(plan.blocks), watch)
    return SegmentResult(directory, plan, work.computed, work.resumed, work.pixels, time.monotonic() - start)
