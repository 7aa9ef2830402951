"""Products: what is written of objects, and what is read for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from unettile.errors import InputError, UsageError
from unettile.images.canvas import ZARR_VERSIONS
from unettile.images.formats import format_of
from unettile.images.georeference import Georeference
from unettile.images.pixelsize import PixelSize
from unettile.images.planes import PlaneRange
from unettile.images.slide import ImageSource
from unettile.images.view import View
from unettile.objects.anchors import LARGEST
from unettile.objects.geojson import OBJECT_TYPES
from unettile.objects.h5ad import import_anndata
from unettile.objects.places import Places
from unettile.objects.table import check_table, import_parquet

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

    def check_stack(self) -> None:
        """Refuse what is drawn of one plane.

        Raises:
            UsageError: a picture or a page is asked for.
        """
        for path, option in ((self.overlay, "--overlay"), (self.gallery, "--gallery"), (self.report, "--report")):
            if path is not None:
                raise UsageError(f"{option} is of one plane: leave it out, or give --z N and --time N, without ranges")

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
        depths, times: planes of a stack, instead of `z` or `t`.
        stacked: it is one of several planes that are asked for: an image that is an array is a stack, too.

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
    depths: PlaneRange | None = None
    times: PlaneRange | None = None
    stacked: bool = False

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
