"""Planning: from an image, a model and a user's options to the plan of a run."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import cast

from unettile.drawn.ground import Ground
from unettile.errors import InputError, UsageError
from unettile.images.fingerprint import Fingerprint
from unettile.images.orientation import describe_turn
from unettile.images.provenance import check_is_image
from unettile.images.slide import ImageSource, Slide, open_slide
from unettile.images.view import OPTIONS, ManyPlanes
from unettile.images.zoomed import ZoomedSlide, zoomed_image
from unettile.inference.engine import Advise
from unettile.inference.kinds import count_planes, in_order, kind_of
from unettile.inference.predict import Predictor
from unettile.objects.rules import ObjectRules
from unettile.segmentation.budget import fit_batch
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.plan import Plan
from unettile.segmentation.run.planfile import begun_plan
from unettile.segmentation.sizing import Sizing, size_up
from unettile.segmentation.suiting import check_channels
from unettile.segmentation.where import describe_within
from unettile.tiling import BlockGrid, TileGrid


def plan_image(image: ImageSource, predictor: Predictor, options: SegmentOptions, shards: int = 1) -> Plan:
    """Return the plan of a run without beginning it.

    Raises:
        InputError: the image cannot be read, does not hold what the view asks for, holds NaN where it was sampled,
            has channels that the model does not take, or is a mask that unettile wrote.
        UsageError: an illegal tile edge, or an output that the model does not have.
    """
    with open_image(image, options) as slide:
        return make_plan(slide, predictor, options, shards)


def make_plan(
    slide: Slide, predictor: Predictor, options: SegmentOptions, shards: int = 1, begun: Plan | None = None
) -> Plan:
    """Return the plan of a run over an open slide; errors as in `plan_image`.

    Args:
        begun: a plan of the same run, whose scale is kept if it was asked for alike.
    """
    checkpoint = predictor.checkpoint
    if not options.force:
        check_is_image(slide.path)
    if options.skip_background and checkpoint.normalization.room > 1:
        raise UsageError("--skip-background needs a model of ours: this one says no range of intensities")
    check_channels(checkpoint, slide.channels, str(slide.path), chosen=options.view.channels is not None)
    facts = options.stack
    sizing: Sizing | None
    scaling = checkpoint.normalization.measure(slide) if facts is None else facts.scaling
    if facts is not None:
        sizing = facts.sizing
    elif begun is not None and begun.sizing is not None and begun.sizing.asked == options.diameter:
        sizing = replace(begun.sizing, frame=options.frame)
    else:
        sizing = size_up(slide, predictor, scaling, options)
    seen = slide if sizing is None or sizing.scale == 1 else zoomed_image(slide, sizing.scale)
    shown = seen if sizing is not None and sizing.frame == "model" else slide
    scale = 1.0 if sizing is None or seen is shown else sizing.scale
    ground = Ground(seen.shape, shown.downsample, shown.georeference, scale)
    edge = options.output_edge or predictor.engine.choose_edge(seen.shape)
    rules = (options.objects or checkpoint.objects) if "instances" in options.write else None
    stored = stored_for(options.write, rules, checkpoint.depth, brought_back=seen is not shown)
    written = count_planes(stored, len(checkpoint.classes))
    tiles = TileGrid(seen.shape, checkpoint.geometry, edge)
    return Plan(
        image=Fingerprint.of(slide),
        shape=seen.shape,
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
        pixel_size_um=_pixel_size(slide, shown, options),
        view=slide.view,
        downsample=shown.downsample,
        origin_um=shown.origin_um,
        objects=rules,
        within=describe_within(options.mask, options.skip_background, seen, scaling, ground),
        sizing=sizing,
        image_shape=None if seen is slide else slide.shape,
        georeference=shown.georeference,
        scaling_of="plane" if facts is None else "stack",
    )


def prepare(
    slide: Slide,
    predictor: Predictor,
    options: SegmentOptions,
    begun: Path | None,
    shards: int = 1,
    advise: Advise = lambda line: None,
) -> tuple[Plan, int]:
    """Return the plan of a run, and how many windows are computed at once; the engine is ready for it.

    The edge of a tile is frozen in the plan, since on a GPU windows of two sizes may differ by rounding. Until the
    first process has written the plan, a device that turns out too small for the edge gets a smaller one; after that
    it is refused.

    Args:
        begun: where the run may have been begun, whose tile edge and scale are then kept; None for nowhere.
        advise: takes lines that the user should read.

    Raises:
        InputError: the image or the model is refused, or the memory does not hold a window.
        UsageError: an illegal tile edge.
    """
    if said := describe_turn(slide.orientation):
        advise(f"{slide.path} is {said}")
    engine = predictor.engine
    free = options.output_edge is None
    before = None if begun is None else begun_plan(begun)
    if free and before is not None:
        free, options = False, replace(options, output_edge=before.output_edge)
    plan = make_plan(slide, predictor, options, shards, before)
    while True:
        try:
            return plan, engine.prepare(plan.task, fit_batch(plan, predictor, options.batch), advise)
        except InputError:
            smaller = engine.smaller_edge(plan.output_edge) if free else None
            if smaller is None:
                raise
        advise(f"the GPU's memory does not hold tiles of {plan.output_edge} px: they get {smaller} px")
        plan = _with_edge(plan, smaller)


def _with_edge(plan: Plan, output_edge: int) -> Plan:
    """Return a plan with tiles of another edge, and blocks that fit them."""
    tiles = TileGrid(plan.shape, plan.geometry, output_edge)
    pixel_bytes = plan.task.channels * plan.task.dtype.itemsize + plan.planes
    return replace(plan, output_edge=output_edge, block_edge=BlockGrid.for_tiles(tiles, pixel_bytes).edge)


def open_image(image: ImageSource, options: SegmentOptions) -> Slide:
    """Open the image that the options' view chooses.

    Raises:
        InputError: as `open_slide`; of a stack it names the option that takes all planes, too.
    """
    try:
        return open_slide(image, options.view, filled=options.fills)
    except InputError as error:
        stack = error.__cause__
        if isinstance(stack, ManyPlanes):
            raise InputError(f"{error}; or all of them with {OPTIONS[stack.axis]} all") from stack
        raise


def open_seen(slide: Slide, plan: Plan, image: ImageSource, options: SegmentOptions) -> Slide:
    """Return the image as the network of a plan sees it: at its scale, from the resolution that is nearest above.

    Args:
        slide: the image, open; closing what is returned closes it, too.
    """
    if plan.image_shape is None:
        return slide
    nearest: Slide | None = None
    if isinstance(image, Path) and options.view.mpp is None:
        for level in count((slide.view.level or 0) + 1):
            try:
                lower = open_slide(image, replace(options.view, level=level), filled=options.fills)
            except InputError:  # there are no more
                break
            other = lower.spacing != slide.spacing  # planes that lie elsewhere: z would count others
            if other or max(lower.downsample) / min(slide.downsample) * plan.scale > 1:
                lower.close()
                break
            if nearest is not None:
                nearest.close()
            nearest = lower
    return cast(Slide, ZoomedSlide(slide, plan.scale, nearest))


def _pixel_size(slide: Slide, shown: Slide, options: SegmentOptions) -> tuple[float, float] | None:
    """Return the size of the output's pixels, µm."""
    if options.pixel_size_um is None:
        return shown.pixel_size_um
    y, x = (whole / edge for whole, edge in zip(slide.shape, shown.shape, strict=True))
    return options.pixel_size_um * y, options.pixel_size_um * x


def stored_for(
    write: tuple[str, ...], rules: ObjectRules | None, has_depth: bool, *, brought_back: bool = False
) -> tuple[str, ...]:
    """Return what blocks must hold for an output: what is written of them, and what instances are made of.

    Args:
        brought_back: the output has other pixels than the blocks: classes are then made of probabilities.
        rules: of the instances; None if there are none.
        has_depth: the model has a depth of its own.

    Raises:
        UsageError: a depth is to be written that the model does not have.
    """
    for kind in map(kind_of, write):
        if kind.of_depth and not has_depth:
            raise UsageError(f"--write {kind.name}: the model has no depth; need one that was trained with it")
    kinds = {name for name in write if kind_of(name).make is not None}
    if rules is not None:
        kinds.add("probabilities" if rules.threshold else "classes")
        if rules.rim:
            kinds.add("probabilities")
        if rules.split and rules.own_depth and has_depth:
            kinds.add("depth")
    if brought_back and kinds & {"classes", "probabilities"}:
        kinds.add("probabilities")
        if rules is None:
            kinds.discard("classes")
    return in_order(kinds)
