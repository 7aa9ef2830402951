"""Opened: the mask, or a plane of one, with all that lies under it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from unettile import __version__
from unettile.errors import InputError, UsageError
from unettile.images.canvas import Canvas
from unettile.images.fingerprint import Fingerprint
from unettile.images.georeference import Georeference
from unettile.images.pixelsize import PixelSize
from unettile.images.record import Record, read_metadata, read_record
from unettile.images.slide import ImageSource, Slide, open_labels, open_slide
from unettile.images.spacing import Spacing
from unettile.images.view import FIRST, OPTIONS, ManyPlanes, View
from unettile.objects.certainty import Chance
from unettile.objects.columns import Frames
from unettile.objects.measures import Measures
from unettile.objects.measuring import Beneath
from unettile.objects.products import Products, Sources
from unettile.objects.rules import Foreground, Labelling, object_classes
from unettile.objects.stains import Unmixed
from unettile.wording import size_text


@dataclass(frozen=True)
class Method:
    """How objects are found and measured.

    Args:
        foreground: what the mask's numbers mean.
        labelling: what else decides the objects.
        measures: what the table holds.
        block_edge: px; changes memory and time, and no byte of any file.
    """

    foreground: Foreground
    labelling: Labelling
    measures: Measures
    block_edge: int


@dataclass(frozen=True)
class Opened:
    """A mask and what lies under it, open.

    Args:
        mask: the mask.
        record: what it says of itself.
        foreground: what its numbers mean, as far as it says so.
        beneath: image and probabilities.
        depth: to split by, or None.
        identity: all that decides an id, as JSON gives it back.
        pixel_size_um: of the mask, or None.
        spacing: of the stack that the mask is a plane of.
        given: its numbers are objects, to be taken as they are.
    """

    mask: Slide
    record: Record
    foreground: Foreground
    beneath: Beneath
    depth: Slide | None
    identity: dict[str, Any]
    pixel_size_um: PixelSize | None
    spacing: Spacing
    given: bool

    @property
    def georeference(self) -> Georeference | None:
        """Where on earth the mask's pixels lie."""
        return self.record.georeference or self.mask.georeference

    @property
    def frames(self) -> Frames:
        """The units of the table."""
        return Frames(self.record.downsample, self.pixel_size_um)

    @property
    def image_name(self) -> str:
        """That of the image that the objects are in."""
        return (self.beneath.image or self.mask).path.name

    def canvas(self, metadata: dict[str, Any], zarr: str, stack: tuple[int, int] = (1, 1)) -> Canvas:
        """Return an image of the mask's shape.

        Args:
            metadata: that it has.
            zarr: the version of OME-Zarr, if it is one.
            stack: how many times and depths it has.
        """
        return Canvas(
            self.mask.shape,
            pixel_size_um=self.pixel_size_um,
            metadata=metadata,
            georeference=self.georeference,
            stack=stack,
            zarr=zarr,
            spacing=self.spacing,
        )


def open_mask(sources: Sources, method: Method, products: Products, stack: ExitStack) -> Opened:
    """Open all that is read; `stack` closes it.

    Raises:
        UsageError: inputs or options that do not go together.
        InputError: an input that is refused.
    """
    foreground, labelling = method.foreground, method.labelling
    amounts = foreground.threshold is not None  # probabilities, not ids
    try:
        mask = stack.enter_context(open_labels(sources.mask, sources.view, lossy=amounts))
    except InputError as error:
        many = error.__cause__
        if isinstance(many, ManyPlanes):
            raise InputError(f"{error}; or all of them with {OPTIONS[many.axis]} all") from many
        raise
    record = read_record(sources.mask, sources.series, (sources.t or 0, sources.z or 0))
    if foreground.classes is None and not sources.instances:
        foreground = replace(foreground, classes=object_classes(record.class_names))
    if record.ids is not None and labelling.merged:
        raise UsageError(f"{mask.path} holds ids, each an object of its own: leave --merge-classes out")
    products.places(record.georeference or mask.georeference)  # refused before any work
    beneath = _open_beneath(sources, mask, record, foreground, stack)
    needing = {
        "--rim": labelling.rim,
        "--min-confidence": labelling.min_confidence,
        "--confidence": products.confidence,
    }
    for option, given in needing.items():
        if given and beneath.chance is None:
            raise UsageError(f"{option} needs to know probabilities: give --probabilities with it")
    depth = None
    if sources.depth is not None:
        channels = None if sources.depth_channel is None else (sources.depth_channel,)
        depth = stack.enter_context(open_slide(sources.depth, replace(sources.plane, channels=channels)))
    identity = _identity(mask, depth, beneath.probable, foreground, labelling)
    if sources.plane != FIRST and not sources.stacked:
        identity["plane"] = {"t": sources.t, "z": sources.z}
    image = beneath.image
    size = sources.pixel_size_um or mask.pixel_size_um or (image.pixel_size_um if image is not None else None)
    spacing = mask.spacing if image is None else mask.spacing.or_else(image.spacing)
    return Opened(mask, record, foreground, beneath, depth, identity, size, spacing, sources.instances)


