"""Sizing: at which scale an image is segmented, so that its objects have the size that the model knows.

The estimate looks at a bounded sample of the image, whose places depend on its height and width alone:

1. The sample is segmented at scales a factor of two apart, from 1 down to where the image has hardly any pixels left,
   and at 2 where what is found at 1 is clearly smaller than the model's median. At each one the model finds objects of
   some median diameter, in network px, and is more or less certain of them. Where it is certain at 1 already, of
   objects that are near its median, no other scale is looked at.
2. A scale is believed as far as the model is certain of what it finds there, the objects have the model's own median
   size, and they are many: a model that sees what it knows is sure of it, and finds it at the size that it knows.
3. The believed diameters, in px of the image, are averaged by their logarithms; at the scale that follows the sample is
   segmented once more, and what is found there is averaged in.
4. Where the model sees objects of that diameter well, the image stays as it is. So it does where objects would be
   several times larger than the model's, and it is not certain of them: glands pass for large nuclei.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import UsageError
from unettile.images.normalize import Scaling
from unettile.images.slide import Slide
from unettile.images.zoomed import LARGEST_ZOOM, SMALLEST_ZOOM, zoomed_image
from unettile.inference.predict import Predictor
from unettile.inference.whole import compute_box
from unettile.objectsize import ObjectSize
from unettile.segmentation.diameter import parse_diameter
from unettile.segmentation.options import SegmentOptions
from unettile.typed import Name, Positive

SCALES = (1.0, 0.5, 0.25, 0.125)
ENLARGED = 2.0
BOX_EDGE = 768  # px of what the network reads, without margins
BOXES = 4
LEAST_EDGE = 48  # network px of the image's shorter edge, below which a scale shows too little
_SPREAD = math.log(1.6)  # by which a diameter may differ from the model's and still be half believed, about
_CERTAINTY = 12  # to this power it counts: chosen on real images, and much the same from 8 to 16
_NEAR = math.log(1.15)  # scales nearer than this show the same
_SMALLER = 0.8  # times the model's median, below which the sample is enlarged
_SURE = 0.65  # certainty from which the first scale alone is believed, and far ones are; chosen on real images
_FAR = 1 / 3  # scale below which that is asked for
_ENOUGH = 8  # objects for that
LEAST_ALIKE = 0.5  # of what is found: less is told
_LEAST_SHARE = 0.001  # of the sample that is foreground, below which there is nothing to be sized


@dataclass(frozen=True)
class Sighting:
    """What a model found in the sample of an image at one scale.

    Args:
        scale: network px for each px of the image.
        diameter: network px, the median by area; 0 where nothing was found.
        count: how many objects.
        share: of the sample that is foreground.
        certainty: mean over the foreground of twice how far its probability lies above one half.
        alike: share of the foreground in objects that look like those that the model knows, by size and outline.
    """

    scale: float
    diameter: float
    count: int
    share: float
    certainty: float
    alike: float


@dataclass(frozen=True)
class Sizing:
    """At which scale an image is segmented, and why.

    Args:
        asked: what `--diameter` was given.
        scale: network px for each px of the image.
        diameter: of the objects, px of the image: given, or found; None where nothing was found.
        frame: whose pixels the mask has, `image` or `model`.
        alike: share of what was found in the sample at this scale that looks like the model's objects; None where
            nothing was looked for or found.
    """

    asked: Name
    scale: Annotated[float, Meta(ge=SMALLEST_ZOOM, le=LARGEST_ZOOM)] = 1.0
    diameter: Positive | None = None
    frame: Annotated[str, Meta(pattern="^(image|model)$")] = "image"
    alike: Annotated[float, Meta(ge=0, le=1)] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def size_up(slide: Slide, predictor: Predictor, scaling: Scaling, options: SegmentOptions) -> Sizing | None:
    """Return at which scale an image is to be segmented; None where nobody asked.

    A size that was given decides; else pixel sizes, where the model and the image state one; else what is found.

    Raises:
        UsageError: a size that this model or image cannot be brought to.
        InputError: the image cannot be read.
    """
    asked, checkpoint = options.diameter, predictor.checkpoint
    size, pixel = checkpoint.objects_px, options.pixel_size_um or _mean(slide.pixel_size_um)
    given = parse_diameter(asked)
    if given is not None:
        if size is None:
            raise UsageError(
                f"--diameter {asked}: the model does not state the size of its objects; need one that was trained with"
                " labels of objects, or --diameter off"
            )
        if given.in_um and pixel is None:
            raise UsageError(f"--diameter {asked}: the image does not state its pixel size; give --pixel-size, or px")
        diameter = given.value / pixel if given.in_um and pixel is not None else given.value
        scale = size.best / diameter
        if not SMALLEST_ZOOM <= scale <= LARGEST_ZOOM:
            raise UsageError(
                f"--diameter {asked} would segment the image at {scale:.3g} of its size, need 1/32 to 8: the model"
                f" knows objects of {size.low:.0f} to {size.high:.0f} px"
            )
        return Sizing(asked, _rounded(scale), diameter, options.frame)
    if asked == "off":
        return None
    if checkpoint.pixel_size_um is not None and pixel is not None:
        scale = pixel / checkpoint.pixel_size_um
        return Sizing(asked, _rounded(scale), None, options.frame)
    if size is None:
        return None
    found, seen = estimate_diameter(slide, predictor, scaling, size)
    scale = 1.0 if found is None or size.fits(found) else _rounded(size.best / found)
    if scale < _FAR and _nearest(seen, scale).certainty < _SURE:
        return Sizing(asked, 1.0, None, options.frame, alike=0.0)
    return Sizing(asked, scale, found, options.frame, _alike(seen, scale))


def sizing_advice(sizing: Sizing | None, size: ObjectSize | None) -> list[str]:
    """Return what to tell the user of the scale that was chosen, and of what was found at it; often nothing."""
    if sizing is None or sizing.asked != "auto":
        return []
    lines = []
    if sizing.scale != 1 and (sizing.diameter is None or size is None):
        lines.append(
            f"by its pixel size the image is segmented at {sizing.scale:.2g} of its size; --diameter off segments it"
            " as it is"
        )
    elif sizing.scale != 1 and sizing.diameter is not None and size is not None:
        lines.append(
            f"objects are about {sizing.diameter:.0f} px across, the model knows {size.low:.0f} to {size.high:.0f} and"
            f" is best at {size.best:.0f}: segmented at {sizing.scale:.2g} of the size; --diameter off segments as it"
            " is"
        )
    if size is not None and sizing.alike is not None and sizing.alike < LEAST_ALIKE:
        lines.append(
            f"{1 - sizing.alike:.0%} of what the model finds in this image does not look like its objects, which are"
            f" round and {size.low:.0f} to {size.high:.0f} px across: look at the mask; --diameter states their size,"
            " --model chooses another model"
        )
    return lines


def _mean(size: tuple[float, float] | None) -> float | None:
    return None if size is None else (size[0] + size[1]) / 2


def _rounded(scale: float) -> float:
    return float(f"{min(LARGEST_ZOOM, max(SMALLEST_ZOOM, scale)):.4g}")


def estimate_diameter(
    slide: Slide, predictor: Predictor, scaling: Scaling, size: ObjectSize
) -> tuple[float | None, list[Sighting]]:
    """Return the diameter of an image's objects, px of the image, None where nothing is found; and what was seen.

    Args:
        scaling: of the image's intensities.
        size: of the objects that the model knows.

    Raises:
        InputError: the image cannot be read.
    """
    seen = [look(slide, predictor, scaling, SCALES[0])]
    if _is_sure(seen[0], size):
        return seen[0].diameter, seen
    seen += [look(slide, predictor, scaling, scale) for scale in SCALES[1:] if _shows(slide, scale)]
    if seen[0].diameter < _SMALLER * size.median:
        seen.append(look(slide, predictor, scaling, ENLARGED))
    first = _believed(seen, size)
    if first is None:
        return None, seen
    scale = min(ENLARGED, max(SCALES[-1], size.median / first))
    if _shows(slide, scale) and all(abs(math.log(scale / one.scale)) >= _NEAR for one in seen):
        seen.append(look(slide, predictor, scaling, scale))
        first = _believed(seen, size) or first
    return first, seen


def look(slide: Slide, predictor: Predictor, scaling: Scaling, scale: float) -> Sighting:
    """Return what the model finds in the sample at one scale."""
    from unettile.objects.byrules import label_array  # compiled code
    from unettile.objects.diameters import diameter_percentiles, object_areas
    from unettile.objects.likeness import alike_area

    checkpoint = predictor.checkpoint
    zoomed = slide if scale == 1 else zoomed_image(slide, scale)
    kinds = ("probabilities", "depth") if checkpoint.depth else ("probabilities",)
    classes = len(checkpoint.classes)
    areas: list[NDArray[np.int64]] = []
    size = checkpoint.objects_px
    foreground, certain, total, alike = 0, 0.0, 0, 0
    for box in sample_boxes(zoomed.shape):
        planes = compute_box(zoomed, box, predictor, scaling, kinds)
        levels = planes[:classes]
        found = levels.argmax(axis=0).astype(np.uint8)
        rules = replace(checkpoint.objects, rim=0.0)  # sizes are told by what is sure
        mask = levels if rules.threshold else found[None]
        depth = np.moveaxis(planes[classes:], 0, -1) if checkpoint.depth else None
        names = tuple(info.name for info in checkpoint.classes)
        ids = label_array(np.ascontiguousarray(np.moveaxis(mask, 0, -1)), depth, rules, names)
        areas.append(object_areas([ids]))
        inside = ids > 0
        foreground += int(inside.sum())
        certain += float(np.clip(2 * (1 - levels[0][inside] / 255) - 1, 0, 1).sum())
        total += box.area
        alike += alike_area(ids, size) if size is not None else 0
    sizes = np.concatenate(areas)
    diameter = float(diameter_percentiles(sizes, [50])[0]) if len(sizes) else 0.0
    some = max(1, foreground)
    return Sighting(scale, diameter, len(sizes), foreground / total, certain / some, alike / some)


def sample_boxes(shape: tuple[int, int]) -> list[Box]:
    """Return the boxes that are looked at of an image of that shape: all of it, or up to four, spread evenly."""
    height, width = (min(edge, BOX_EDGE) for edge in shape)
    if math.prod(shape) <= BOXES * BOX_EDGE**2:
        return [Box.of_shape(shape)]
    rows = 1 if shape[0] < 2 * BOX_EDGE else BOXES if shape[1] < 2 * BOX_EDGE else 2
    columns = BOXES // rows
    found = []
    for row in range(rows):
        for column in range(columns):
            y0 = (2 * row + 1) * shape[0] // (2 * rows) - height // 2
            x0 = (2 * column + 1) * shape[1] // (2 * columns) - width // 2
            found.append(Box(max(0, y0), max(0, x0), max(0, y0) + height, max(0, x0) + width))
    return found


def _shows(slide: Slide, scale: float) -> bool:
    return min(slide.shape) * scale >= LEAST_EDGE


def _is_sure(one: Sighting, size: ObjectSize) -> bool:
    """Whether what is found at a scale is so much what the model knows that no other can be better."""
    if one.count < _ENOUGH or one.certainty < _SURE:
        return False
    return size.fits(one.diameter) and abs(math.log(one.diameter / size.median)) < _SPREAD


def _alike(seen: list[Sighting], scale: float) -> float | None:
    """Return the share of what was found that looks like the model's objects, where it was looked for at that scale."""
    near = _nearest(seen, scale)
    if near.share < _LEAST_SHARE or abs(math.log(scale / near.scale)) > _SPREAD:
        return None
    return near.alike


def _nearest(seen: list[Sighting], scale: float) -> Sighting:
    return min(seen, key=lambda one: abs(math.log(scale / one.scale)))


def _believed(seen: list[Sighting], size: ObjectSize) -> float | None:
    """Return the mean of the diameters, px of the image, by how far each is believed; None if none is."""
    logs, weights = [], []
    for one in seen:
        if one.diameter <= 0 or one.share < _LEAST_SHARE:
            continue
        away = math.log(one.diameter / size.median) / _SPREAD
        logs.append(math.log(one.diameter / one.scale))
        weights.append(math.exp(-(away**2)) * one.certainty**_CERTAINTY * math.sqrt(one.count))
    if sum(weights) <= 1e-12:
        return None
    return math.exp(float(np.average(logs, weights=weights)))
