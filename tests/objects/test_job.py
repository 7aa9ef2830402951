"""Everything that is written, read back by other programs' readers, and the same bytes for any blocks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet
import pytest
import shapely
import shapely.geometry
import skimage.io
import tifffile
import zarr
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops

from tests.objects.shapes import reference
from unettile.errors import InputError, UsageError
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import write_image
from unettile.images.slide import open_slide
from unettile.images.view import View
from unettile.objects.found import Found
from unettile.objects.job import find_objects
from unettile.objects.products import Products, Sources
from unettile.objects.rules import Foreground, Labelling, Splitting
from unettile.objects.scan import OnProgress

SPLITTING = Labelling(Splitting(smallest=8), min_size=8, growth=1)


@contextmanager
def silent(name: str) -> Iterator[OnProgress]:
    yield lambda done, total: None


def field(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float64]:
    """Smooth noise with mean 0.5: blobs above it."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 3)
    return 0.5 + (noise - noise.mean()) / noise.std() / 6


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """A mask of two classes with a pixel size, 150 × 170 px."""
    values = field((150, 170))
    path = tmp_path / "mask.tif"
    classes = np.where(values > 0.55, 1, np.where(values < 0.35, 2, 0)).astype(np.uint8)
    tifffile.imwrite(path, classes, resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.tif"
    pixels = np.random.default_rng(3).integers(0, 4096, (150, 170, 2)).astype(np.uint16)
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    return path


def make(
    folder: Path, sources: Sources, labelling: Labelling, edge: int, foreground: Foreground | None = None
) -> tuple[Found, dict[str, Path]]:
    folder.mkdir()
    paths = {name: folder / f"out.{name}" for name in ("tif", "csv", "parquet", "geojson", "png")}
    rules = foreground or Foreground()
    products = Products(paths["tif"], paths["csv"], paths["geojson"], paths["png"])
    found = find_objects(sources, rules, labelling, products, overwrite=False, stage=silent, block_edge=edge)
    more = Products(table=paths["parquet"])
    assert find_objects(sources, rules, labelling, more, overwrite=False, stage=silent, block_edge=edge) == found
    return found, paths


@pytest.mark.parametrize("labelling", [Labelling(), SPLITTING], ids=["connected", "split"])
def test_blocks_change_no_byte(tmp_path: Path, mask: Path, image: Path, labelling: Labelling) -> None:
    sources, holes = Sources(mask, image=image), Foreground(holes=20)
    _, whole = make(tmp_path / "whole", sources, labelling, 4096, holes)
    for edge in (32, 57):
        _, parts = make(tmp_path / str(edge), sources, labelling, edge, holes)
        for name, path in parts.items():
            assert path.read_bytes() == whole[name].read_bytes(), name


def test_all_products_tell_the_same(tmp_path: Path, mask: Path, image: Path) -> None:
    found, paths = make(tmp_path / "out", Sources(mask, image=image), Labelling(), 64)
    expected = reference(tifffile.imread(mask))
    labels = skimage.io.imread(paths["tif"])
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, expected)
    assert found.count == expected.max() and sum(found.by_class.values()) == found.count

    rows = pandas.read_csv(paths["csv"])
    exact = pyarrow.parquet.read_table(paths["parquet"]).to_pandas()
    assert list(rows.columns) == list(exact.columns)
    props = regionprops(labels, tifffile.imread(image))
    assert rows["id"].tolist() == exact["id"].tolist() == [prop.label for prop in props]
    assert rows["area_px"].tolist() == exact["area_px"].tolist() == [prop.area for prop in props]
    np.testing.assert_allclose(exact["centroid_x_um"], [prop.centroid[1] * 0.5 for prop in props])
    np.testing.assert_allclose(rows["perimeter_um"], exact["perimeter_px"] * 0.5, atol=1e-4)
    np.testing.assert_allclose(exact["mean_intensity_1"], [prop.intensity_mean[1] for prop in props])
    classes = tifffile.imread(mask)
    assert rows["class"].tolist() == [classes[tuple(prop.coords[0])] for prop in props]

    features = json.loads(paths["geojson"].read_text("utf-8"))["features"]
    assert [feature["properties"]["measurements"]["id"] for feature in features] == rows["id"].tolist()
    for feature, prop in zip(features, props, strict=True):
        polygon = shapely.geometry.shape(feature["geometry"])
        assert polygon.is_valid and polygon.area == prop.area
        assert polygon.bounds == (prop.bbox[1], prop.bbox[0], prop.bbox[3], prop.bbox[2])
        assert feature["properties"]["objectType"] == "detection"
        assert feature["properties"]["classification"]["name"] in ("class 1", "class 2")
    assert len(shapely.from_geojson(paths["geojson"].read_text("utf-8")).geoms) == found.count

    picture = skimage.io.imread(paths["png"])
    assert picture.shape == (150, 170, 3)
    assert len(np.unique(picture[labels == 0])) > 100  # the image shows through


