"""Class masks: one mask for each class of an image, as one label image of the classes' numbers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.listing import find_images, is_folder
from unettile.images.nodata import ALL_DATA
from unettile.images.pairing import by_name, match_names
from unettile.images.slide import LabelSource, Slide, open_labels
from unettile.images.view import FIRST, View
from unettile.wording import size_text

_MOST = 255  # classes, background aside


@dataclass(frozen=True)
class ClassMasks(LabelSource):
    """Masks of an image's classes, 0 where a class is not; where masks overlap, the later class has the pixel.

    Args:
        masks: the name of a class and the file of its mask; the first has number 1.
    """

    masks: tuple[tuple[str, Path], ...]

    @property
    def name(self) -> str:
        return f"{self.masks[0][1]} and masks of other classes"

    def __str__(self) -> str:
        return self.name

    @property
    def file(self) -> Path:
        return self.masks[0][1]

    @property
    def folder(self) -> Path:
        """Which holds a folder for each class."""
        return self.file.parent.parent

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.masks)

    def in_classes(self, names: Sequence[str]) -> ClassMasks:
        places = {name.casefold(): place for place, name in enumerate(names)}
        for name, path in self.masks:
            if places.get(name.casefold(), 0) == 0:
                raise InputError(
                    f"{path} is a mask of the class {name!r}, the classes are {', '.join(names)}: name it among them"
                    f" (train: labels.names, evaluate: --class-names), or take the folder {name} away"
                )
        masks = {places[name.casefold()]: (name, path) for name, path in self.masks}
        for place, name in enumerate(names):
            if place and place not in masks:
                raise InputError(f"{self.folder} has no folder of masks for the class {name!r}")
        return replace(self, masks=tuple(masks[place] for place in sorted(masks)))

    def open(self, view: View = FIRST) -> ClassMaskSlide:
        """Open all masks.

        Raises:
            InputError: one cannot be read, has another size than the first, or is no mask.
            NoSuchImage: the view chooses what is not there.
        """
        with ExitStack() as stack:
            slides = tuple(stack.enter_context(open_labels(path, view)) for _, path in self.masks)
            first = slides[0]
            for slide, (_, path) in zip(slides, self.masks, strict=True):
                if slide.shape != first.shape:
                    raise InputError(
                        f"{path} is {size_text(slide.shape)}, {self.file} is {size_text(first.shape)}: need masks of"
                        " one size"
                    )
                if slide.channels not in (1, 3):
                    raise InputError(f"{path} has {slide.channels} channels: need a mask of one, or of grey in RGB")
            return ClassMaskSlide(slides, stack.pop_all())


class ClassMaskSlide:
    """A label image of the numbers of classes; everything but its pixels is as the first mask has it.

    See `unettile.images.slide.Slide`.
    """

    reader = "class masks"
    no_data = ALL_DATA
    lossy = False
    channels = 1
    channel_names = ("",)
    dtype = np.dtype(np.uint8)

    def __init__(self, slides: tuple[Slide, ...], stack: ExitStack) -> None:
        self._slides, self._stack = slides, stack
        first = slides[0]
        self.path, self.view, self.shape = first.path, first.view, first.shape
        self.pixel_size_um, self.spacing, self.downsample = first.pixel_size_um, first.spacing, first.downsample
        self.origin_um, self.georeference, self.orientation = first.origin_um, first.georeference, first.orientation

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for slide in self._slides for file in slide.files)

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return the classes of a region (h, w, 1); `box` must be a part of the image."""
        classes = np.zeros((*box.shape, 1), np.uint8)
        for number, slide in enumerate(self._slides, start=1):
            classes[slide.read(box).any(axis=2)] = number
        return classes

    def known(self, box: Box) -> None:
        """Return None: all pixels are known."""

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> ClassMaskSlide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def find_class_masks(folder: Path) -> dict[str, ClassMasks]:
    """Return the masks of a folder that has a folder of masks for each class, by the name of the image; or none.

    Raises:
        InputError: an image without a mask of each class, two masks of one name, or too many classes.
    """
    if find_images(folder):
        return {}
    folders = [path for path in sorted(folder.iterdir()) if is_folder(path) and not path.name.startswith(".")]
    folders = [path for path in folders if find_images(path)]
    if not folders:
        return {}
    if len(folders) > _MOST:
        raise InputError(f"{folder} has {len(folders)} folders: need one of masks for each class, at most {_MOST}")
    first, found = by_name(folders[0]), [by_name(path) for path in folders]
    matched = [match_names(first, masks) for masks in found]
    for path, masks, names in zip(folders, found, matched, strict=True):
        missing = [(path, name, folders[0]) for name in first if name not in names]
        missing += [(folders[0], name, path) for name in sorted(masks.keys() - set(names.values()))]
        for lacking, name, having in missing[:1]:
            raise InputError(
                f"{lacking} has no mask for {name}, {having.name} has one: need one of each class; one of zeros says"
                " that the class is not there"
            )
    return {
        name: ClassMasks(
            tuple((path.name, masks[names[name]]) for path, masks, names in zip(folders, found, matched, strict=True))
        )
        for name in first
    }
