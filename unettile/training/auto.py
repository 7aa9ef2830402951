"""Auto: a recipe chosen for a set and a job, with the reason for each choice in a line.

The choices are rules of thumb, measured on small sets; docs/training.md says how. All are a function of the facts, so
the same set and the same job give the same recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import pi

from unettile.checkpoint import load_checkpoint
from unettile.duration import format_duration
from unettile.errors import InputError
from unettile.models import find_model
from unettile.objects.rules import ObjectRules
from unettile.training.facts import Facts
from unettile.training.meaning import Meaning
from unettile.training.parts import (
    AugmentPart,
    ImagePart,
    LabelPart,
    LossPart,
    OptimizerPart,
    RunPart,
    SamplePart,
    SplitPart,
)
from unettile.training.recipe import NetworkPart, Recipe

START = "nuclei"
"""The shipped model that networks of one channel or three begin with: its encoder knows ImageNet and microscopes."""

Because = Callable[[str, str], None]
"""Takes what was chosen, and why."""

FEW = 4  # images; of fewer none can be spared
SPARSE = 0.02  # share of the pixels below which a class is rare
KNOWN_PX = 28.0  # across: to this size START was shown its objects
TOUCHING = 0.02  # share of the objects above which borders matter
UNLIKE = 2.0  # factor between the sizes of objects in images from which they are brought to one
RIM = 0.35  # probability from which a rim is an object's
SHORT_S = 300.0


@dataclass(frozen=True)
class Means:
    """What a job has.

    Args:
        device: cpu or cuda.
        threads: processors it may use.
        seconds: that all may take; None for no limit.
    """

    device: str
    threads: int
    seconds: float | None


@dataclass(frozen=True)
class AutoPlan:
    """A recipe, and for people what was chosen and why, a line each."""

    recipe: Recipe
    reasons: tuple[str, ...]


def choose_recipe(facts: Facts, meaning: Meaning, means: Means) -> AutoPlan:
    """Return the recipe for a set and a job.

    Raises:
        InputError: images of several numbers of channels that no one network takes.
    """
    objects = meaning.part.kind == "instances"
    reasons = [_seen(facts, meaning)]

    def because(what: str, why: str) -> None:
        reasons.append(f"{what}: {why}")

    network, images = _network(facts, objects, means, because)
    begun = bool(network.start)
    labels, zoom = _labels(facts, meaning.part, begun, because)
    recipe = Recipe(
        network=network,
        images=images,
        labels=labels,
        split=_split(facts, because),
        samples=_samples(facts, objects, because),
        augment=_augment(facts, zoom, because),
        loss=_loss(facts, objects, because),
        optimizer=OptimizerPart(
            name="adamw",
            learning_rate=2e-3,
            encoder=0.5 if begun else 1.0,
            weight_decay=1e-3,
            warmup_steps=30,
            clip_norm=1.0,
        ),
        run=_run(facts, objects, means, because),
        objects=_objects(facts, labels, because) if objects else ObjectRules(),
    )
    if labels.kinds:
        recipe = replace(recipe, run=replace(recipe.run, select="mpq"))
    rate = "2e-3, half of it for the encoder, which knows something already" if begun else "2e-3, from nothing"
    because("learning rate", f"{rate}; warms up for 30 steps, then falls along a cosine")
    return AutoPlan(recipe, tuple(reasons))


def describe(reasons: Sequence[str]) -> str:
    """Return the reasons as the head of a recipe's TOML file; nothing where there are none."""
    if not reasons:
        return ""
    head = "\n".join(f"# {reason}" for reason in reasons)
    return f"# Chosen by `unettile train --recipe auto`; give it, changed or not, as --recipe FILE.\n{head}\n\n"


def _seen(facts: Facts, meaning: Meaning) -> str:
    kinds = " or ".join(str(number) for number in sorted(facts.channels))
    sizes = f"{facts.shape[0]} × {facts.shape[1]} px"
    some = ""
    if meaning.part.kind == "instances" and facts.diameters is not None:
        some = f"; about {facts.objects:.0f} objects an image, {facts.diameters[1]:.0f} px across"
    elif meaning.part.kind == "instances":
        some = "; no objects"
    else:
        some = f"; {1 - facts.shares[0]:.2%} of the pixels are not background"
    plural = "channels" if kinds != "1" else "channel"
    return f"images: {facts.images} of {kinds} {plural}, typically {sizes}; labels are {meaning.found}{some}"