def test_a_mask_without_objects(tmp_path: Path) -> None:
    path = tmp_path / "empty.tif"
    tifffile.imwrite(path, np.zeros((40, 50), np.uint8))
    found, paths = make(tmp_path / "out", Sources(path), SPLITTING, 16)
    assert found.count == 0
    assert not tifffile.imread(paths["tif"]).any()
    assert len(pandas.read_csv(paths["csv"])) == pyarrow.parquet.read_table(paths["parquet"]).num_rows == 0
    assert json.loads(paths["geojson"].read_text("utf-8"))["features"] == []


def test_holes_are_filled_up_to_a_size(tmp_path: Path) -> None:
    classes = np.zeros((40, 60), np.uint8)
    classes[2:30, 2:50] = 2
    classes[5:8, 5:9] = 0  # 12 px
    classes[10, 10] = classes[11, 11] = 0  # 2 px, over a corner
    classes[20:25, 30:33] = 0  # 15 px
    classes[30:, 55:] = 1
    classes[33, 59] = 0  # at the image's edge: no hole
    path = tmp_path / "holes.tif"
    tifffile.imwrite(path, classes)
    for edge in (8, 13, 64):
        _, paths = make(tmp_path / str(edge), Sources(path), Labelling(), edge, Foreground(holes=12))
        labels = tifffile.imread(paths["tif"])
        assert np.all(labels[5:12, 5:12] == 1)
        assert np.all(labels[20:25, 30:33] == 0) and labels[33, 59] == 0


def test_probabilities_take_a_threshold(tmp_path: Path) -> None:
    path = tmp_path / "p.tif"
    planes = np.zeros((3, 20, 30), np.uint8)
    planes[1, 2:8, 2:8], planes[2, 2:8, 2:8] = 100, 60  # 160 of 255 together, class 1 the likelier
    planes[2, 12:18, 2:8] = 130
    tifffile.imwrite(path, planes, photometric="minisblack", planarconfig="separate")
    both = make(tmp_path / "a", Sources(path), Labelling(), 64, Foreground(0.5))[0]
    assert both.by_class == {"class 1": 1, "class 2": 1}
    assert make(tmp_path / "b", Sources(path), Labelling(), 64, Foreground(0.6))[0].by_class == {"class 1": 1}
    assert make(tmp_path / "c", Sources(path), Labelling(), 64, Foreground(0.5, (2,)))[0].by_class == {"class 2": 1}


def test_an_object_wider_than_distances_reach_is_named(tmp_path: Path) -> None:
    classes = np.zeros((60, 120), np.uint8)
    classes[5:9, 5:9] = 1
    classes[10:50, 20:60] = 1
    path = tmp_path / "wide.tif"
    tifffile.imwrite(path, classes)
    found = make(tmp_path / "a", Sources(path), Labelling(Splitting(reach=10)), 16)[0]
    assert (found.count, found.capped, found.first_capped) == (2, 1, (2, 10, 20))
    assert make(tmp_path / "b", Sources(path), Labelling(Splitting(reach=30)), 16)[0].capped == 0


def test_touching_discs_are_parted_and_counted(tmp_path: Path) -> None:
    y, x = np.indices((90, 400))
    classes = np.zeros(y.shape, np.uint8)
    for k in range(10):  # a chain that crosses many blocks, each disc 18 px from the next
        classes[(y - 45) ** 2 + (x - 100 - 18 * k) ** 2 <= 100] = 1
    path = tmp_path / "chain.tif"
    tifffile.imwrite(path, classes)
    assert make(tmp_path / "a", Sources(path), Labelling(), 33)[0].count == 1
    found, paths = make(tmp_path / "b", Sources(path), Labelling(Splitting()), 33)
    assert found.count == 10
    labels = tifffile.imread(paths["tif"])
    assert [labels[45, 100 + 18 * k] for k in range(10)] == sorted(labels[45, 100 + 18 * k] for k in range(10))
    np.testing.assert_array_equal(labels > 0, classes > 0)


