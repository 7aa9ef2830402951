"""Segmenting: the blocks of an image, one after the other, from its windows to a run directory and a file.

    slide --read_mirrored--> block + margin --scale, cut--> windows --Predictor--> tiles --> block --> run directory

Memory is that of one block and of one batch of windows, whatever the image's size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import Interrupted, UsageError
from unettile.images.mirror import read_mirrored, reflect_indices
from unettile.images.normalize import check_finite
from unettile.images.slide import Slide, fingerprint, open_slide, select_channels
from unettile.segmentation.output import check_format, check_output, write_output
from unettile.segmentation.plan import Plan, check_channels
from unettile.segmentation.predict import Predictor
from unettile.segmentation.rundir import RunDirectory
from unettile.tiling import Block, BlockGrid, Shard, Tile, TileGrid

WRITES = ("classes", "probabilities")

_WRITE_EDGES = {"cpu": 384, "cuda": 1536}  # px; larger windows waste less on the margin, but need more memory
_BATCHES = {"cpu": 1, "cuda": 4}


@dataclass(frozen=True)
class SegmentOptions:
    """What a user chooses for a run; device and precision belong to the `Predictor`.

    Args:
        write: classes or probabilities.
        output_edge: of a tile, px; None chooses by device.
        batch: windows at once; None chooses by device.
        channels: of the image that the model sees, from 0; None for all.

    Raises:
        UsageError: a value that cannot be meant.
    """

    write: str = "classes"
    output_edge: int | None = None
    batch: int | None = None
    channels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.write not in WRITES:
            raise UsageError(f"--write {self.write!r} is not known: need one of {', '.join(WRITES)}")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"--batch {self.batch} is too small: need at least 1")

    def batch_for(self, predictor: Predictor) -> int:
        """Return how many windows are computed at once."""
        return self.batch or _BATCHES[predictor.device.type]


@dataclass(frozen=True)
class Watch:
    """What is told to, and asked of, whoever started a run.

    Args:
        on_progress: takes pixels done and pixels in all.
        should_stop: asked after each block; returns the number of a signal, or None to go on.
    """

    on_progress: Callable[[int, int], None] = lambda done, total: None
    should_stop: Callable[[], int | None] = lambda: None


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


def plan_image(image: Path, predictor: Predictor, options: SegmentOptions, shards: int = 1) -> Plan:
    """Return the plan of a run without beginning it.

    Raises:
        InputError: the image cannot be read, holds NaN where it was sampled, or has channels that the model does not
            take.
        UsageError: an illegal tile edge, or a channel that does not exist.
    """
    with open_image(image, options) as slide:
        return make_plan(slide, predictor, options, shards)


def make_plan(slide: Slide, predictor: Predictor, options: SegmentOptions, shards: int = 1) -> Plan:
    """Return the plan of a run over an open slide; errors as in `plan_image`."""
    checkpoint = predictor.checkpoint
    check_channels(checkpoint, slide.channels, str(slide.path), chosen=options.channels is not None)
    edge = options.output_edge
    if edge is None:
        length = min(_WRITE_EDGES[predictor.device.type], max(slide.shape))
        edge = checkpoint.geometry.smallest_output_edge(max(length, 192))
    tiles = TileGrid(slide.shape, checkpoint.geometry, edge)
    return Plan(
        image=fingerprint(slide),
        shape=slide.shape,
        model={"network": checkpoint.network, "sha256": checkpoint.sha256},
        geometry=checkpoint.geometry,
        output_edge=edge,
        block_edge=BlockGrid.for_tiles(tiles).edge,
        precision=predictor.precision,
        device=predictor.device.type,
        scaling=checkpoint.normalization.measure(slide),
        write=options.write,
        class_names=tuple(info.name for info in checkpoint.classes),
        palette=tuple(info.color for info in checkpoint.classes),
        shards=shards,
        pixel_size_um=slide.pixel_size_um,
    )


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
        work = _Work(slide, predictor, options.batch_for(predictor), run)
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
        work = _Work(slide, predictor, options.batch_for(predictor), run)
        work.do(shard.blocks(plan.blocks), watch)
    return SegmentResult(directory, plan, work.computed, work.resumed, work.pixels, time.monotonic() - start)


def open_image(image: Path, options: SegmentOptions) -> Slide:
    """Open an image with the channels that the options choose."""
    slide = open_slide(image)
    if options.channels is None:
        return slide
    try:
        return select_channels(slide, options.channels)
    except UsageError:
        slide.close()
        raise


class WindowReader:
    """Reads windows of a slide as the network wants them: mirrored, scaled, with its channels."""

    def __init__(self, slide: Slide, plan: Plan, channels: int) -> None:
        self._slide, self._plan, self._channels = slide, plan, channels

    def read(self, box: Box) -> NDArray[np.generic]:
        """Return a region that may lie past the image, (h, w, C) in the slide's own type.

        Raises:
            InputError: a pixel that is not a finite number, named in the image's coordinates.
        """
        pixels = read_mirrored(self._slide, box)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            y, x, _ = np.argwhere(~np.isfinite(pixels))[0].tolist()
            height, width = self._slide.shape
            row = int(reflect_indices(box.y0 + y, box.y0 + y + 1, height)[0])
            column = int(reflect_indices(box.x0 + x, box.x0 + x + 1, width)[0])
            check_finite(pixels[y : y + 1, x : x + 1], Box(row, column, row + 1, column + 1), self._slide.path)
        return pixels

    def scale(self, pixels: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return pixels (…, C) as the network sees them, float32."""
        scaled = self._plan.scaling.apply(pixels)
        if scaled.shape[-1] == self._channels:
            return scaled
        return np.repeat(scaled, self._channels, axis=-1)  # grey for a network of colours, see Checkpoint.grey_to_rgb