def _network(facts: Facts, objects: bool, means: Means, because: Because) -> tuple[NetworkPart, ImagePart]:
    kinds = set(facts.channels)
    known = objects and kinds <= {1, 3}
    joint = known or facts.uneven or facts.bright >= 0.5 or not facts.coloured
    per_channel = not joint or (len(kinds) == 1 and not kinds <= {1, 3} and not facts.uneven)
    if kinds <= {1, 3}:
        start = load_checkpoint(find_model(START))
        config = {key: value for key, value in start.config.items() if key != "classes"}
        network = NetworkPart(name=start.network, start=START, config=config)
        because("network", f"{start.network} begun with the parameters of {START}, so that few images are enough")
    elif len(kinds) == 1:
        widths = [32, 64, 128, 256, 512] if means.device == "cuda" else [16, 32, 64, 128, 256]
        (count,) = kinds
        config = {"in_channels": count, "widths": widths, "padding": "same", "up": "nearest", "batch_norm": True}
        network = NetworkPart(name="unet", config=config)
        because("network", f"U-Net of widths {widths[0]} to {widths[-1]}: no shipped parameters take {count} channels")
    else:
        listed = ", ".join(f"{count} of {number}" for number, count in sorted(facts.channels.items()))
        raise InputError(f"images have different numbers of channels ({listed}): choose with --channel")
    why = (
        "channel by channel, as light and cameras colour images differently"
        if per_channel
        else f"all channels together, as {START} knows objects by their hues"
        if known
        else "all channels together, so that hues stay, and channels of noise stay dim"
        if kinds != {1}
        else "by the percentiles of each image"
    )
    high = 99.95 if 1 - facts.shares[0] < 0.01 else 99.8
    because("scaling", f"{why}; the {high:g}th percentile becomes the brightest")
    images = ImagePart(1.0, high, per_channel=per_channel, signed=bool(network.start), grey_to_rgb=kinds <= {1, 3})
    return network, images


def _labels(facts: Facts, part: LabelPart, begun: bool, because: Because) -> tuple[LabelPart, tuple[float, float]]:
    """Return `[labels]`, and the range of zooms of samples."""
    if part.kind != "instances" or facts.diameters is None:
        because("object size", "as it is, a little smaller or larger by chance: masks are of all sizes")
        return replace(part, gap=0) if part.kind == "classes" else part, (0.7, 1.4)
    low, median, high = facts.diameters
    depth = facts.touching > TOUCHING
    if begun:
        because(
            "object size",
            f"{low:.0f} to {high:.0f} px across: in each image brought to {KNOWN_PX:g}, as {START} knows them",
        )
        return replace(part, depth=depth, diameter=KNOWN_PX), (0.6, 1.6)
    if facts.spread > UNLIKE:
        because("object size", f"images differ {facts.spread:.1f}-fold in it: each is brought to one size first")
        return replace(part, depth=depth, diameter="auto"), (0.7, 1.4)
    if median > 64 or median < 12:
        because("object size", f"{median:.0f} px across is not what the network sees best: brought to {KNOWN_PX:g} px")
        return replace(part, depth=depth, diameter=KNOWN_PX), (0.7, 1.4)
    because("object size", f"as it is, {low:.0f} to {high:.0f} px across, half to twice as large by chance")
    return replace(part, depth=depth), (0.6, 1.6)


def _split(facts: Facts, because: Because) -> SplitPart:
    if facts.images < FEW:
        because(
            "validation",
            f"{facts.images} images are too few to hold one out: scores are of images that were trained on; give"
            " --validation-images for honest ones",
        )
        return SplitPart(0.0)
    share = 0.2 if facts.images < 30 else 0.1
    because("validation", f"{share:.0%} of the images are held out, at least one")
    return SplitPart(share)