def image_view(sources: Sources, record: Record) -> View:
    """Return which image a mask was made of, and of the planes of a stack that one which the mask's plane shows."""
    if not isinstance(sources.image, Path):  # an array is what it is
        return sources.plane if sources.stacked else FIRST
    described = read_metadata(sources.mask) if isinstance(sources.mask, Path) and sources.mask.exists() else {}
    made = described.get("planes")
    numbers: dict[str, int | None] = {}
    for axis, given in (("t", sources.t), ("z", sources.z)):
        listed = made.get(axis) if isinstance(made, dict) else None
        some = [one for one in listed if isinstance(one, int)] if isinstance(listed, list) else []
        numbers[axis] = some[given or 0] if (given or 0) < len(some) else given
    if numbers == {"t": None, "z": None}:
        return record.view
    return replace(record.view, t=numbers["t"], z=numbers["z"])


def probabilities_view(sources: Sources) -> View:
    """Return which image of the file holds the probabilities; `segment` writes several kinds into one."""
    path = sources.probabilities
    kinds = read_metadata(path).get("write") if isinstance(path, Path) and path.is_file() else None
    if isinstance(kinds, list) and "probabilities" in kinds:
        return replace(sources.plane, series=kinds.index("probabilities"))
    return sources.plane


def _open_beneath(sources: Sources, mask: Slide, record: Record, foreground: Foreground, stack: ExitStack) -> Beneath:
    """Open what lies under the objects; `stack` closes it.

    Raises:
        UsageError: stains of an image without colours.
        InputError: another size than the mask's, or no probabilities.
    """
    image = stains = chance = probable = None
    if sources.image is not None:
        image = stack.enter_context(open_slide(sources.image, image_view(sources, record)))
        _check_shape(image, mask)
        stains = None if sources.stains is None else Unmixed(image, sources.stains)
    if sources.probabilities is not None:
        probable = stack.enter_context(open_slide(sources.probabilities, probabilities_view(sources)))
        _check_shape(probable, mask)
        chance = Chance(probable, _object_planes(sources.probabilities, foreground))
    elif foreground.threshold is not None:
        chance = Chance(mask, foreground.classes)
    return Beneath(image, stains, chance, probable)


def _check_shape(picture: Slide, mask: Slide) -> None:
    """Refuse a picture that is not of the mask's size.

    Raises:
        InputError: it is not.
    """
    if picture.shape != mask.shape:
        raise InputError(
            f"{picture.path} is {size_text(picture.shape)}, {mask.path} {size_text(mask.shape)}: need the image that"
            " the mask is of"
        )


def _object_planes(path: ImageSource, foreground: Foreground) -> tuple[int, ...] | None:
    """Return the classes whose probabilities add up to that of an object: those chosen, or all that are objects."""
    return foreground.classes or object_classes(tuple(read_record(path).names.values()))


def _identity(
    mask: Slide,
    depth: Slide | None,
    probable: Slide | None,
    foreground: Foreground,
    labelling: Labelling,
) -> dict[str, Any]:
    """Return all that decides an id, as JSON gives it back."""
    decided = {
        "unettile": __version__,
        "content": "instances",
        "mask": Fingerprint.of(mask).to_dict(),
        "depth": None if depth is None else Fingerprint.of(depth).to_dict(),
        "foreground": asdict(foreground),
        "labelling": asdict(labelling),
    }
    if probable is not None and (labelling.min_confidence or labelling.rim):
        decided["probabilities"] = Fingerprint.of(probable).to_dict()
    found: dict[str, Any] = json.loads(json.dumps(decided))
    return found
