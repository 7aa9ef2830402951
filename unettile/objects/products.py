"""Products: what is written of objects, what is read for it, and which names may be written to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unettile.errors import InputError, UsageError
from unettile.images.canvas import ZARR_VERSIONS
from unettile.images.formats import format_of
from unettile.images.georeference import Georeference
from unettile.images.omezarr import is_zarr
from unettile.images.pixelsize import PixelSize
from unettile.images.provenance import check_version
from unettile.images.record import read_metadata
from unettile.images.slide import ImageSource
from unettile.images.view import View
from unettile.objects.anchors import LARGEST
from unettile.objects.coco import HEAD as COCO
from unettile.objects.geojson import HEAD, OBJECT_TYPES
from unettile.objects.geopackage import BEGINNING as GEOPACKAGE
from unettile.objects.h5ad import import_anndata
from unettile.objects.places import Places
from unettile.objects.table import check_table, import_parquet
from unettile.protection import protect

_BEGINNINGS = {
    ".csv": b"id,",
    ".parquet": b"PAR1",
    ".geojson": HEAD.encode(),
    ".png": b"\x89PNG",
    ".zip": b"PK",
    ".gpkg": GEOPACKAGE,
    ".h5ad": b"\x89HDF",
    ".html": b"<!DOCTYPE html>",
    ".htm": b"<!DOCTYPE html>",
}
"""How files begin that are written here, by their endings."""

MOST_IN_GALLERY = 40
"""Objects in a row of the gallery."""


@dataclass(frozen=True)
class Products:
    """What is to be written; None is not.

    Args:
        labels: an image of ids.
        table: .csv or .parquet.
        geojson: polygons, of `object_type`.
        overlay: .png.
        confidence: an image in which every object has its mean probability, in 1/255.
        columns: keep the table for who asked, in `Found.columns`.
        rois: regions of interest of ImageJ, .zip.
        coco: annotations of COCO, .json.
        geoparquet: polygons, .parquet.
        anndata: the table as AnnData, .h5ad.
        gallery: pictures of single objects, .png.
        gallery_objects: how many there are of each kind.
        report: a page, .html.
        simplify: how far outlines may move to have fewer points, px of the mask; 0 leaves them along pixel edges.
        lonlat: the GeoJSON of a map is in longitude and latitude, rather than in the map's coordinates.
        pixels: the GeoJSON of a map is in px, as that of other images.
        zarr: the version of OME-Zarr, of images that are one.
        geopackage: polygons, .gpkg.

    Raises:
        UsageError: nothing, an ending that is not written, a number out of range, or two kinds of coordinates.
        InputError: Parquet without its library.
    """

    labels: Path | None = None
    table: Path | None = None
    geojson: Path | None = None
    overlay: Path | None = None
    object_type: str = "detection"
    confidence: Path | None = None
    columns: bool = False
    rois: Path | None = None
    coco: Path | None = None
    geoparquet: Path | None = None
    anndata: Path | None = None
    simplify: float = 0.0
    gallery: Path | None = None
    gallery_objects: int = 8
    report: Path | None = None
    lonlat: bool = False
    pixels: bool = False
    zarr: str = ZARR_VERSIONS[0]
    geopackage: Path | None = None

    def __post_init__(self) -> None:
        if not self.paths and not self.columns:
            raise UsageError("nothing to write: give -o LABELS, --table, --geojson, --overlay or others of them")
        for path in (self.labels, self.confidence):
            if path is not None:
                format_of(path)
        if self.zarr not in ZARR_VERSIONS:
            raise UsageError(f"--format-version {self.zarr!r} is not written: need {' or '.join(ZARR_VERSIONS)}")
        if self.table is not None:
            check_table(self.table)
        for path, option, endings in (
            (self.geojson, "--geojson", (".geojson", ".json")),
            (self.overlay, "--overlay", (".png",)),
            (self.rois, "--rois", (".zip",)),
            (self.coco, "--coco", (".json",)),
            (self.geoparquet, "--geoparquet", (".parquet",)),
            (self.geopackage, "--geopackage", (".gpkg",)),
            (self.anndata, "--anndata", (".h5ad",)),
            (self.gallery, "--gallery", (".png",)),
            (self.report, "--report", (".html", ".htm")),
        ):
            if path is not None and path.suffix.lower() not in endings:
                raise UsageError(f"{option} {path.name}: need a name that ends with {' or '.join(endings)}")
        if ((self.lonlat or self.pixels) and self.geojson is None) or (self.lonlat and self.pixels):
            raise UsageError("--lonlat and --pixels are of --geojson: give one of them, with it")
        if self.geoparquet is not None:
            import_parquet()
        if self.anndata is not None:
            import_anndata()
        if self.object_type not in OBJECT_TYPES:
            raise UsageError(f"--object-type {self.object_type}: need one of {', '.join(OBJECT_TYPES)}")
        if not 1 <= self.gallery_objects <= MOST_IN_GALLERY:
            raise UsageError(f"--gallery-objects is {self.gallery_objects}: need 1 to {MOST_IN_GALLERY}")
        if not 0 <= self.simplify <= LARGEST:
            raise UsageError(f"--simplify is {self.simplify:g}: need 0 to {LARGEST:g} px")
        if self.simplify and not any((self.geojson, self.rois, self.geoparquet, self.geopackage)):
            raise UsageError("--simplify is about outlines: give --geojson, --rois, --geoparquet or --geopackage")
        twice = [path for path in self.paths if [other.resolve() for other in self.paths].count(path.resolve()) > 1]
        if twice:
            raise UsageError(f"{twice[0]} is given for two outputs: need a name for each")

    def places(self, georeference: Georeference | None) -> Places | None:
        """Return where the corners of the GeoJSON lie on a map; None where it is in px.

        Raises:
            InputError: the mask has no place on earth, or one that GeoJSON cannot tell.
        """
        if self.geojson is None or self.pixels or (georeference is None and not self.lonlat):
            return None
        if georeference is None:
            raise InputError("--lonlat: the mask does not say where on earth it lies; leave it out, or segment the map")
        return Places(georeference, self.lonlat)

    @property
    def paths(self) -> list[Path]:
        given = (
            *(self.labels, self.table, self.geojson, self.overlay),
            *(
                self.confidence,
                self.rois,
                self.coco,
                self.geoparquet,
                self.geopackage,
                self.anndata,
                self.gallery,
                self.report,
            ),
        )
        return [path for path in given if path is not None]

    @property
    def measured(self) -> bool:
        """Whether measurements are needed."""
        return self.tabled or self.gallery is not None or self.report is not None

    @property
    def tabled(self) -> bool:
        """Whether a table of them is asked for."""
        return self.table is not None or self.anndata is not None or self.columns

    @property
    def _outlines(self) -> tuple[Path | None, ...]:
        return self.geojson, self.rois, self.coco, self.geoparquet, self.geopackage

    @property
    def outlined(self) -> bool:
        """Whether outlines are asked for."""
        return any(path is not None for path in self._outlines)


@dataclass(frozen=True)
class Sources:
    """What is read.

    Args:
        mask: classes or probabilities.
        series: the image of the mask's file, if that has several.
        image: of the same size, for intensities and the overlay.
        depth: of the same size, to split by.
        depth_channel: of the depth, from 0; None if it has one.
        pixel_size_um: height and width of a pixel; None for what the mask says, or else the image.
        probabilities: of the classes, of the same size; None for those of the mask, if it holds some.
        stains: of the image, to be unmixed; see `stains.STAINS`.
        instances: the numbers of the mask are objects, to be taken as they are.
        z, t: the plane of a stack: of the mask's, the depth's and the probabilities' file.

    Raises:
        UsageError: stains without an image, or a pixel without a size.
    """

    mask: ImageSource
    series: int | None = None
    image: ImageSource | None = None
    depth: ImageSource | None = None
    depth_channel: int | None = None
    pixel_size_um: PixelSize | None = None
    probabilities: ImageSource | None = None
    stains: str | None = None
    instances: bool = False
    z: int | None = None
    t: int | None = None

    def __post_init__(self) -> None:
        if self.stains is not None and self.image is None:
            raise UsageError("--stains unmixes the colours of an image: give --image with it")
        if self.pixel_size_um is not None and not all(0 < edge < 1e6 for edge in self.pixel_size_um):
            raise UsageError(f"--pixel-size is {self.pixel_size_um[0]:g}: need µm, above 0")

    @property
    def plane(self) -> View:
        """The plane of a stack, of a file that holds it as the mask's does."""
        return View(z=self.z, t=self.t)

    @property
    def view(self) -> View:
        """Which image of the mask's file."""
        return replace(self.plane, series=self.series)

    @property
    def paths(self) -> list[Path]:
        """The files among them."""
        given = (self.mask, self.image, self.depth, self.probabilities)
        return [path for path in given if isinstance(path, Path)]