def _samples(facts: Facts, objects: bool, because: Because) -> SamplePart:
    rare = min((share for share in facts.shares[1:] if share > 0), default=1.0)
    kinds = 0.5 if len(facts.channels) > 1 else 0.0
    if rare < SPARSE or (not objects and len(facts.shares) > 2 and rare < 4 * SPARSE):
        because("samples", f"as many are centred on one class as on another: one has {rare:.2%} of the pixels")
        return SamplePart(kinds=kinds, balance="classes")
    because("samples", "from everywhere alike" + (", grey and colour images more evenly" if kinds else ""))
    return SamplePart(kinds=kinds)


def _augment(facts: Facts, zoom: tuple[float, float], because: Because) -> AugmentPart:
    stained = facts.coloured >= 0.5 and facts.bright >= 0.5
    colour = 0.25 if facts.coloured else 0.0
    words = "flips, turns, zoom, bending, contrast, brightness, noise, blur"
    more = ", stains" if stained else ", colours" if colour else ""
    because("augmentation", f"{words}{more}: few images show little of what there is")
    return AugmentPart(
        zoom=zoom,
        elastic_std=4.0,
        elastic_grid=4,
        contrast=0.4,
        brightness=0.2,
        gamma=0.5,
        color=colour,
        noise=0.05,
        blur=1.0,
        stain=0.3 if stained else 0.0,
    )


def _loss(facts: Facts, objects: bool, because: Because) -> LossPart:
    if not objects:
        because("loss", "cross entropy and Dice, which counts what is rare as much as what is not; no border weights")
        return LossPart(dice=1.0, w0=0.0)
    if facts.touching > TOUCHING:
        because("loss", f"cross entropy, border weights and depths: {facts.touching:.0%} of the objects touch another")
        return LossPart(w0=4.0, sigma=5.0)
    because("loss", "cross entropy and Dice, no border weights: objects lie apart")
    return LossPart(dice=1.0, w0=0.0)


def _run(facts: Facts, objects: bool, means: Means, because: Because) -> RunPart:
    gpu = means.device == "cuda"
    edge = 384 if gpu and facts.smallest_edge >= 384 else 256
    if not gpu and means.seconds is not None and means.seconds * means.threads <= SHORT_S:
        edge = 192
    edge = max(64, min(edge, facts.smallest_edge // 32 * 32))
    batch = 16 if gpu else 4
    steps = (2 if gpu else 1) * min(4000, 1000 + 20 * facts.images)
    epochs = 4 if facts.images < 30 else 8
    because("window", f"{edge} px, {batch} at once" + (": about a second of work" if not gpu else ""))
    calibrate = facts.images >= FEW
    if means.seconds is None:
        because("schedule", f"{steps} steps, as --max-time gives no end")
    else:
        because("schedule", f"ends with the time, {format_duration(means.seconds)}: the rate falls by the clock")
    because(
        "calibration",
        "the background's logit is shifted to where held-out images score best"
        if calibrate
        else "none: no image is held out",
    )
    return RunPart(
        epochs=epochs,
        steps_per_epoch=-(-steps // epochs),
        batch=batch,
        output_edge=edge,
        ema=0.99 if not gpu else 0.998,
        select="ap" if objects else "iou",
        calibrate=calibrate,
        seed=1,
    )


def _objects(facts: Facts, labels: LabelPart, because: Because) -> ObjectRules:
    if facts.diameters is None:
        return ObjectRules()
    low, median, _ = facts.diameters
    size = labels.diameter if isinstance(labels.diameter, float) and labels.diameter else median
    smallest = max(4, round(pi / 4 * (low * size / median) ** 2 / 2))
    split, holes = facts.touching > TOUCHING, 100 if size > 16 else 0
    because(
        "object rules",
        f"objects of less than {smallest} px are left out, half of the smallest seen"
        + ("; what touches is parted at its necks" if split else "")
        + "; others take rims that are probably theirs",
    )
    return ObjectRules(split=split, own_depth=False, min_size=smallest, fill_holes=holes, close_gaps=2, rim=RIM)