def test_a_depth_map_decides_where_to_part(tmp_path: Path) -> None:
    classes = np.zeros((30, 60), np.uint8)
    classes[5:25, 5:55] = 1
    depth = np.full((30, 60, 2), 200, np.uint8)
    depth[:, 20, 1] = 10
    mask, maps = tmp_path / "bar.tif", tmp_path / "depth.tif"
    tifffile.imwrite(mask, classes)
    tifffile.imwrite(maps, depth, photometric="minisblack", planarconfig="contig")
    labelling = Labelling(Splitting())
    assert make(tmp_path / "a", Sources(mask), labelling, 16)[0].count == 1
    assert make(tmp_path / "b", Sources(mask, depth=maps, depth_channel=0), labelling, 16)[0].count == 1
    found, paths = make(tmp_path / "c", Sources(mask, depth=maps, depth_channel=1), labelling, 16)
    assert found.count == 2
    labels = tifffile.imread(paths["tif"])
    assert labels[10, 10] == 1 and labels[10, 40] == 2


def test_a_large_overlay_is_reduced(tmp_path: Path) -> None:
    classes = np.zeros((100, 5000), np.uint8)
    classes[:, 2000:3000] = 1
    path = tmp_path / "long.tif"
    tifffile.imwrite(path, classes)
    _, paths = make(tmp_path / "out", Sources(path), Labelling(), 512)
    picture = skimage.io.imread(paths["png"])
    assert picture.shape == (34, 1667, 3)
    assert picture[:, 700:990].any(axis=2).all() and not picture[:, :660].any()


def test_polygons_are_of_the_largest_resolution(tmp_path: Path) -> None:
    image, mask = tmp_path / "image.tif", tmp_path / "mask.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (80, 120)).astype(np.uint8)
    tifffile.imwrite(image, pixels, resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    with open_slide(image, View(mpp=1.0)) as slide:
        shape, downsample, view = slide.shape, slide.downsample, slide.view
    assert shape == (40, 60)
    classes = np.zeros(shape, np.uint8)
    classes[10:20, 30:50] = 1
    described = {
        "unettile": "0.1.0",
        "view": view.to_dict(),
        "downsample": list(downsample),
        "classes": ["background", "bar"],
    }
    tifffile.imwrite(mask, classes, description=json.dumps(described), metadata=None)
    _, paths = make(tmp_path / "out", Sources(mask, image=image), Labelling(), 64)
    feature = json.loads(paths["geojson"].read_text("utf-8"))["features"][0]
    assert feature["properties"]["classification"]["name"] == "bar"
    assert shapely.geometry.shape(feature["geometry"]).bounds == (60, 20, 100, 40)
    assert pandas.read_csv(paths["csv"])["area_um2"].tolist() == [200.0]


def test_ids_of_another_program_are_objects_without_classes(tmp_path: Path) -> None:
    ids = np.kron(np.arange(1, 401, dtype=np.uint32).reshape(20, 20), np.ones((4, 4), np.uint32)) * 1000
    path = tmp_path / "ids.tif"
    tifffile.imwrite(path, ids)
    found, paths = make(tmp_path / "out", Sources(path), Labelling(), 30)
    assert (found.count, found.classes, found.by_class) == (400, 400, {})
    assert pandas.read_csv(paths["csv"])["class"].tolist() == list(range(1000, 400001, 1000))
    features = json.loads(paths["geojson"].read_text("utf-8"))["features"]
    assert not any("classification" in feature["properties"] for feature in features)


def test_one_image_of_a_file_with_several_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "both.ome.tif"
    layers = (Layer("classes", reduction="majority"), Layer("probabilities", 2, "mean"))
    planes = np.zeros((3, 30, 40), np.uint8)
    planes[0, 5:9, 5:9] = 1
    planes[2, 15:25, 15:25] = 255
    write_image(path, Canvas((30, 40), layers), lambda box: planes[:, box.y0 : box.y1, box.x0 : box.x1])
    for series, foreground, corner in ((0, Foreground(), (5, 5)), (1, Foreground(0.5), (15, 15))):
        found, paths = make(tmp_path / str(series), Sources(path, series), Labelling(), 16, foreground)
        assert found.count == 1 and tifffile.imread(paths["tif"])[corner] == 1


def test_an_omezarr_mask_gives_an_omezarr_label_image(tmp_path: Path) -> None:
    path, out = tmp_path / "mask.ome.zarr", tmp_path / "ids.ome.zarr"
    classes = np.zeros((700, 600), np.uint8)
    classes[100:200, 500:600] = 1
    classes[600:, :50] = 2
    layer = Layer("classes", reduction="majority", names=("none", "a", "b"), colours=((0, 0, 0), (9, 8, 7), (6, 5, 4)))
    metadata = {"unettile": "0.1.0", "classes": ["none", "a", "b"]}
    write_image(path, Canvas((700, 600), (layer,), metadata=metadata), lambda box: classes[box.slices])
    polygons = tmp_path / "o.geojson"
    found = find_objects(
        Sources(path), Foreground(), Labelling(), Products(out, geojson=polygons), overwrite=False, stage=silent
    )
    assert found.by_class == {"a": 1, "b": 1}
    written = json.loads(polygons.read_text("utf-8"))["features"][1]["properties"]["classification"]
    assert written == {"name": "b", "color": [6, 5, 4]}
    group = zarr.open_group(out, mode="r")
    assert "image-label" in group.attrs["ome"]
    labels = np.asarray(group["0"])
    np.testing.assert_array_equal(labels, reference(classes))
    assert np.asarray(group["1"]).shape == (350, 300)
    with pytest.raises(InputError, match="--overwrite"):
        find_objects(
            Sources(path), Foreground(), Labelling(min_size=6000), Products(out), overwrite=False, stage=silent
        )
    assert find_objects(
        Sources(path), Foreground(), Labelling(), Products(out), overwrite=False, stage=silent
    ).was_there
    again = Labelling(min_size=6000)
    find_objects(Sources(path), Foreground(), again, Products(out), overwrite=True, stage=silent)
    assert np.asarray(zarr.open_group(out, mode="r")["0"]).max() == 1


@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".png"])
def test_ids_are_written_in_every_format(tmp_path: Path, mask: Path, ending: str) -> None:
    out = tmp_path / f"ids{ending}"
    found = find_objects(Sources(mask), Foreground(), Labelling(), Products(out), overwrite=False, stage=silent)
    labels = skimage.io.imread(out)
    assert labels.dtype == np.uint16 and labels.max() == found.count
    np.testing.assert_array_equal(labels, reference(tifffile.imread(mask)))


