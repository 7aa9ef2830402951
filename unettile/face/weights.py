"""Weight maps of label images, as `unettile weights` writes them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Literal

from numpy.typing import NDArray

from unettile.box import Box
from unettile.drawn.pairing import drawn_on
from unettile.face.advice import advise
from unettile.face.image import ImageLike, source_of
from unettile.images.idparts import count_parts
from unettile.images.slide import open_labels
from unettile.labels import carve_gaps
from unettile.objects.components import open_ids
from unettile.weighting.plan import Weighting
from unettile.weightmap import Border, balanced_class_weights
from unettile.weightmap import weight_map as compute


def weight_map(
    labels: ImageLike,
    *,
    image: ImageLike | None = None,
    w0: float = 10.0,
    sigma: float = 5.0,
    pixel_size: tuple[float, float] = (1.0, 1.0),
    class_weights: Literal["balanced", "none"] | tuple[float, float] = "balanced",
    gap: int = 0,
    dtype: Literal["float32", "float16"] = "float32",
    components: bool = False,
) -> NDArray[Any]:
    """Compute the weight map of a label image: larger where background lies between two close cells.

    w = w_c + w0 · exp(-(d1 + d2)² / 2 sigma²), with the distances d1 and d2 to the two nearest cells (U-Net paper,
    equation 2, arXiv:1505.04597). It is what `unettile weights` writes for the same labels.

    Args:
        labels: (H, W) integer, 0 is background, every other id one cell; an array, or the path of a file, of
            polygons, too.
        image: that polygons are of, for its size; None where their file states it.
        w0: height of the border term, ≥ 0.
        sigma: its reach, > 0; px, or the unit of `pixel_size`.
        pixel_size: height and width of a pixel, in the unit of `sigma`.
        class_weights: w_c of background and of cells: balanced over this image, none for 1 and 1, or two numbers, those
            of a whole set for example.
        gap: px of background carved between touching cells first.
        dtype: of the map; float16 is half as large, and off by up to 0.05 %.
        components: cells are the separate parts of all that is above 0, as in a mask of 0 and 255.

    Returns:
        (H, W) of `dtype`.

    Raises:
        InputError: no label map, or a file that cannot be read.
        UsageError: a number out of range.

    Warns:
        Advice: ids that do not look like those of cells.

    >>> import numpy as np, unettile
    >>> weights = unettile.weight_map(np.array([[1, 0, 0, 2]]), w0=10, sigma=5)
    >>> [round(float(weight), 3) for weight in weights[0]]
    [1.0, 9.353, 9.353, 1.0]
    """
    weighting = Weighting(Border(w0, sigma, pixel_size), class_weights == "balanced", gap, dtype, components)
    source = drawn_on(
        source_of(labels, "the labels"), None if image is None else source_of(image, "the image"), ignored=0
    )
    with open_labels(source) as slide, ExitStack() as stack:
        if not components:
            note = count_parts(slide).note("say components=True, so that every separate part is one")
            if note is not None:
                advise(note)
        ids = carve_gaps(open_ids(slide, stack, components=components)(Box.of_shape(slide.shape)), gap)
    pair = None
    if not isinstance(class_weights, str):
        pair = class_weights
    elif weighting.balanced:
        pair = balanced_class_weights([ids])
    return compute(ids, w0, sigma, pair, pixel_size, threads=None).astype(dtype, copy=False)
