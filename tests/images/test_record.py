"""What a mask says of itself is read the same from every format; what it cannot mean is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from unettile.errors import InputError
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import write_image
from unettile.images.idclasses import IdClasses
from unettile.images.record import Record, read_metadata, read_record
from unettile.images.view import View

NAMES = ("background", "nucleus", "border")
COLOURS = ((0, 0, 0), (9, 80, 7), (200, 5, 255))
METADATA: dict[str, Any] = {
    "unettile": "0.1.0",
    "view": View(series=0, level=1, channels=(0, 2), z=0, t=0).to_dict(),
    "downsample": [2.0, 4.0],
    "write": ["classes"],
    "classes": list(NAMES),
}
EXPECTED = Record(
    dict(enumerate(NAMES)), dict(zip((1, 2), COLOURS[1:], strict=True)), View(0, 1, z=0, t=0), (2.0, 4.0), "classes"
)


def write(path: Path, metadata: dict[str, Any], layers: tuple[Layer, ...] = ()) -> Path:
    layers = layers or (Layer("classes", reduction="majority", names=NAMES, colours=COLOURS),)
    canvas = Canvas((20, 30), layers, metadata=metadata)
    planes = np.zeros((canvas.channels, 20, 30), np.uint8)
    write_image(path, canvas, lambda box: planes[:, *box.slices] if canvas.channels > 1 else planes[0][box.slices])
    return path


@pytest.mark.parametrize("ending", ["tif", "ome.tif", "png", "ome.zarr"])
def test_every_format_says_the_same(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"mask.{ending}", METADATA)
    assert read_record(path) == EXPECTED
    assert read_metadata(path) == METADATA


@pytest.mark.parametrize("ending", ["ome.tif", "ome.zarr"])
def test_of_several_layers_each_is_known(tmp_path: Path, ending: str) -> None:
    layers = (
        Layer("probabilities", 3, "mean", NAMES, COLOURS),
        Layer("instances", reduction="majority", names=("background",)),
        Layer("classes", reduction="majority", names=NAMES, colours=COLOURS),
    )
    metadata = METADATA | {"write": [layer.name for layer in layers]}
    path = write(tmp_path / f"all.{ending}", metadata, layers)
    ids, classes = (
        (read_record(path / "labels" / "instances"), read_record(path / "labels" / "classes"))
        if path.is_dir()
        else (read_record(path, 1), read_record(path, 2))
    )
    assert (ids.kind, ids.names, ids.downsample) == ("instances", {}, (2.0, 4.0))
    assert classes == EXPECTED
    assert read_record(path, 0).kind == "probabilities" and read_record(path, 0).names == EXPECTED.names


def test_a_mask_of_another_program_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    for description in ('{"classes": 5, "downsample": "x"}', "[" * 100_000, '{"a": ' + "9" * 5000 + "}", "text"):
        tifffile.imwrite(path, np.zeros((9, 9), np.uint8), description=description, metadata=None)
        assert read_record(path) == Record() and read_metadata(path) == {}
    other = tmp_path / "mask.jpg"
    other.write_bytes(b"\xff\xd8\xff no picture")
    assert read_record(other) == Record()
    (tmp_path / "folder.zarr").mkdir()
    assert read_record(tmp_path / "folder.zarr") == Record()


@pytest.mark.parametrize("ending", ["tif", "png", "ome.zarr"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", 5),
        ("classes", ["a", 5]),
        ("classes", ["\ud800"]),
        ("downsample", [0, 1]),
        ("downsample", [1e300, 1]),
        ("downsample", [1, True]),
        ("downsample", "x"),
        ("view", 7),
        ("view", {"series": -1}),
        ("view", {"level": "1"}),
        ("view", {"mpp": -0.5}),
        ("view", {"z": 2**40}),
        ("view", {"t": True}),
        ("write", [["classes"]]),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, ending: str, key: str, value: Any) -> None:
    path = write(tmp_path / f"mask.{ending}", METADATA | {key: value})
    with pytest.raises(InputError, match=rf"say {key}\S* = ") as caught:
        read_record(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_infinity_is_no_downsample(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    text = json.dumps(METADATA).replace("[2.0, 4.0]", "[Infinity, NaN]")
    tifffile.imwrite(path, np.zeros((9, 9), np.uint8), description=text, metadata=None)
    with pytest.raises(InputError, match="downsample"):
        read_record(path)


def test_one_number_for_all_ids_takes_no_memory() -> None:
    found = IdClasses.from_metadata({"objects": 2**32 - 1, "id_classes": 3, "id_shares": 51})
    assert found is not None and found.shares is not None
    assert (found.classes[-1], found.shares[-1]) == (3, 0.2) and found.classes.strides == found.shares.strides == (0,)
