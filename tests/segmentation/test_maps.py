"""Maps: what is made of one lies where it does, as rasterio reads it; what holds no data is outside."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import tifffile
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, from_origin
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from tests.narrow import make_checkpoint, make_pixels
from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import write_image
from unettile.images.georeference import Georeference
from unettile.images.normalize import Normalization
from unettile.images.record import read_record
from unettile.images.slide import open_slide, read_image, read_labels
from unettile.images.view import View
from unettile.images.zoomed import zoomed_image
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.planning import plan_image
from unettile.segmentation.segment import segment_image
from unettile.segmentation.stitch import stitch_crops
from unettile.weighting.plan import Weighting, plan_weight_maps
from unettile.weighting.write import write_weight_maps
from unettile.weightmap.border import Border

UTM = "EPSG:32633"
NORTH_UP = from_origin(500_000.25, 5_800_000.5, 0.3, 0.25)
TURNED = NORTH_UP * Affine.rotation(30)


def write_map(path: Path, pixels: NDArray[Any], *, point: bool = False, **profile: Any) -> Path:
    """Write pixels (H, W) or (bands, H, W) as rasterio does."""
    bands = pixels if pixels.ndim == 3 else pixels[None]
    form = {"driver": "GTiff", "width": bands.shape[2], "height": bands.shape[1], "count": len(bands)}
    placed = {"crs": UTM, "transform": NORTH_UP} if "gcps" not in profile else {}
    with rasterio.open(path, "w", **form, dtype=bands.dtype.name, **(placed | profile)) as file:
        file.write(bands)
        if point:
            file.update_tags(AREA_OR_POINT="Point")
    return path


@pytest.mark.parametrize(
    ("ending", "transform", "crs", "point"),
    [
        (".tif", NORTH_UP, UTM, False),
        (".tif", NORTH_UP, "EPSG:4326", True),
        (".tif", TURNED, UTM, True),
        (".tif", TURNED, "+proj=laea +lat_0=52 +lon_0=10 +x_0=43210 +ellps=GRS80 +units=m", False),
        (".ome.tif", NORTH_UP, UTM, False),
        (".ome.tif", TURNED, "EPSG:4326", True),
    ],
)
def test_a_mask_lies_where_its_map_does(
    ending: str, transform: Affine, crs: str, point: bool, predictor: Predictor, tmp_path: Path
) -> None:
    image = write_map(tmp_path / "map.tif", make_pixels(40, 52), crs=crs, transform=transform, point=point, nodata=3)
    mask = tmp_path / f"mask{ending}"
    segment_image(image, mask, predictor, SegmentOptions())
    with rasterio.open(image) as one, rasterio.open(mask) as other:
        assert other.transform.almost_equals(one.transform, 1e-9)
        assert other.crs == one.crs and other.tags().get("AREA_OR_POINT") == one.tags().get("AREA_OR_POINT")
        assert other.nodata == 0
    with open_slide(image) as slide:
        assert read_record(mask).georeference == slide.georeference is not None


@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".png", ".ome.zarr"])
def test_every_format_says_where_it_lies(ending: str, tmp_path: Path) -> None:
    earth = Georeference((0.5, 0.25, 7.0, 0.125, -0.5, 9.0), keys=(1, 1, 0, 1, 3072, 0, 1, 32633), text="a|")
    metadata = {"unettile": "0", "content": "classes"}
    canvas = Canvas((5, 6), (Layer("classes"),), georeference=earth, metadata=metadata)
    write_image(tmp_path / f"mask{ending}", canvas, lambda box: np.zeros(box.shape, np.uint8))
    assert read_record(tmp_path / f"mask{ending}").georeference == earth


def test_probabilities_are_amounts_and_declare_no_number(predictor: Predictor, tmp_path: Path) -> None:
    image = write_map(tmp_path / "map.tif", make_pixels(40, 52), nodata=0)
    segment_image(image, tmp_path / "p.tif", predictor, SegmentOptions(("probabilities",)))
    with rasterio.open(tmp_path / "p.tif") as file:
        assert file.transform == NORTH_UP and file.crs == UTM and file.nodata is None and file.count == 2


def test_ground_control_points_are_kept(predictor: Predictor, tmp_path: Path) -> None:
    points = [GroundControlPoint(row, column, column * 2 + 1.5, 90 - row) for row, column in ((0, 0), (0, 52), (40, 9))]
    image = write_map(tmp_path / "map.tif", make_pixels(40, 52), gcps=points, crs=UTM)
    segment_image(image, tmp_path / "mask.tif", predictor, SegmentOptions())
    with rasterio.open(tmp_path / "mask.tif") as file:
        found, crs = file.gcps
    assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points] and crs == UTM


def test_the_place_follows_level_and_scale(tmp_path: Path) -> None:
    image = tmp_path / "map.tif"
    write_map(image, make_pixels(256, 384), transform=TURNED, tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(image, "r+") as file:
        file.build_overviews([2, 4])
        file.update_tags(TIFFTAG_XRESOLUTION=20000, TIFFTAG_YRESOLUTION=20000, TIFFTAG_RESOLUTIONUNIT=3)
    for level in (1, 2):
        with rasterio.open(image, overview_level=level - 1) as file, open_slide(image, View(level=level)) as slide:
            assert slide.georeference is not None and slide.georeference.affine is not None
            assert np.allclose(slide.georeference.affine, tuple(file.transform)[:6], atol=1e-9)
    with open_slide(image, View(mpp=0.8)) as slide:
        assert slide.shape == (160, 240)
        check_corners(slide.georeference, (160, 240))
    with open_slide(image) as slide, zoomed_image(slide, 0.25) as zoomed:
        check_corners(zoomed.georeference, (64, 96))


def check_corners(place: Georeference | None, shape: tuple[int, int]) -> None:
    """Its four corners lie where those of the map of 256 × 384 px do."""
    assert place is not None
    x, y = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    expected = [TURNED * corner for corner in zip(x * 384, y * 256, strict=True)]
    np.testing.assert_allclose(place.to_map(x * shape[1], y * shape[0]), expected, atol=1e-9)
    np.testing.assert_allclose(place.to_pixels(*np.array(expected).T), np.stack([x * shape[1], y * shape[0]], axis=1))


def test_the_frame_of_the_model_has_its_own_place(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(widths=(2, 3))
    image = write_map(tmp_path / "map.tif", make_pixels(64, 96))
    with rasterio.open(image, "r+") as file:
        file.update_tags(TIFFTAG_XRESOLUTION=20000, TIFFTAG_YRESOLUTION=20000, TIFFTAG_RESOLUTIONUNIT=3)
    predictor = Predictor(replace(checkpoint, pixel_size_um=1.0), "cpu", "fp32")
    for frame, size in (("image", 1), ("model", 2)):
        mask = tmp_path / f"{frame}.tif"
        segment_image(image, mask, predictor, SegmentOptions(frame=frame))
        with rasterio.open(mask) as file:
            assert file.transform.almost_equals(NORTH_UP * Affine.scale(size))
            assert file.shape == (64 // size, 96 // size)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_of_a_turned_map_stay_in_place(orientation: int, tmp_path: Path) -> None:
    stored = make_pixels(30, 50)
    path = tmp_path / "map.tif"
    tags = [(33550, "d", 3, (2.0, 3.0, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, 100.0, 900.0, 0.0), True)]
    tifffile.imwrite(path, stored, extratags=[*tags, (274, "H", 1, orientation, True)], metadata=None)
    with open_slide(path) as slide:
        shown = slide.read(Box.of_shape(slide.shape))[..., 0]
        assert slide.georeference is not None
        y, x = np.array([0, 3, 29]), np.array([0, 11, 2])
        place_x, place_y = slide.georeference.to_map(x + 0.5, y + 0.5).T
        np.testing.assert_array_equal(
            shown[y, x], stored[((900 - place_y) / 3).astype(int), ((place_x - 100) / 2).astype(int)]
        )


def test_weights_and_joined_crops_lie_where_their_labels_do(tmp_path: Path) -> None:
    labels = np.zeros((60, 90), np.uint8)
    labels[10:20, 10:30], labels[24:50, 40:80] = 1, 2
    whole = write_map(tmp_path / "labels.tif", labels, transform=TURNED)
    plan = plan_weight_maps(whole, tmp_path / "weights.tif", Weighting(Border()), False, lambda done, total: None)
    write_weight_maps(plan, overwrite=False, preview=False, on_progress=lambda done, total: None)
    (tmp_path / "crops").mkdir()
    for y, x in ((0, 0), (0, 45), (30, 0), (30, 45)):
        with rasterio.open(whole) as file:
            place = file.window_transform(Window(x, y, 45, 30))
        write_map(tmp_path / "crops" / f"a_y{y}_x{x}.tif", labels[y : y + 30, x : x + 45], transform=place)
    stitch_crops(tmp_path / "crops", tmp_path / "joined.tif")
    for name in ("weights.tif", "joined.tif"):
        with rasterio.open(tmp_path / name) as file:
            assert file.transform.almost_equals(TURNED, 1e-9) and file.crs == UTM, name
    (tmp_path / "crops" / "a_y0_x0.tif").unlink()
    (tmp_path / "crops" / "a_y0_x45.tif").unlink()
    stitch_crops(tmp_path / "crops", tmp_path / "part.tif", region=True)
    with rasterio.open(tmp_path / "part.tif") as file:
        assert file.transform.almost_equals(TURNED * Affine.translation(0, 30), 1e-9)
    write_map(tmp_path / "crops" / "a_y0_x0.tif", labels[:30], transform=NORTH_UP)  # of another map
    stitch_crops(tmp_path / "crops", tmp_path / "joined.tif", overwrite=True)
    with open_slide(tmp_path / "joined.tif") as slide:
        assert slide.georeference is None


# What others call cloud-optimised.


@pytest.mark.parametrize("shape", [(300, 200), (700, 1300), (2100, 520)])
@pytest.mark.parametrize(
    ("layer", "dtype"),
    [
        (Layer("classes", reduction="majority", colours=((0, 0, 0), (255, 0, 0))), "uint8"),
        (Layer("probabilities", 3, "mean"), "uint8"),
        (Layer("instances", reduction="majority"), "uint32"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_tiff_is_cloud_optimised(layer: Layer, dtype: str, shape: tuple[int, int], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (layer.channels, *shape)).astype(dtype)
    path = tmp_path / "a.tif"
    earth = Georeference(tuple(NORTH_UP)[:6], keys=(1, 1, 0, 1, 3072, 0, 1, 32633))
    canvas = Canvas(shape, (layer,), np.dtype(dtype), georeference=earth)
    write_image(path, canvas, lambda box: pixels[(slice(None), *box.slices)])
    assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(), pixels) and file.transform == NORTH_UP
        assert len(file.overviews(1)) == (0 if max(shape) <= 512 else 3 if max(shape) > 2048 else 2)
        for level in range(len(file.overviews(1))):
            with rasterio.open(path, overview_level=level) as lower, open_slide(path, View(level=level + 1)) as slide:
                stored = read_levels(slide, layer)
                assert np.array_equal(lower.read(), stored)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def read_levels(slide: Any, layer: Layer) -> NDArray[Any]:
    if layer.palette:  # shown in colours: the red of class 1
        return (slide.read(Box.of_shape(slide.shape))[None, ..., 0] > 0).astype(np.uint8)
    return np.moveaxis(slide.read(Box.of_shape(slide.shape)), 2, 0)


# What a map may hold.


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("uint16", 0, 65535), ("int16", -400, 9000), ("float32", -11e3, 8e3), ("uint8", 0, 255)]
)
@pytest.mark.parametrize("bands", [1, 4, 5, 8])
def test_bands_are_read_as_rasterio_reads_them(
    bands: int, dtype: str, low: float, high: float, interleave: str, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(bands).uniform(low, high, (bands, 70, 90)).astype(dtype)
    form = {"interleave": interleave, "compress": "deflate", "predictor": 2 if dtype != "float32" else 3}
    path = write_map(tmp_path / "map.tif", pixels, tiled=True, blockxsize=32, blockysize=32, **form)
    assert np.array_equal(read_image(path), np.moveaxis(pixels, 0, 2))
    chosen = View(channels=(bands - 1, 0))
    with open_slide(path, chosen, filled=True) as slide:
        assert np.array_equal(slide.read(Box.of_shape(slide.shape)), np.moveaxis(pixels[[bands - 1, 0]], 0, 2))


@pytest.mark.parametrize("declared", [None, np.nan, -9999.0])
def test_elevations_without_data_are_outside(declared: float | None, predictor: Predictor, tmp_path: Path) -> None:
    """The mask inside is that of the same map whose hole is filled; NaN needs no declaration."""
    heights = make_pixels(90, 120).astype(np.float32) * 3 - 400
    hole = np.zeros(heights.shape, np.bool_)
    hole[20:50, 40:80] = True
    filled = heights.copy()
    filled[hole] = np.percentile(heights[~hole], 50, method="lower")
    empty = np.nan if declared is None else declared
    image = write_map(tmp_path / "map.tif", np.where(hole, np.float32(empty), heights), nodata=declared)
    whole = write_map(tmp_path / "filled.tif", filled)
    segment_image(image, tmp_path / "mask.tif", predictor, SegmentOptions())
    plan = plan_image(image, predictor, SegmentOptions())
    with open_slide(image, filled=True) as slide:
        assert plan.scaling == predictor.checkpoint.normalization.measure(slide)
    inside = heights[~hole]
    assert plan.scaling == predictor.checkpoint.normalization.measure_array(inside.reshape(1, -1, 1))
    assert (read_labels(tmp_path / "mask.tif")[hole] == 0).all()
    alike = fixed(predictor, plan.scaling.low[0], plan.scaling.high[0])
    segment_image(whole, tmp_path / "whole.tif", alike, SegmentOptions())
    segment_image(image, tmp_path / "same.tif", alike, SegmentOptions())
    expected = np.where(hole, 0, read_labels(tmp_path / "whole.tif"))
    assert np.array_equal(read_labels(tmp_path / "same.tif"), expected) and expected.any()
    with rasterio.open(tmp_path / "mask.tif") as file:
        assert file.nodata == 0


def fixed(predictor: Predictor, low: float, high: float) -> Predictor:
    """Return the same model, which scales every image alike."""
    normalization = Normalization(intensities=(low, high))
    return Predictor(replace(predictor.checkpoint, normalization=normalization), "cpu", "fp32")


def test_what_holds_no_data_can_be_kept(predictor: Predictor, tmp_path: Path) -> None:
    pixels = make_pixels(90, 120)
    pixels[20:50, 40:80] = 0
    declared = write_map(tmp_path / "map.tif", pixels, nodata=0)
    plain = write_map(tmp_path / "plain.tif", pixels)
    segment_image(declared, tmp_path / "kept.tif", predictor, SegmentOptions(nodata="keep"))
    segment_image(plain, tmp_path / "plain_mask.tif", predictor, SegmentOptions())
    assert np.array_equal(read_labels(tmp_path / "kept.tif"), read_labels(tmp_path / "plain_mask.tif"))
    with rasterio.open(tmp_path / "kept.tif") as file:
        assert file.nodata is None
    with pytest.raises(InputError, match=r"made otherwise \(scaling, within differ\)"):
        segment_image(declared, tmp_path / "kept.tif", predictor, SegmentOptions())
    with pytest.raises(UsageError, match="--nodata 'drop' is not known: need outside or keep"):
        SegmentOptions(nodata="drop")
    heights = write_map(tmp_path / "nan.tif", np.where(pixels == 0, np.nan, pixels).astype(np.float32))
    with pytest.raises(InputError, match="need finite numbers"):
        segment_image(heights, tmp_path / "nan_mask.tif", predictor, SegmentOptions(nodata="keep"))


# Polygons that say where to work.

AREA = shapely.Polygon([(500_005.1, 5_799_998.2), (500_024.3, 5_799_995.5), (500_015.7, 5_799_979.9)])


@pytest.mark.parametrize("crs", [UTM, "EPSG:3857", "EPSG:4326", None])
@pytest.mark.parametrize("level", [0, 1])
def test_polygons_on_a_map(level: int, crs: str | None, predictor: Predictor, tmp_path: Path) -> None:
    """Written by GeoPandas in any coordinate system; without one, in longitude and latitude."""
    image = write_map(tmp_path / "map.tif", make_pixels(96, 128), tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(image, "r+") as file:
        file.build_overviews([2])
    area = geopandas.GeoSeries([AREA], crs=UTM)
    file_of_polygons = tmp_path / "area.geojson"
    if crs is None:
        file_of_polygons.write_text(area.to_crs("EPSG:4326").to_json(drop_id=True))
        values = json.loads(file_of_polygons.read_text())
        values.pop("crs", None)
        file_of_polygons.write_text(json.dumps(values))
    else:
        area.to_crs(crs).to_file(file_of_polygons, driver="GeoJSON", RFC7946="NO", COORDINATE_PRECISION=12)
    view = View(level=level)
    segment_image(image, tmp_path / "mask.tif", predictor, SegmentOptions(view=view, mask=file_of_polygons))
    segment_image(image, tmp_path / "all.tif", predictor, SegmentOptions(view=view))
    with rasterio.open(tmp_path / "mask.tif") as file:
        y, x = np.mgrid[: file.height, : file.width] + 0.5
        inside = shapely.contains_xy(AREA, *(file.transform * (x, y)))
    found = read_labels(tmp_path / "mask.tif")
    assert np.array_equal(found, np.where(inside, read_labels(tmp_path / "all.tif"), 0)) and found.any()


@pytest.mark.parametrize("scaled", [False, True])
def test_polygons_on_an_image_count_its_pixels(scaled: bool, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(widths=(2, 3))
    predictor = Predictor(replace(checkpoint, pixel_size_um=1.0 if scaled else None), "cpu", "fp32")
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, make_pixels(96, 128), resolution=(20000, 20000), resolutionunit="CENTIMETER")
    corners = [[20.0, 10.0], [100.0, 20.0], [60.0, 80.0], [20.0, 10.0]]
    where = tmp_path / "area.geojson"
    where.write_text(json.dumps({"type": "Polygon", "coordinates": [corners]}))
    options = SegmentOptions(mask=where, frame="model")
    segment_image(image, tmp_path / "mask.tif", predictor, options)
    segment_image(image, tmp_path / "all.tif", predictor, SegmentOptions(frame="model"))
    size = 2 if scaled else 1
    y, x = (np.mgrid[: 96 // size, : 128 // size] + 0.5) * size
    inside = shapely.contains_xy(shapely.Polygon(corners), x, y)
    found = read_labels(tmp_path / "mask.tif")
    assert np.array_equal(found, np.where(inside, read_labels(tmp_path / "all.tif"), 0)) and found.any()
    plan = plan_image(image, predictor, options)
    where.write_text(json.dumps({"type": "Polygon", "coordinates": [[*corners[:2], [60.0, 79.0]]]}))
    assert "--mask" in " ".join(plan_image(image, predictor, options).differences(plan))


def test_projection_is_an_extra(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = write_map(tmp_path / "map.tif", make_pixels(96, 128))
    where = tmp_path / "area.geojson"
    geopandas.GeoSeries([AREA], crs=UTM).to_crs("EPSG:4326").to_file(where, driver="GeoJSON")
    monkeypatch.setitem(__import__("sys").modules, "pyproj", None)
    with pytest.raises(InputError, match=r"need pyproj, which is not installed: pip install 'unettile\[maps\]'"):
        plan_image(image, predictor, SegmentOptions(mask=where))
