"""Labels by name: the label images of a folder, its files of polygons, or the images that one such file names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from unettile.drawn.files import ALONE, is_drawing, read_figures
from unettile.drawn.labels import Drawn
from unettile.errors import InputError
from unettile.images.classmasks import find_class_masks
from unettile.images.listing import IMAGE_ENDINGS, find_images, is_folder
from unettile.images.pairing import by_name, name_of
from unettile.images.slide import ImageSource, LabelSource
from unettile.images.view import FIRST, View


def labels_by_name(labels: Path, *, drawn: bool = False) -> dict[str, ImageSource]:
    """Return the labels of a folder by name, sorted: its images, or of a folder without any its files of polygons.

    Of a folder of folders it is the masks of each image, one in the folder of each class.

    Of one file of polygons it is the images that the file names, or the one that it is of.

    Args:
        drawn: pass over the images of the folder.

    Raises:
        InputError: it holds none, two of one name, or polygons that cannot be read.
    """
    if is_folder(labels):
        drawings = list_drawings(labels)
        if not drawings or (find_images(labels) and not drawn):
            return dict(find_class_masks(labels) or by_name(labels))
        found = [one for path in drawings for one in _in_folder(path)]
    elif is_drawing(labels):
        found = list(_named(labels))
    else:
        return dict(by_name(labels))
    names: dict[str, ImageSource] = {}
    for name, source in found:
        if name in names:
            raise InputError(
                f"{labels} has two drawings for {name!r}, {names[name]} and {source}: keep one, since images pair by"
                " name"
            )
        names[name] = source
    return dict(sorted(names.items()))


def list_drawings(folder: Path) -> list[Path]:
    """Return the files of polygons of a folder, by name; hidden files are passed over.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and is_drawing(path)]
    except OSError as error:
        raise InputError(f"cannot list {folder}: {(error.strerror or str(error)).lower()}") from error


def names_images(path: Path) -> bool:
    """Whether a path is a file of polygons that names its images, as COCO's does; errors as reading's."""
    return is_drawing(path) and path.is_file() and ALONE not in read_figures(path)


def has_several(path: Path) -> bool:
    """Whether a path is a folder, or a file of polygons of several images; errors as reading's."""
    return is_folder(path) or (is_drawing(path) and path.is_file() and len(read_figures(path)) > 1)


def path_of(labels: ImageSource) -> Path | None:
    """Return the file that labels are read from; None of an array."""
    return labels.path if isinstance(labels, Drawn) else labels if isinstance(labels, Path) else None


def drawn_on(
    labels: ImageSource, image: ImageSource | None, view: View = FIRST, ignored: int | None = None
) -> ImageSource:
    """Return labels as they are opened: of a file of polygons, what is painted on the pixels of an image.

    Args:
        image: an image, or a mask, of the same pixels; None for what the file itself states.
        view: of the image's file.
        ignored: the number of pixels in regions to ignore; None refuses a file that has such, or leaves it as it is.
    """
    if isinstance(image, Path) and is_drawing(image):
        image = Drawn(image)
    if isinstance(labels, Path) and is_drawing(labels):
        labels = Drawn(labels)
    if not isinstance(labels, Drawn):
        return labels
    return replace(labels, image=image, view=view, ignored=labels.ignored if ignored is None else ignored)


def of_classes(labels: ImageSource, classes: Sequence[str]) -> ImageSource:
    """Return labels whose numbers are those of classes: of a file of polygons, or of a mask for each class, by name.

    Args:
        classes: names, background first.
    """
    return labels.in_classes(classes) if isinstance(labels, LabelSource) else labels


def drawing_name(path: Path) -> str:
    """Return the name of the image that a file of polygons is of.

    >>> drawing_name(Path("a.geojson")), drawing_name(Path("b.ome.tif.geojson"))
    ('a', 'b')
    """
    name = name_of(path)
    return name_of(Path(name)) if Path(name).suffix.lower() in IMAGE_ENDINGS else name


def _named(path: Path) -> Iterator[tuple[str, Drawn]]:
    for entry in read_figures(path):
        yield (drawing_name(path), Drawn(path)) if entry == ALONE else (name_of(Path(entry)), Drawn(path, entry=entry))


def _in_folder(path: Path) -> list[tuple[str, Drawn]]:
    """Return the labels of a file in a folder: it pairs by its own name, unless it is of several images."""
    named = list(_named(path))
    return [(drawing_name(path), named[0][1])] if len(named) == 1 else named
