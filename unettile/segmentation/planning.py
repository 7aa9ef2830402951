"""Planning: from an image, a model and a user's options to the plan of a run."""

from __future__ import annotations

from pathlib import Path

from unettile.images.slide import Slide, fingerprint, open_slide
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.plan import Plan, check_channels
from unettile.segmentation.predict import Predictor
from unettile.segmentation.within import describe_within
from unettile.tiling import BlockGrid, TileGrid

_WRITE_EDGES = {"cpu": 384, "cuda": 1536}  # px; larger windows waste less on the margin, but need more memory


def plan_image(image: Path, predictor: Predictor, options: SegmentOptions, shards: int = 1) -> Plan:
    """Return the plan of a run without beginning it.

    Raises:
        InputError: the image cannot be read, does not hold what the view asks for, holds NaN where it was sampled, or
            has channels that the model does not take.
        UsageError: an illegal tile edge.
    """
    with open_image(image, options) as slide:
        return make_plan(slide, predictor, options, shards)


def make_plan(slide: Slide, predictor: Predictor, options: SegmentOptions, shards: int = 1) -> Plan:
    """Return the plan of a run over an open slide; errors as in `plan_image`."""
    checkpoint = predictor.checkpoint
    check_channels(checkpoint, slide.channels, str(slide.path), chosen=options.view.channels is not None)
    edge = options.output_edge
    if edge is None:
        length = max(_WRITE_EDGES[predictor.device.type], 2 * checkpoint.geometry.margin)
        length = min(length, max(slide.shape))
        edge = checkpoint.geometry.smallest_output_edge(max(length, 192))
    scaling = checkpoint.normalization.measure(slide)
    written = sum(1 if kind == "classes" else len(checkpoint.classes) for kind in options.write)
    tiles = TileGrid(slide.shape, checkpoint.geometry, edge)
    return Plan(
        image=fingerprint(slide),
        shape=slide.shape,
        model=checkpoint.identity,
        geometry=checkpoint.geometry,
        output_edge=edge,
        block_edge=BlockGrid.for_tiles(tiles, slide.channels * slide.dtype.itemsize + written).edge,
        precision=predictor.precision,
        device=predictor.device.type,
        scaling=scaling,
        write=options.write,
        class_names=tuple(info.name for info in checkpoint.classes),
        palette=tuple(info.color for info in checkpoint.classes),
        shards=shards,
        pixel_size_um=slide.pixel_size_um,
        view=slide.view,
        downsample=slide.downsample,
        origin_um=slide.origin_um,
        within=describe_within(options.mask, options.skip_background, slide, scaling),
    )


def open_image(image: Path, options: SegmentOptions) -> Slide:
    """Open the image that the options' view chooses."""
    return open_slide(image, options.view)