def test_more_than_65535_objects_take_32_bits(tmp_path: Path) -> None:
    classes = np.zeros((600, 520), np.uint8)
    classes[::2, ::2] = 1
    path, out = tmp_path / "dots.tif", tmp_path / "ids.tif"
    tifffile.imwrite(path, classes)
    options = {"overwrite": False, "stage": silent}
    assert find_objects(Sources(path), Foreground(), Labelling(), Products(out), **options).count == 78000
    labels = tifffile.imread(out)
    assert labels.dtype == np.uint32
    assert labels[::2, ::2].ravel().tolist() == list(range(1, 78001))
    with pytest.raises(UsageError, match=r"PNG"):
        find_objects(Sources(path), Foreground(), Labelling(), Products(tmp_path / "ids.png"), **options)
    assert not (tmp_path / "ids.png").exists()


def test_a_border_is_no_object(tmp_path: Path) -> None:
    """Of a mask whose third class is named border, the pixels between objects go to them if gaps are closed."""
    classes = np.zeros((12, 20), np.uint8)
    classes[2:10, 2:16] = 1
    classes[2:10, 8:10] = 2
    mask = tmp_path / "mask.tif"
    layer = Layer("classes", names=("background", "cell", "border"))
    canvas = Canvas((12, 20), (layer,), metadata={"unettile": "0.1.0", "classes": list(layer.names)})
    write_image(mask, canvas, lambda box: np.ascontiguousarray(classes[box.slices]))

    def objects(labelling: Labelling, foreground: Foreground | None = None) -> NDArray[np.integer]:
        out = Products(tmp_path / "ids.tif")
        find_objects(Sources(mask), foreground or Foreground(), labelling, out, overwrite=True, stage=silent)
        ids: NDArray[np.integer] = tifffile.imread(tmp_path / "ids.tif")
        return ids

    np.testing.assert_array_equal(objects(Labelling()), reference(classes == 1))
    closed = objects(Labelling(gaps=2))
    assert (closed[2:10, 2:9] == 1).all() and (closed[2:10, 9:16] == 2).all()
    np.testing.assert_array_equal(objects(Labelling(), Foreground(classes=(1, 2))), reference(classes))
