"""Forecast: what each of several jobs would need for its part of an image, before any of them is started."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from unettile.images.planes import Planes
from unettile.images.slide import ImageSource, Slide
from unettile.images.zoomed import zoomed_image
from unettile.inference.kinds import count_planes
from unettile.inference.predict import Predictor
from unettile.segmentation.budget import estimate_memory, fit_batch
from unettile.segmentation.compute.pixels import PixelReader
from unettile.segmentation.division import Division
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.plan import Plan
from unettile.segmentation.planes import choose_planes
from unettile.segmentation.planning import make_plan, open_image
from unettile.segmentation.verify import sample_tiles
from unettile.tiling import Shard, Tile

PROBE_S = 2.0  # long enough to see past a clock's grain, short enough to wait for
_PYRAMID = 4 / 3  # a half, a quarter, an eighth … of both edges beside the whole
_ID_BYTES = 4
_STARTUP_S = 30.0  # Python, torch and the model, from a network file system


@dataclass(frozen=True)
class Probe:
    """How long windows of this image took on this machine, read, scaled and segmented; a warm-up before them.

    Args:
        windows: that were timed.
        seconds: for all of them.
    """

    windows: int
    seconds: float

    @property
    def seconds_per_window(self) -> float:
        return self.seconds / self.windows


@dataclass(frozen=True)
class Forecast:
    """What each job of a run over several needs.

    Args:
        plan: of a stack that of its first plane.
        planes: of a stack; None for a single image.
        division: what each shard computes.
        batch: windows at once.
        memory_bytes: of one job at its peak.
        probe: where the time comes from.
    """

    plan: Plan
    planes: Planes | None
    division: Division
    batch: int
    memory_bytes: int
    probe: Probe

    @property
    def blocks(self) -> int:
        """Blocks of all planes."""
        return self.division.planes * len(self.plan.blocks)

    @property
    def busy_shards(self) -> int:
        """How many shards have a block at all."""
        shards = self.division.shards
        return shards if self.division.is_of_planes else min(shards, len(self.plan.blocks))

    @property
    def blocks_per_shard(self) -> int:
        """Blocks of the largest shard, in all of its planes."""
        division = self.division
        every = (Shard(k, division.shards) for k in range(division.shards))
        return max(
            len(division.planes_of(one.index)) * len(division.part(one).blocks(self.plan.blocks)) for one in every
        )

    @property
    def block_seconds(self) -> float:
        """Seconds for the largest block."""
        tiles = sum(1 for _ in self.plan.tiles.tiles_in(self.plan.blocks[0].box))
        return tiles * self.probe.seconds_per_window

    @property
    def seconds(self) -> float:
        """Seconds of the longest job, at most: if its blocks are whole, and no window is like another."""
        return _STARTUP_S + self.blocks_per_shard * self.block_seconds

    @property
    def output_bytes(self) -> int:
        """Bytes of the file at most: with its pyramid and nothing compressed. The run directory takes no more."""
        height, width = self.plan.output_shape
        plan = self.plan
        pixel = count_planes(plan.write, len(plan.class_names)) + (_ID_BYTES - 1) * ("instances" in plan.write)
        return int(self.division.planes * height * width * pixel * _PYRAMID) + 2**16

    def to_dict(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "shape": list(plan.output_shape),
            "tile": plan.output_edge,
            **({} if self.planes is None else {"planes": len(self.planes)}),
            "tiles": len(plan.tiles) * self.division.planes,
            "blocks": self.blocks,
            "batch": self.batch,
            "device": plan.device,
            "precision": plan.precision,
            "memory_bytes": self.memory_bytes,
            "shards": self.division.shards,
            "blocks_per_shard": self.blocks_per_shard,
            "seconds_per_shard": round(self.seconds, 1),
            "output_bytes_at_most": self.output_bytes,
            "probe": {"windows": self.probe.windows, "seconds": round(self.probe.seconds, 3)},
        }


def forecast_shards(image: ImageSource, predictor: Predictor, options: SegmentOptions, shards: int) -> Forecast:
    """Plan an image, or a stack, for several jobs and measure a few windows of it here; nothing is written.

    Raises:
        InputError, UsageError: as `plan_image`.
    """
    options, planes = choose_planes(image, predictor, options)
    division = Division(1 if planes is None else len(planes), shards)
    with open_image(image, options) as slide:
        plan = make_plan(slide, predictor, options, division.plane_shards)
        batch = fit_batch(plan, predictor, options.batch)
        probe = measure_windows(slide, plan, predictor, batch)
    return Forecast(plan, planes, division, batch, estimate_memory(plan, predictor, batch), probe)


def measure_windows(slide: Slide, plan: Plan, predictor: Predictor, batch: int) -> Probe:
    """Time batches of windows, spread over the image, for about PROBE_S seconds."""
    reader = PixelReader(slide if plan.image_shape is None else zoomed_image(slide, plan.scale), plan)
    samples = _batches(sample_tiles(plan.tiles, 16 * batch), batch)

    def work() -> None:
        pixels = [reader.read(tile.window) for tile in next(samples)]
        predictor.planes(plan.stored, np.stack([predictor.see(window, plan.scaling) for window in pixels]))

    work()
    start, count = time.monotonic(), 0
    while time.monotonic() - start < PROBE_S or not count:
        work()
        count += batch
    return Probe(count, time.monotonic() - start)


def _batches(tiles: list[Tile], size: int) -> Iterator[list[Tile]]:
    endless = cycle(tiles)
    while True:
        yield [next(endless) for _ in range(size)]
