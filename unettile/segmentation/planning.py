"""Planning: from an image, a model and a user's options to the plan of a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unettile.errors import UsageError
from unettile.images.slide import ImageSource, Slide, fingerprint, open_slide
from unettile.inference.predict import Predictor
from unettile.objects.rules import ObjectRules
from unettile.segmentation.memory import LANES, device_memory, item_bytes, lane_bytes
from unettile.segmentation.options import WRITES, SegmentOptions
from unettile.segmentation.plan import Plan, check_channels, planes_of
from unettile.segmentation.within import describe_within
from unettile.tiling import BlockGrid, TileGrid

_CPU_EDGE = 384  # px that a tile writes
_GPU_EDGES = (3072, 1536, 768, 384)
"""Px that a tile writes on a GPU: the first that its memory holds. Larger ones waste less on the margin."""
_GPU_INEXACT_EDGE = 1536  # of networks whose answer depends on it
_GPU_SHARE = 0.7  # of a GPU's memory that lanes may take
_MOST_NUMBERS = 2**32  # in all feature maps that live at once: cuDNN counts up to 2**31 in the largest of them


def plan_image(image: ImageSource, predictor: Predictor, options: SegmentOptions, shards: int = 1) -> Plan:
    """Return the plan of a run without beginning it.

    Raises:
        InputError: the image cannot be read, does not hold what the view asks for, holds NaN where it was sampled, or
            has channels that the model does not take.
        UsageError: an illegal tile edge, or an output that the model does not have.
    """
    with open_image(image, options) as slide:
        return make_plan(slide, predictor, options, shards)


def make_plan(slide: Slide, predictor: Predictor, options: SegmentOptions, shards: int = 1) -> Plan:
    """Return the plan of a run over an open slide; errors as in `plan_image`."""
    checkpoint = predictor.checkpoint
    check_channels(checkpoint, slide.channels, str(slide.path), chosen=options.view.channels is not None)
    edge = options.output_edge or _default_edge(predictor, slide.shape)
    scaling = checkpoint.normalization.measure(slide)
    rules = (options.objects or checkpoint.objects) if "instances" in options.write else None
    stored = stored_for(options.write, rules, checkpoint.depth)
    written = sum(planes_of(kind, len(checkpoint.classes)) for kind in stored)
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
        stored=stored,
        class_names=tuple(info.name for info in checkpoint.classes),
        palette=tuple(info.color for info in checkpoint.classes),
        shards=shards,
        pixel_size_um=slide.pixel_size_um,
        view=slide.view,
        downsample=slide.downsample,
        origin_um=slide.origin_um,
        objects=rules,
        within=describe_within(options.mask, options.skip_background, slide, scaling),
    )


def with_edge(plan: Plan, output_edge: int) -> Plan:
    """Return a plan with tiles of another edge, and blocks that fit them."""
    tiles = TileGrid(plan.shape, plan.geometry, output_edge)
    pixel_bytes = len(plan.scaling.low) * np.dtype(plan.image["dtype"]).itemsize + plan.planes
    return replace(plan, output_edge=output_edge, block_edge=BlockGrid.for_tiles(tiles, pixel_bytes).edge)


def smaller_edge(plan: Plan) -> int | None:
    """Return the next smaller tile edge for a GPU; None if there is none, or the mask would change by more than
    rounding."""
    if not plan.geometry.exact:
        return None
    edges = (plan.geometry.smallest_output_edge(length) for length in _GPU_EDGES)
    return next((edge for edge in edges if edge < plan.output_edge), None)


def _default_edge(predictor: Predictor, shape: tuple[int, int]) -> int:
    """Return the tile edge for an image: by the kind of device and, on a GPU, by all of its memory.

    Not by what happens to be free, so that a run that is given again has the tiles it had.
    """
    geometry = predictor.checkpoint.geometry

    def edge_for(length: int) -> int:
        length = min(max(length, 2 * geometry.margin), max(shape))
        return geometry.smallest_output_edge(max(length, 192))

    if not predictor.has_lanes:
        return edge_for(_CPU_EDGE)
    if not geometry.exact:
        return edge_for(_GPU_INEXACT_EDGE)
    room = _GPU_SHARE * device_memory(predictor.device)
    for edge in (edge_for(length) for length in _GPU_EDGES):
        need = lane_bytes(predictor, edge)
        if LANES * need <= room and need < _MOST_NUMBERS * item_bytes(predictor.precision):
            break
    return edge


def open_image(image: ImageSource, options: SegmentOptions) -> Slide:
    """Open the image that the options' view chooses."""
    return open_slide(image, options.view)


def stored_for(write: tuple[str, ...], rules: ObjectRules | None, has_depth: bool) -> tuple[str, ...]:
    """Return what blocks must hold for an output: what is written of them, and what instances are made of.

    Args:
        rules: of the instances; None if there are none.
        has_depth: the model has a depth of its own.

    Raises:
        UsageError: a depth is to be written that the model does not have.
    """
    if "depth" in write and not has_depth:
        raise UsageError("--write depth: the model has no depth; need one that was trained with it")
    kinds = set(write) - {"instances"}
    if rules is not None:
        kinds.add("probabilities" if rules.threshold else "classes")
        if rules.split and rules.own_depth and has_depth:
            kinds.add("depth")
    return tuple(kind for kind in WRITES if kind in kinds)
