"""OME-TIFF by readers that are not ours: the OME schema, ome-types, and tifffile's series."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import ome_types
import pytest
import tifffile
from numpy.typing import NDArray

from unettile.images.canvas import Canvas, Layer
from unettile.images.colours import distinct_colours
from unettile.images.formats import write_image
from unettile.images.pyramid import majority, mean

NAMES = ("background", 'gland < & "µ"', "line\nbreak")
COLOURS = distinct_colours(3)
CLASSES = Layer("classes", 1, "majority", NAMES, COLOURS)
PROBABILITIES = Layer("probabilities", 3, "mean", NAMES, COLOURS)
SHAPE = (700, 1100)
METADATA = {"unettile": "1", "image": {"shape": [3, 4]}, "größe": None}
PIXELS = np.random.default_rng(3).integers(0, 3, (4, *SHAPE), np.uint8)


def write(path: Path, *layers: Layer, dtype: str = "uint8") -> str:
    """Write some layers of PIXELS; return the file's XML, checked against the schema."""
    planes: NDArray[np.uint8] = np.concatenate(
        [PIXELS[:3] if layer is PROBABILITIES else PIXELS[3:] for layer in layers]
    )
    pixels = planes[0] if len(planes) == 1 else planes
    canvas = Canvas(SHAPE, layers, np.dtype(dtype), (0.5, 0.25), (1000.5, -20.0), METADATA)
    write_image(path, canvas, lambda box: pixels[(..., *box.slices)].astype(dtype))
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        xml = str(tif.ome_metadata)
    ome_types.validate_xml(xml)
    assert "&#" not in xml, "Bio-Formats mangles character references"
    return xml


def test_classes(tmp_path: Path) -> None:
    ome = ome_types.from_xml(write(tmp_path / "mask.ome.tif", CLASSES))
    (image,) = ome.images
    pixels = image.pixels
    assert (pixels.size_y, pixels.size_x, pixels.size_c) == (*SHAPE, 1) and pixels.type.value == "uint8"
    assert (pixels.physical_size_y, pixels.physical_size_x) == (0.5, 0.25)
    assert pixels.physical_size_x_unit.value == pixels.planes[0].position_x_unit.value == "µm"
    assert (pixels.planes[0].position_y, pixels.planes[0].position_x) == (1000.5, -20.0)
    annotations = {one.namespace: one for one in ome.structured_annotations}
    assert {one.id for one in image.annotation_refs} == {one.id for one in ome.structured_annotations}
    assert json.loads(annotations["unettile/metadata"].value) == METADATA
    names = {entry.k: entry.value for entry in annotations["unettile/class-names"].value.ms}
    assert names == {"0": NAMES[0], "1": NAMES[1], "2": "line�break"}
    assert [entry.value for entry in annotations["unettile/class-colours"].value.ms][1] == "#ffdc33"
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as tif:
        page = tif.pages.first
        assert page.photometric == tifffile.PHOTOMETRIC.PALETTE
        assert np.array_equal(page.colormap[:, :3] // 257, np.array(COLOURS).T)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE and page.is_tiled
        assert len(tif.pages) == 1 and len(page.subifds) == 2
        assert all(level.keyframe.is_reduced for level in tif.series[0].levels[1:])


def test_probabilities(tmp_path: Path) -> None:
    ome = ome_types.from_xml(write(tmp_path / "p.ome.tif", PROBABILITIES))
    channels = ome.images[0].pixels.channels
    assert [channel.name for channel in channels] == [NAMES[0], NAMES[1], "line�break"]
    assert channels[1].color.as_rgb_tuple()[:3] == COLOURS[1]
    assert channels[0].color.as_rgb_tuple()[:3] == (255, 255, 255), "a black channel could not be seen"
    with tifffile.TiffFile(tmp_path / "p.ome.tif") as tif:
        (series,) = tif.series
        assert series.axes == "CYX" and len(series.levels) == 3
        expected = PIXELS[:3]
        for level in series.levels:
            assert np.array_equal(level.asarray(), expected)
            expected = mean(expected)


def test_both_are_two_images_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "both.ome.tif"
    ome = ome_types.from_xml(write(path, PROBABILITIES, CLASSES))
    assert [image.name for image in ome.images] == ["probabilities", "classes"]
    with tifffile.TiffFile(path) as tif:
        first, second = tif.series
        assert (first.name, second.name) == ("probabilities", "classes") and len(tif.pages) == 4
        assert np.array_equal(first.asarray(), PIXELS[:3]) and np.array_equal(second.asarray(), PIXELS[3])
        assert np.array_equal(second.levels[1].asarray(), majority(PIXELS[3]))


def test_both_hold_what_each_alone_would(tmp_path: Path) -> None:
    for layers in ((PROBABILITIES,), (CLASSES,), (PROBABILITIES, CLASSES)):
        write(tmp_path / f"{len(layers)}{layers[0].name}.ome.tif", *layers)
    with tifffile.TiffFile(tmp_path / "2probabilities.ome.tif") as both:
        for index, name in enumerate(("1probabilities", "1classes")):
            with tifffile.TiffFile(tmp_path / f"{name}.ome.tif") as one:
                for level, other in zip(one.series[0].levels, both.series[index].levels, strict=True):
                    assert np.array_equal(level.asarray(), other.asarray())


@pytest.mark.parametrize(("dtype", "name"), [("uint16", "uint16"), ("uint32", "uint32"), ("float32", "float")])
def test_other_numbers(dtype: str, name: str, tmp_path: Path) -> None:
    xml = write(tmp_path / "a.ome.tif", Layer("labels", 1, "mean" if dtype == "float32" else "majority"), dtype=dtype)
    assert ome_types.from_xml(xml).images[0].pixels.type.value == name
    assert np.array_equal(tifffile.imread(tmp_path / "a.ome.tif"), PIXELS[3].astype(dtype))


def test_bigtiff_pointers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsets of 64 bits in every table, SubIFDs included."""
    monkeypatch.setattr("unettile.images.write_tiff._CLASSIC_LIMIT", 0)
    write(tmp_path / "big.ome.tif", PROBABILITIES, CLASSES)
    with tifffile.TiffFile(tmp_path / "big.ome.tif") as tif:
        assert tif.is_bigtiff
        assert np.array_equal(tif.series[0].levels[1].asarray(), mean(PIXELS[:3]))
        assert np.array_equal(tif.series[1].asarray(), PIXELS[3])
