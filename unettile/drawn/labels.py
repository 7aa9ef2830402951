"""Labels that were drawn: polygons as a label image of ids, painted region by region on the pixels of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.drawn.figures import IGNORED, Figures
from unettile.drawn.files import read_figures
from unettile.drawn.ground import Ground
from unettile.errors import InputError
from unettile.images.georeference import Georeference
from unettile.images.nodata import ALL_DATA
from unettile.images.orientation import UPRIGHT
from unettile.images.pixelsize import PixelSize
from unettile.images.record import read_record
from unettile.images.slide import ImageSource, LabelSource, open_slide
from unettile.images.spacing import UNKNOWN
from unettile.images.view import FIRST, Level, ManyPlanes, View
from unettile.wording import size_text


@dataclass(frozen=True)
class Drawn(LabelSource):
    """A file of polygons that stands where a label image is expected.

    Args:
        path: GeoJSON, ImageJ's ROI set, COCO's or LabelMe's JSON.
        image: that the polygons are of, or a mask of the same pixels; None where the file states its size.
        view: of the image's file.
        entry: of a file that is of several images, the name of the one.
        ignored: the number of pixels in regions that are to be ignored; None refuses a file that has such.
        classes: names, background first, whose numbers pixels then have; none for ids, each object one.
    """

    path: Path
    image: ImageSource | None = None
    view: View = FIRST
    entry: str = ""
    ignored: int | None = None
    classes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.path} ({self.entry})" if self.entry else str(self.path)

    def __str__(self) -> str:
        return self.name

    @property
    def file(self) -> Path:
        """The file whose name says which image it is of."""
        return Path(self.entry) if self.entry else self.path

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes that it has, sorted; errors as those of `open`."""
        return tuple(sorted({name for name in self._figures().names if name}))

    def in_classes(self, names: Sequence[str]) -> Drawn:
        return replace(self, classes=tuple(names))

    @property
    def object_names(self) -> tuple[str, ...]:
        """The name of the class of each object, of the ids 1, 2, …; "" where it has none; errors as those of `open`."""
        return self._figures().names

    @property
    def has_ignored(self) -> bool:
        """Whether it has regions that are to be ignored; errors as those of `open`."""
        return self._figures().has_ignored

    def open(self, view: View = FIRST) -> DrawnSlide:
        """Open it as a label image.

        Raises:
            InputError: it cannot be read, nothing says how many pixels there are, its polygons lie elsewhere, or they
                have other classes.
            NoSuchImage: the view chooses another level or plane than the one there is.
        """
        figures = self._figures()
        if figures.has_ignored and self.ignored is None:
            raise InputError(f"{self} has regions to ignore, which can be in labels to train on alone: take them out")
        return DrawnSlide(self, figures, self._canvas(figures), view)

    def _figures(self) -> Figures:
        found = read_figures(self.path)
        if self.entry in found:
            return found[self.entry]
        if not self.entry and len(found) == 1:
            return next(iter(found.values()))
        raise InputError(f"{self.path} is of {len(found)} images: need a folder of images of the same names with it")

    def _canvas(self, figures: Figures) -> _Canvas:
        """Return the pixels to paint on."""
        if self.image is None or (isinstance(self.image, Drawn) and figures.size is not None):
            if figures.size is None:
                raise InputError(
                    f"{self.path} does not state the size of its image: need the image with it (weights: --images),"
                    " or a label image"
                )
            return _Canvas(Ground(figures.size))
        canvas = _canvas_of(self.image, self.view)
        ground = canvas.ground
        if figures.size is None:
            kept = ground if figures.is_on_earth else replace(ground, georeference=None)
            return replace(canvas, ground=kept)
        if figures.size != ground.shape:
            raise InputError(
                f"{self} was drawn on {size_text(figures.size)}, {self.image} is {size_text(ground.shape)}: need the"
                " same image"
            )
        return replace(canvas, ground=Ground(ground.shape))


@dataclass(frozen=True)
class _Canvas:
    """The pixels to paint on, as coordinates are brought to them, and what is known of them."""

    ground: Ground
    pixel_size_um: PixelSize | None = None
    georeference: Georeference | None = None


def _canvas_of(image: ImageSource, view: View) -> _Canvas:
    """Return the pixels of an image or a mask, or of a drawing that states its size."""
    if isinstance(image, Drawn):
        return replace(image, image=None)._canvas(image._figures())
    try:
        record = read_record(image)
        with open_slide(image, view) as slide:
            y, x = (own * made for own, made in zip(slide.downsample, record.downsample, strict=True))
            place = slide.georeference or record.georeference
            return _Canvas(Ground(slide.shape, (y, x), place), slide.pixel_size_um, place)
    except OSError as error:
        raise InputError(f"cannot read {image}: {(error.strerror or str(error)).lower()}") from error
    except InputError as error:
        if isinstance(error.__cause__, ManyPlanes):
            raise InputError(f"{image} is a stack: polygons are of a plane; choose one, or give label images") from None
        raise


class DrawnSlide:
    """A label image of ids 1 … n, the numbers of the objects in their file's order, or of the numbers of their classes.

    An object's pixels are those whose centres lie inside of it. Where objects overlap, the later one has the pixels.
    See `unettile.images.slide.Slide`.
    """

    reader = "drawn"
    downsample = (1.0, 1.0)
    origin_um = None
    spacing = UNKNOWN
    orientation = UPRIGHT
    no_data = ALL_DATA
    lossy = False
    channels = 1
    channel_names = ("",)

    def __init__(self, source: Drawn, figures: Figures, canvas: _Canvas, view: View = FIRST) -> None:
        self.path = source.path
        self.shape = canvas.ground.shape
        self.pixel_size_um = canvas.pixel_size_um
        self.georeference = canvas.georeference
        series = view.pick_series([size_text(self.shape)], [0])
        level = view.pick_level([Level(self.shape, pixel_size_um=self.pixel_size_um)])
        plane = view.pick_plane("t", 1), view.pick_plane("z", 1)
        self.view = view.resolved(series, level, plane, view.pick_channels(1))
        shapes = figures.drawing.shapes
        self._shapes = canvas.ground.place(figures.drawing, source.path) if len(shapes) else shapes
        ids = figures.of_classes(source.classes, str(source)) if source.classes else figures.ids
        self._ids = np.where(figures.ids == IGNORED, source.ignored or 0, ids).astype(np.uint32)
        largest = int(self._ids.max(initial=0))
        self.dtype = np.dtype(np.uint16 if largest < 2**16 else np.uint32)

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self, box: Box) -> NDArray[np.uint16 | np.uint32]:
        """Return the ids of a region (h, w, 1); `box` must be a part of the image."""
        assert Box.of_shape(self.shape).contains(box), f"{box} lies outside of {self.shape}"
        return self._shapes.numbers(box, self._ids)[..., None].astype(self.dtype)

    def known(self, box: Box) -> None:
        """Return None: all pixels are known."""

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> DrawnSlide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
