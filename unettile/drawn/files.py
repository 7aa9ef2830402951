"""Files of polygons, of whatever format: what a name that ends so holds, image by image."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from unettile.drawn.coco import read_coco
from unettile.drawn.figures import Figure, Figures, means_ignore
from unettile.drawn.geojson import parse_geojson, read_json
from unettile.drawn.labelme import read_labelme
from unettile.drawn.rois import read_rois
from unettile.errors import InputError

ENDINGS = (".geojson", ".json", ".roi", ".zip")
"""Of files of polygons."""

ALONE = ""
"""Name of the image of a file that holds one, and does not name it."""


def is_drawing(path: Path) -> bool:
    """Whether a path is, by its ending, a file of polygons."""
    return path.name.lower().endswith(ENDINGS) and not path.is_dir()


def read_figures(path: Path) -> dict[str, Figures]:
    """Return the objects of each image in a file, by the image's name; ALONE for a file that is of one image.

    Raises:
        InputError: it cannot be read, or is not what its ending says.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    return _read(path, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=2)
def _read(path: Path, stamp: tuple[int, int, int]) -> dict[str, Figures]:
    """Return what is in a file, which is opened once for every image that it is of."""
    if path.suffix.lower() in (".roi", ".zip"):
        return {ALONE: read_rois(path)}
    values = read_json(path)
    if isinstance(values, dict) and "annotations" in values:
        return read_coco(path, values)
    if isinstance(values, dict) and "shapes" in values:
        return {ALONE: read_labelme(path, values)}
    if not (isinstance(values, list) or (isinstance(values, dict) and values.keys() & {"type", "features"})):
        raise InputError(f"{path} is no JSON of polygons: need GeoJSON, COCO's or LabelMe's")
    shapes, names, epsg = parse_geojson(path, values)
    figures = [Figure((tuple(rings),), means_ignore(name), name) for rings, name in zip(shapes, names, strict=True)]
    return {ALONE: Figures.of(figures, epsg=epsg, is_on_earth=True)}