class _Work:
    """The loop over blocks; counts what it did."""

    def __init__(self, slide: Slide, predictor: Predictor, batch: int, run: RunDirectory) -> None:
        self._reader = WindowReader(slide, run.plan, predictor.checkpoint.in_channels)
        self._predict = predictor.classes if run.plan.write == "classes" else predictor.levels
        self._batch, self._run = batch, run
        self.computed = self.resumed = self.pixels = 0

    def do(self, indices: range, watch: Watch) -> None:
        """Compute the blocks that are not finished.

        Raises:
            Interrupted: asked to stop.
        """
        blocks = [self._run.plan.blocks[index] for index in indices]
        total = sum(block.box.area for block in blocks)
        done = 0
        for block in blocks:
            if self._run.is_done(block):
                self.resumed += 1
            else:
                pixels = self._compute(block, partial(_report, watch, done, total))
                self._run.write_block(block, pixels)
                self.computed += 1
                self.pixels += block.box.area
            done += block.box.area
            watch.on_progress(done, total)
            signum = watch.should_stop()
            if signum is not None:
                raise Interrupted(signum)

    def _compute(self, block: Block, on_area: Callable[[int], None]) -> NDArray[np.uint8]:
        """Return the pixels of a block, (h, w) or (K, h, w)."""
        plan = self._run.plan
        tiles = list(plan.tiles.tiles_in(block.box))
        region = Box(tiles[0].window.y0, tiles[0].window.x0, tiles[-1].window.y1, tiles[-1].window.x1)
        pixels = self._reader.read(region)
        planes = () if plan.planes == 1 else (plan.planes,)
        result = np.empty((*planes, *block.box.shape), np.uint8)
        area = 0
        for batch in _batches(tiles, self._batch):
            windows = np.stack([self._reader.scale(pixels[t.window.relative_to(region).slices]) for t in batch])
            # the shape stays the same to the last: kernels may be chosen by it
            padding = np.repeat(windows[-1:], self._batch - len(batch), axis=0)
            outputs = self._predict(np.concatenate([windows, padding]) if len(padding) else windows)
            for tile, output in zip(batch, outputs[: len(batch)], strict=True):
                place = tile.write.relative_to(block.box).slices
                result[(..., *place)] = output[..., : tile.write.height, : tile.write.width]
                area += tile.write.area
            on_area(area)
        return result


def _report(watch: Watch, before: int, total: int, area: int) -> None:
    watch.on_progress(before + area, total)


def _batches(tiles: list[Tile], size: int) -> Iterator[list[Tile]]:
    return (tiles[start : start + size] for start in range(0, len(tiles), size))
