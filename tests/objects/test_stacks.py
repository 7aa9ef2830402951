"""Stacks: each plane's objects are those of the plane alone, in one file of each kind that other programs open."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import geopandas
import numpy as np
import pandas
import pyarrow.parquet
import pytest
import roifile
import shapely.geometry
import tifffile
from numpy.typing import NDArray
from pycocotools.coco import COCO

import unettile
from tests.objects.test_job import SPLITTING, field, silent
from unettile.errors import InputError, UsageError
from unettile.images.arrays import ArrayImage
from unettile.images.canvas import Canvas, Layer, Reader
from unettile.images.formats import write_image
from unettile.images.planes import PlaneRange, stack_lengths, stack_spacing
from unettile.images.record import read_metadata
from unettile.images.slide import read_labels
from unettile.images.spacing import Spacing
from unettile.images.view import FIRST, View
from unettile.objects.found import Found
from unettile.objects.job import find_objects
from unettile.objects.measures import Measures
from unettile.objects.products import Products, Sources
from unettile.objects.rules import Foreground, Labelling, Splitting

TIMES, DEPTHS, SHAPE = 2, 3, (60, 80)
FILES = {"table": "t.csv", "geojson": "g.geojson", "rois": "r.zip", "coco": "c.json", "geoparquet": "g.parquet",
         "geopackage": "g.gpkg", "anndata": "a.h5ad"}  # fmt: skip


def classes() -> NDArray[np.uint8]:
    """Return planes (T, Z, Y, X) of blobs of two classes; one of them is empty, one has a hole in a blob."""
    values = np.stack([field(SHAPE, seed) for seed in range(TIMES * DEPTHS)])
    found = np.where(values > 0.55, 1, np.where(values < 0.35, 2, 0)).astype(np.uint8)
    found[1] = 0
    found[2, 20:40, 20:40], found[2, 28:32, 28:30] = 1, 0
    return found.reshape(TIMES, DEPTHS, *SHAPE)


def write(path: Path, planes: NDArray[Any], axes: str = "TZYX", **steps: str | float) -> Path:
    tifffile.imwrite(path, planes, imagej=True, metadata={"axes": axes, **steps})
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    return write(tmp_path / "mask.tif", classes())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write(
        tmp_path / "image.tif", np.random.default_rng(0).integers(0, 4000, (TIMES, DEPTHS, *SHAPE)).astype(np.uint16)
    )


def everything(sources: Sources) -> Sources:
    return replace(sources, times=PlaneRange(), depths=PlaneRange())


def find(
    sources: Sources,
    folder: Path,
    labelling: Labelling | None = None,
    edge: int = 33,
    foreground: Foreground | None = None,
    measure: str = "basic",
    **names: str,
) -> Found:
    folder.mkdir(exist_ok=True)
    products = Products(**{kind: folder / name for kind, name in names.items()})
    return find_objects(
        sources,
        foreground or Foreground(),
        labelling or Labelling(),
        products,
        overwrite=False,
        stage=silent,
        block_edge=edge,
        measures=Measures.of(measure, (50.0,)),
    )


def members(sources: Sources) -> list[tuple[int, int, Sources]]:
    return [(t, z, replace(sources, t=t, z=z)) for t in range(TIMES) for z in range(DEPTHS)]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools itself
def test_each_plane_is_what_it_is_alone(mask: Path, image: Path, tmp_path: Path) -> None:
    sources, folder = Sources(mask, image=image), tmp_path / "all"
    files = {kind: name for kind, name in FILES.items() if kind != "anndata"}
    found = find(everything(sources), folder, SPLITTING, labels="ids.tif", measure="all", **files)
    ids = tifffile.imread(folder / "ids.tif")
    lines = (folder / "t.csv").read_text().splitlines()
    features = (folder / "g.geojson").read_text().splitlines()[1:-1]
    rois, coco = iter(roifile.roiread(folder / "r.zip")), COCO(folder / "c.json")
    polygons = geopandas.read_parquet(folder / "g.parquet")
    assert [image["file_name"] for image in coco.dataset["images"]][:2] == [
        "image_t0000_z0000.tif",
        "image_t0000_z0001.tif",
    ]
    with closing(sqlite3.connect(folder / "g.gpkg")) as base:
        packaged = base.execute("SELECT time, z, id, class_name, geom FROM objects ORDER BY row").fetchall()
    assert lines.pop(0).startswith("time,z,id,class,")
    done = 0
    for number, (t, z, one) in enumerate(members(sources), start=1):
        alone = tmp_path / f"{t}{z}"
        expected = find(one, alone, SPLITTING, 4096, labels="ids.tif", measure="all", **files)
        count, place = expected.count, {"time": t, "z": z}
        assert found.in_planes[number - 1] == (place, count)
        own = read_labels(alone / "ids.tif")
        np.testing.assert_array_equal(ids[t, z], own)
        rows = (alone / "t.csv").read_text().splitlines()[1:]
        assert lines[done : done + count] == [f"{t},{z},{row}" for row in rows]
        texts = (alone / "g.geojson").read_text().splitlines()[1:-1]
        said = f',"plane":{{"c":-1,"z":{z},"t":{t}}}}},"properties"'
        assert all(text.count(said) == 1 for text in features[done : done + count])
        assert [text.replace(said, '},"properties"').strip(",") for text in features[done : done + count]] == [
            text.strip(",") for text in texts
        ]
        for region, single in zip((next(rois) for _ in range(count)), _regions(alone / "r.zip"), strict=True):
            assert (region.t_position, region.z_position, region.c_position) == (t + 1, z + 1, 0)
            for ring, other in zip(region.coordinates(multi=True), single.coordinates(multi=True), strict=True):
                np.testing.assert_array_equal(ring, other)
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        assert [entry["object_id"] for entry in annotations] == list(range(1, count + 1))
        drawn = sum(
            (coco.annToMask(entry).astype(int) * entry["object_id"] for entry in annotations), np.zeros_like(own)
        )
        np.testing.assert_array_equal(drawn, own)
        part = polygons[(polygons["time"] == t) & (polygons["z"] == z)]
        assert part.geometry.area.tolist() == [np.count_nonzero(own == k) for k in part["id"]] and len(part) == count
        with closing(sqlite3.connect(alone / "g.gpkg")) as base:
            rest = base.execute("SELECT id, class_name, geom FROM objects ORDER BY id").fetchall()
        assert packaged[done : done + count] == [(t, z, *row) for row in rest]
        done += count
    assert done == found.count == len(lines) == len(features) == len(packaged) > 20
    assert found.in_planes[1][1] == 0 and {entry["name"] for entry in coco.dataset["categories"]} == set(found.by_class)
    for feature in json.loads((folder / "g.geojson").read_text())["features"]:
        assert shapely.geometry.shape(feature["geometry"]).is_valid


def _regions(path: Path) -> list[roifile.ImagejRoi]:
    found = roifile.roiread(path)
    return found if isinstance(found, list) else [found]


def test_anndata_holds_the_rows_of_all_planes(mask: Path, tmp_path: Path) -> None:
    find(everything(Sources(mask)), tmp_path, table="t.parquet", anndata="a.h5ad")
    cells, rows = anndata.read_h5ad(tmp_path / "a.h5ad"), pandas.read_parquet(tmp_path / "t.parquet")
    for name in ("time", "z", "id", "class_name"):
        assert cells.obs[name].tolist() == rows[name].tolist()
    assert cells.obs_names.tolist() == [f"t{t:04d}_z{z:04d}_{k}" for t, z, k in rows[["time", "z", "id"]].to_numpy()]
    np.testing.assert_array_equal(cells.X, rows[cells.var_names.tolist()])
    assert not {"time", "z"} & set(cells.var_names)


def test_blocks_change_no_byte(mask: Path, image: Path, tmp_path: Path) -> None:
    for edge in (31, 4096):
        find(everything(Sources(mask, image=image)), tmp_path / str(edge), SPLITTING, edge, labels="i.tif", **FILES)
    for path in (tmp_path / "31").iterdir():
        assert path.read_bytes() == (tmp_path / "4096" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".ome.zarr"])
def test_ids_have_the_axes_of_the_mask_and_know_their_classes(ending: str, mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    find(everything(Sources(mask)), out, labels=f"ids{ending}", table="a.csv")
    ids = out / f"ids{ending}"
    assert stack_lengths(ids, FIRST) == (TIMES, DEPTHS)
    metadata = read_metadata(ids)
    assert metadata["planes"] == {"t": [0, 1], "z": [0, 1, 2]} and len(metadata["objects"]) == TIMES * DEPTHS
    find(everything(Sources(ids)), out, labels=f"again{ending}", table="b.csv")
    first, second = (pandas.read_csv(out / name) for name in ("a.csv", "b.csv"))
    assert second.pop("mask_id").tolist() == second["id"].tolist()
    pandas.testing.assert_frame_equal(first, second)
    one = find(replace(Sources(ids), t=1, z=2), out, table="c.csv")
    assert one.by_class and pandas.read_csv(out / "c.csv")["class"].tolist() == first["class"].tolist()[-one.count :]


@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".ome.zarr"])
def test_ids_say_the_steps_of_the_mask_and_what_it_leaves_unsaid_of_the_image(ending: str, tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.tif", classes(), unit="um", spacing=0.3)
    image = write(tmp_path / "image.tif", 50 * classes(), unit="um", spacing=9.0, finterval=2.5)
    names = {"labels": f"ids{ending}", "table": "t.csv"}
    find(everything(Sources(mask, image=image)), tmp_path / "both", **names)
    assert stack_spacing(tmp_path / "both" / f"ids{ending}", View(t=0, z=0)) == Spacing(0.3, 2.5)
    find(everything(Sources(mask)), tmp_path / "alone", **names)
    assert stack_spacing(tmp_path / "alone" / f"ids{ending}", View(t=0, z=0)) == Spacing(0.3)


def test_some_planes_of_a_stack_of_one_axis(tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.tif", classes()[:, 2], "TYX")
    find(replace(Sources(mask), times=PlaneRange(1, 2)), tmp_path, table="t.parquet", rois="r.zip", labels="ids.tif")
    rows = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pandas()
    assert list(rows.columns)[:2] == ["time", "id"] and set(rows["time"]) == {1}
    [region, *_] = roifile.roiread(tmp_path / "r.zip")
    assert (region.t_position, region.z_position, region.name) == (2, 0, "")
    assert read_labels(tmp_path / "ids.tif").max() == len(rows)


def test_planes_are_counted_as_in_the_image_that_the_mask_is_of(image: Path, tmp_path: Path) -> None:
    """A mask of the planes 1 and 2 of the second time."""
    mask = tmp_path / "mask.ome.tif"
    metadata = {"unettile": "0", "planes": {"t": [1], "z": [1, 2]}, "write": ["classes"], "classes": ["no", "cell"]}
    canvas = Canvas(SHAPE, (Layer("classes", reduction="majority"),), metadata=metadata, stack=(1, 2))

    def reader(plane: NDArray[np.uint8]) -> Reader:
        return lambda box: plane[box.slices]

    planes = np.minimum(classes()[1, 1:], 1)
    write_image(mask, canvas, [reader(plane) for plane in planes])
    sources = replace(Sources(mask, image=image), depths=PlaneRange())
    find(sources, tmp_path, table="t.csv", geojson="g.geojson", rois="r.zip", labels="ids.tif")
    rows = pandas.read_csv(tmp_path / "t.csv")
    assert list(rows.columns)[:2] == ["z", "id"] and set(rows["z"]) == {1, 2}
    pixels, ids = tifffile.imread(image), tifffile.imread(tmp_path / "ids.tif")
    for z in (1, 2):
        seen = [pixels[1, z][ids[z - 1] == k].mean() for k in rows["id"][rows["z"] == z]]
        np.testing.assert_allclose(rows["mean_intensity_0"][rows["z"] == z], seen, rtol=1e-5)
    planes_said = {
        json.dumps(feature["geometry"]["plane"])
        for feature in json.loads((tmp_path / "g.geojson").read_text())["features"]
    }
    assert planes_said == {'{"c": -1, "z": 1, "t": 1}', '{"c": -1, "z": 2, "t": 1}'}
    assert {(one.t_position, one.z_position) for one in roifile.roiread(tmp_path / "r.zip")} == {(2, 2), (2, 3)}
    assert read_metadata(tmp_path / "ids.tif")["planes"] == {"t": [1], "z": [1, 2]}


def test_probabilities_and_depths_are_those_of_the_plane(tmp_path: Path) -> None:
    values = np.stack([field(SHAPE, seed) for seed in (0, 5)])
    mask = write(tmp_path / "mask.tif", np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8), "ZYX")
    depth = write(tmp_path / "depth.tif", np.rint(255 * np.clip(values[::-1], 0, 1)).astype(np.uint8), "ZYX")
    sources, above = Sources(mask, depth=depth), Foreground(threshold=0.55)
    names = {"labels": "ids.tif", "table": "t.csv", "confidence": "c.tif"}
    labelling = Labelling(Splitting(), min_confidence=0.56)
    find(replace(sources, depths=PlaneRange()), tmp_path / "all", labelling, foreground=above, **names)
    rows = (tmp_path / "all" / "t.csv").read_text().splitlines()[1:]
    expected = []
    for z in range(2):
        find(replace(sources, z=z), tmp_path / str(z), labelling, foreground=above, **names)
        for name in ("ids.tif", "c.tif"):
            alone = read_labels(tmp_path / str(z) / name)
            np.testing.assert_array_equal(tifffile.imread(tmp_path / "all" / name)[z], alone)
            assert alone.max() > 1
        expected += [f"{z},{row}" for row in (tmp_path / str(z) / "t.csv").read_text().splitlines()[1:]]
    assert rows == expected
    probable = Sources(write(tmp_path / "m.tif", (values > 0.55).astype(np.uint8), "ZYX"), probabilities=mask)
    find(replace(probable, depths=PlaneRange()), tmp_path / "all", table="p.csv")
    assert "confidence" in pandas.read_csv(tmp_path / "all" / "p.csv")


def test_a_file_of_one_plane_is_what_it_is_without_ranges(tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.tif", classes()[0, 0], "YX")
    names = {**FILES, "labels": "ids.tif", "overlay": "o.png"}
    find(Sources(mask), tmp_path / "a", **names)
    assert find(everything(Sources(mask)), tmp_path / "b", **names).in_planes == ()
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_arrays_are_stacks_too(mask: Path, image: Path, tmp_path: Path) -> None:
    find(everything(Sources(mask, image=image)), tmp_path / "file", labels="ids.tif", table="t.csv")
    array = Sources(ArrayImage(classes(), "tzyx"), image=ArrayImage(tifffile.imread(image), "tzyx"))
    find(everything(array), tmp_path / "array", labels="ids.tif", table="t.csv")
    assert (tmp_path / "array" / "t.csv").read_bytes() == (tmp_path / "file" / "t.csv").read_bytes()
    np.testing.assert_array_equal(*(tifffile.imread(tmp_path / name / "ids.tif") for name in ("array", "file")))
    assert len(read_metadata(tmp_path / "array" / "ids.tif")["by_plane"]["mask"]) == TIMES * DEPTHS


def test_the_face_gives_one_table(mask: Path, image: Path, tmp_path: Path) -> None:
    rows = unettile.objects(mask, z="all", time="0:2", image=image)
    find(everything(Sources(mask, image=image)), tmp_path, table="t.csv")
    expected = pandas.read_csv(tmp_path / "t.csv")
    assert list(rows) == list(expected.columns) and len(rows["id"]) == len(expected)
    for name in ("time", "z", "id"):
        assert list(rows[name]) == expected[name].tolist()
    given = unettile.objects(mask, z="1:3", time=1, instances=True)
    assert set(given["z"]) == {1, 2} and set(given["id"]) == {1, 2}  # the numbers of the mask


def test_the_same_again_is_there(mask: Path, tmp_path: Path) -> None:
    names = {"table": "t.csv", "geojson": "g.geojson", "coco": "c.json", "labels": "ids.tif"}
    assert not find(everything(Sources(mask)), tmp_path, **names).was_there
    assert find(everything(Sources(mask)), tmp_path, **names).was_there
    (tmp_path / "t.csv").unlink()
    assert not find(everything(Sources(mask)), tmp_path, **names).was_there and (tmp_path / "t.csv").exists()
    for table, other in (("t.csv", "ids.tif"), ("x.csv", "t.csv")):
        (tmp_path / other).write_text("id,area\n")
        with pytest.raises(InputError, match="exists and is another"):
            find(everything(Sources(mask)), tmp_path, table=table if other == "ids.tif" else other, labels="ids.tif")


def test_damage_in_a_later_plane_leaves_nothing(tmp_path: Path) -> None:
    planes = classes()[0].astype(np.float32)
    planes[2, 5, 5] = 0.5
    mask = write(tmp_path / "mask.tif", planes, "ZYX")
    with pytest.raises(InputError, match="holds fractions"):
        find(replace(Sources(mask), depths=PlaneRange()), tmp_path, labels="ids.tif", **FILES)
    assert list(tmp_path.iterdir()) == [mask]


def test_what_is_refused(mask: Path, image: Path, tmp_path: Path) -> None:
    out, flat = tmp_path / "out", tmp_path / "flat.tif"
    tifffile.imwrite(flat, tifffile.imread(image)[0, 0])
    whole = everything(Sources(mask))
    for sources, names, kind, message in (
        (
            whole,
            {"overlay": "o.png"},
            UsageError,
            r"--overlay is of one plane: leave it out, or give --z N and --time N",
        ),
        (whole, {"gallery": "o.png"}, UsageError, "--gallery is of one plane"),
        (whole, {"report": "o.html"}, UsageError, "--report is of one plane"),
        (whole, {"labels": "o.png"}, UsageError, "a PNG holds one plane, not 6"),
        (replace(whole, image=flat), {"table": "t.csv"}, InputError, "1 point in time and 1 plane in depth.*same axes"),
        (replace(whole, probabilities=flat), {"table": "t.csv"}, InputError, "need stacks of the same axes"),
        (replace(whole, times=None), {"table": "t.csv"}, InputError, "stack along --time, too; choose with --time"),
        (replace(whole, depths=PlaneRange(1, 9)), {"table": "t.csv"}, InputError, "--z 1:9 does not exist: it holds 3"),
        (Sources(mask), {"table": "t.csv"}, InputError, r"choose with --time N, .* or all of them with --time all"),
    ):
        with pytest.raises(kind, match=message):
            find(sources, out, **names)
    assert not list(out.iterdir())
