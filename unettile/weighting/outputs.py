"""Outputs: which weight map is made of which labels, and what it is called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unettile.drawn.pairing import drawing_name, drawn_on, has_several, labels_by_name, list_drawings, path_of
from unettile.errors import InputError, UsageError
from unettile.images.formats import format_of
from unettile.images.listing import find_images, image_stem, is_folder, list_images
from unettile.images.pairing import by_name, match_names
from unettile.images.planes import plane_views
from unettile.images.slide import ImageSource, LabelSource
from unettile.protection import protect


def default_output(labels: Path) -> Path:
    """Return where maps go if nothing is said: beside the labels, with `_weights` in the name.

    >>> default_output(Path("set/cells.png")).as_posix()
    'set/cells_weights.tif'
    """
    named = labels if labels.name not in ("", "..") else labels.resolve()
    if has_several(labels):
        return named.with_name(f"{named.name if is_folder(labels) else image_stem(named)}_weights")
    return named.with_name(f"{image_stem(named)}_weights.tif")


def name_outputs(labels: Path, target: Path, images: Path | None) -> list[tuple[ImageSource, Path]]:
    """Return each label image and the path of its map.

    Args:
        images: of which polygons are, a file or a folder.

    Raises:
        UsageError: an output, or images, that do not fit the labels.
        InputError: labels that cannot be read, or two that would give one map.
    """
    pairs: list[tuple[ImageSource, Path]]
    if not has_several(labels):
        source = _with_images({drawing_name(labels): labels}, images)[drawing_name(labels)]
        plane_views(source)  # no such file, or no image: said before anything about the output
        if is_folder(target):
            raise UsageError(
                f"-o {target} is a folder: one label image gives one file; name it, say {target / 'w.tif'}"
            )
        if target.suffix.lower() == ".png":
            raise UsageError(f"-o {target}: a PNG holds no weights; need a name that ends with .tif")
        format_of(target)
        pairs = [(source, target)]
    else:
        drawn = not is_folder(labels) or (bool(list_drawings(labels)) and not find_images(labels))
        named = labels_by_name(labels) if drawn else {str(path): path for path in list_images(labels)}
        found = _with_images(named, images)
        if target.exists() and not target.is_dir():
            raise UsageError(f"-o {target} is a file: a folder of label images gives a folder; name one")
        pairs = [
            (path, target / f"{image_stem(path) if isinstance(path, Path) else name}.tif")
            for name, path in found.items()
        ]
    protect([labels, images, *(path_of(path) for path, _ in pairs)], [written for _, written in pairs])
    seen: dict[Path, ImageSource] = {}
    for path, written in pairs:
        if written in seen:
            raise InputError(f"{seen[written]} and {path} would give one map, {written.name}: rename one")
        seen[written] = path
    return pairs


def _with_images(named: Mapping[str, ImageSource], images: Path | None) -> dict[str, ImageSource]:
    """Return labels by name, those that were drawn with the image that they are of.

    Raises:
        UsageError: images for labels that are not drawn.
        InputError: a drawing whose image is not there.
    """
    drawn = {name: drawn_on(labels, None, ignored=0) for name, labels in named.items()}
    if images is None:
        return drawn
    if not all(isinstance(labels, LabelSource) for labels in drawn.values()):
        raise UsageError(f"--images {images}: label images have their own size, so leave it out")
    if not is_folder(images):
        if len(drawn) > 1:
            raise UsageError(f"--images {images} is a file, LABELS are of {len(drawn)} images: need their folder")
        return {name: drawn_on(labels, images) for name, labels in drawn.items()}
    there = by_name(images)
    matched = match_names(drawn, there)
    alone = [labels for name, labels in drawn.items() if name not in matched]
    if alone:
        raise InputError(f"{alone[0]} has no image in {images}: need one of the same name, endings aside")
    return {name: drawn_on(labels, there[matched[name]]) for name, labels in drawn.items()}