def check_outputs(products: Products, sources: Sources, identity: Mapping[str, Any], overwrite: bool) -> bool:
    """Refuse names that cannot be written to, before any work; return whether all products are there already.

    What is there is allowed without `overwrite` where it may be what would be written: the same command that was
    stopped finishes what is missing, and given again after the end finds nothing to do. The comparison byte by byte
    comes when all is made.

    Args:
        identity: what the image of ids would say of itself, as far as that is known before the work.

    Raises:
        UsageError: an output that is an input.
        InputError: another file is there, or an OME-Zarr of another version, or the directory cannot be written to.
    """
    protect(sources.paths, products.paths)
    for path in products.paths:
        _check_place(path)
        if path.exists() and not overwrite:
            if path in (products.labels, products.confidence):
                found = read_metadata(path)
                content = "instances" if path == products.labels else "confidence"
                wanted = {**identity, "content": content}
                likely = all(found.get(key) == value for key, value in wanted.items())
                if likely:
                    check_version(path, products.zarr)
            else:
                beginning = _BEGINNINGS.get(path.suffix.lower(), (COCO if path == products.coco else HEAD).encode())
                with path.open("rb") as file:
                    likely = file.read(len(beginning)) == beginning
            if not likely:
                raise InputError(f"{path} exists and is another: choose another name, or give --overwrite")
    return bool(products.paths) and not overwrite and all(path.exists() for path in products.paths)


def _check_place(output: Path) -> None:
    if output.is_dir() and not (output.suffix.lower() == ".zarr" and is_zarr(output)):
        raise InputError(f"{output} is a directory: need a file name; give another")
    if not output.parent.is_dir():
        raise InputError(f"cannot write {output}: there is no directory {output.parent}; create it first")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {output}: no permission to write in {output.parent}; choose another directory")
