"""Damaged and absurd files of every kind that a command reads: each ends in a line, within memory and time."""

from __future__ import annotations

import json
import random
import re
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import tifffile
import zarr

from tests.fuzz.conftest import Fuzz, Server
from tests.fuzz.mutations import ABSURD, absurd_json, damaged
from tests.narrow import make_pixels
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import write_image
from unettile.images.view import View

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(600)]

LABELS = np.zeros((60, 80), np.uint8)
LABELS[10:30, 10:30], LABELS[40:50, 50:70] = 1, 2


def replace_json(rng: random.Random, path: Path) -> None:
    path.write_text(absurd_json(rng, json.loads(path.read_text("utf-8"))), "utf-8", "surrogatepass")


def test_plans(fuzz: Fuzz, run_directory: Path) -> None:
    def case(rng: random.Random, folder: Path) -> list[object]:
        shutil.copytree(run_directory, folder / "run")
        replace_json(rng, folder / "run" / "plan.json")
        return ["stitch", folder / "run", "-o", folder / "out.tif"]

    fuzz.each("plan", case)


def test_markers_and_arrays_of_a_run(fuzz: Fuzz, run_directory: Path) -> None:
    def case(rng: random.Random, folder: Path) -> list[object]:
        shutil.copytree(run_directory, folder / "run")
        files = sorted(path for path in (folder / "run").rglob("*") if path.is_file() and path.name != "plan.json")
        path = rng.choice(files)
        if path.suffix == ".json" and rng.random() < 0.8:
            replace_json(rng, path)
        else:
            path.write_bytes(damaged(rng, path.read_bytes()))
        return ["stitch", folder / "run", "-o", folder / "out.tif"]

    fuzz.each("marker", case)


def test_headers_of_checkpoints(fuzz: Fuzz, model: Path) -> None:
    content = model.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    ours = json.loads(header["__metadata__"]["unettile"])

    def case(rng: random.Random, folder: Path) -> list[object]:
        told = absurd_json(rng, ours).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        text = json.dumps(header | {"__metadata__": {"unettile": told}}).encode()
        path = folder / "m.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
        return ["models", path, "--json"]

    fuzz.each("header", case)


def test_bytes_of_checkpoints(fuzz: Fuzz, model: Path) -> None:
    def case(rng: random.Random, folder: Path) -> list[object]:
        (folder / "m.safetensors").write_bytes(damaged(rng, model.read_bytes()))
        return ["models", folder / "m.safetensors", "--json"]

    fuzz.each("checkpoint", case)


def test_programs(fuzz: Fuzz) -> None:
    def case(rng: random.Random, folder: Path) -> list[object]:
        path = folder / "net.pt2"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("net/archive_format", "pt2")
            archive.writestr("net/data", bytes(rng.choice((10, 10**6))))
        path.write_bytes(damaged(rng, path.read_bytes()))
        return ["models", path, "--json", "--trust"]

    fuzz.each("program", case)


RECIPE = """[network]
name = "unet"
in_channels = 3
widths = [4, 8, 8]
[labels]
kind = "instances"
names = ["background", "object"]
gap = 2
[augment]
zoom = [0.5, 2.0]
elastic_grid = 4
brightness = 0.2
[loss]
sigma = 5.0
[run]
epochs = 2
batch = 2
"""
KEYS = (
    "run.epochs", "run.batch", "augment.zoom", "augment.elastic_grid", "augment.brightness", "labels.gap", "widths",
    "loss.sigma", "labels.names", "card.limits", "objects.min_size", "network.in_channels", "samples.weights",
)  # fmt: skip


def test_recipes(fuzz: Fuzz) -> None:
    def case(rng: random.Random, folder: Path) -> list[object]:
        for name in ("images", "labels"):
            (folder / name).mkdir()
        text = RECIPE.encode()
        changes: list[object] = []
        if rng.random() < 0.5:
            text = damaged(rng, text)
        else:
            value = rng.choice(ABSURD)
            shown = "9" * 5000 if isinstance(value, int) and abs(value) > 10**300 else json.dumps(value)
            changes = ["--set", f"{rng.choice(KEYS)}={shown}"]
        (folder / "r.toml").write_bytes(text)
        command: list[object] = ["train", folder / "images", folder / "labels", "-o", folder / "m.safetensors"]
        return [*command, "--recipe", folder / "r.toml", *changes]

    fuzz.each("recipe", case)


METADATA: dict[str, Any] = {
    "unettile": "0.1.0",
    "view": View(series=0, level=1, channels=(0,), z=0, t=0).to_dict(),
    "downsample": [1.0, 1.0],
    "write": ["classes"],
    "classes": ["background", "a", "b"],
    "objects": 2,
    "id_classes": {"type": "uint8", "zlib": "eJxjZAQAAAYAAw=="},
}


@pytest.mark.parametrize("ending", ["tif", "ome.tif", "png", "ome.zarr"])
def test_masks(fuzz: Fuzz, ending: str) -> None:
    """Metadata of masks, and their files."""
    layer = Layer(
        "classes", reduction="majority", names=("background", "a", "b"), colours=((0, 0, 0), (9, 9, 9), (1, 2, 3))
    )

    def case(rng: random.Random, folder: Path) -> list[object]:
        told = METADATA | {"write": [rng.choice(("classes", "instances", "depth"))]}
        if rng.random() < 0.6:
            key = rng.choice(sorted(told))
            told |= {key: rng.choice([value for value in ABSURD if value == value and value not in (1e400, -1e400)])}
        told = {key: 1 if isinstance(value, int) and abs(value) > 10**300 else value for key, value in told.items()}
        path = folder / f"mask.{ending}"
        canvas = Canvas((60, 80), (layer,), metadata=told)
        write_image(path, canvas, lambda box: LABELS[box.slices])
        files = sorted(one for one in path.rglob("*") if one.is_file())  # of a folder
        file = rng.choice(files or [path])
        if rng.random() < 0.6:
            file.write_bytes(damaged(rng, file.read_bytes()))
        return ["objects", path, "--table", folder / "t.csv"]

    fuzz.each(f"mask {ending}", case)


@pytest.mark.parametrize("compression", ["deflate", "jpeg2000"])
def test_images(fuzz: Fuzz, compression: str) -> None:
    def case(rng: random.Random, folder: Path) -> list[object]:
        path = folder / "image.tif"
        tifffile.imwrite(path, LABELS, compression=compression, tile=(64, 64), metadata={"axes": "YX"}, ome=True)
        path.write_bytes(damaged(rng, path.read_bytes()))
        return ["weights", path, "-o", folder / "w.tif"]

    fuzz.each(f"image {compression}", case)


def test_arrays(fuzz: Fuzz) -> None:
    def case(rng: random.Random, folder: Path) -> list[object]:
        path = folder / "a.zarr"
        array = zarr.create_array(path, shape=(60, 80), chunks=(32, 32), dtype="uint8", zarr_format=rng.choice((2, 3)))
        array[:] = LABELS
        file = rng.choice(sorted(one for one in path.rglob("*") if one.is_file()))
        if file.name in ("zarr.json", ".zarray"):
            replace_json(rng, file)
        elif rng.random() < 0.3:
            file.unlink()
            file.symlink_to(rng.choice(("/dev/zero", "/etc/hostname", "nowhere")))
        else:
            file.write_bytes(damaged(rng, file.read_bytes()))
        return ["weights", path, "-o", folder / "w.tif"]

    fuzz.each("array", case)


def test_words_of_microscopes(fuzz: Fuzz) -> None:
    """OME-XML: attributes with absurd values, elements twice or missing, and bytes that are damaged."""
    attributes = (
        "SizeX",
        "SizeY",
        "SizeC",
        "SizeT",
        "Type",
        "PhysicalSizeX",
        "PhysicalSizeXUnit",
        "DimensionOrder",
        "IFD",
    )

    def case(rng: random.Random, folder: Path) -> list[object]:
        path = folder / "image.ome.tif"
        pixels = np.stack([LABELS] * 3)
        told = {
            "axes": "ZYX",
            "PhysicalSizeX": 0.5,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 0.5,
            "PhysicalSizeYUnit": "µm",
        }
        tifffile.imwrite(path, pixels, photometric="minisblack", metadata=told)
        with tifffile.TiffFile(path) as file:
            text = file.pages.first.description
        for name in rng.sample(attributes, rng.choice((1, 1, 2, 3))):
            value = rng.choice(ABSURD)
            shown = "9" * 5000 if isinstance(value, int) and abs(value) > 10**300 else str(value)
            text = re.sub(f'{name}="[^"]*"', lambda _, name=name, shown=shown: f"{name}={quoteattr(shown)}", text)
        if rng.random() < 0.3:
            element = rng.choice(("<Pixels", "<TiffData", "<Channel"))
            text = text.replace(element, rng.choice(("", f"<Image>{element}", f"{element} {element}")), 1)
        data = text.encode("utf-8", "replace").replace(b"\x00", b"")
        text_of = damaged(rng, data) if rng.random() < 0.3 else data
        tifffile.imwrite(path, pixels, photometric="minisblack", description=text_of, metadata=None)
        return ["weights", path, "-o", folder / "w.tif"]

    fuzz.each("OME-XML", case)


POLYGONS: dict[str, Any] = {
    "type": "FeatureCollection",
    "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
    "features": [
        {
            "type": "Feature",
            "properties": {"classification": {"name": "a"}},
            "geometry": {"type": "Polygon", "coordinates": [[[5, 5], [40, 5], [40, 50], [5, 5]]]},
        },
        {
            "type": "Feature",
            "properties": {},
            "geometry": {"type": "MultiPolygon", "coordinates": [[[[50, 20], [70, 20], [70, 40], [50, 20]]]]},
        },
    ],
}


def test_polygons(fuzz: Fuzz, model: Path, run_directory: Path) -> None:
    image = run_directory.parent / "image.tif"

    def case(rng: random.Random, folder: Path) -> list[object]:
        told = {key: value for key, value in POLYGONS.items() if key != "crs" or rng.random() < 0.3}
        text = absurd_json(rng, told)
        (folder / "drawn.geojson").write_text(text, "utf-8", "surrogatepass")
        return [
            "segment",
            image,
            "-o",
            folder / "out.tif",
            "-m",
            model,
            "--mask",
            folder / "drawn.geojson",
            "--dry-run",
        ]

    fuzz.each("polygons", case)


def test_runs_of_stacks(fuzz: Fuzz, model: Path) -> None:
    def case(rng: random.Random, folder: Path) -> list[object]:
        (folder / "run" / "planes").mkdir(parents=True)
        spacing = {"z_um": 0.5, "time_s": None}
        text = absurd_json(rng, {"format": 1, "t": [0], "z": [0, 1], "shards": 1, "spacing": spacing})
        (folder / "run" / "stack.json").write_text(text, "utf-8", "surrogatepass")
        return ["stitch", folder / "run", "-o", folder / "out.tif"]

    fuzz.each("stack", case)


TRAINING = ("--recipe", "semantic", "--set", "run.epochs=1", "--set", "run.steps_per_epoch=1", "--set", "run.batch=1",
            "--set", "run.output_edge=32", "--workers", "0", "--device", "cpu")  # fmt: skip


@pytest.fixture(scope="package")
def training(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Path:
    """Images, labels, and the folder of a training of one step."""
    place = tmp_path_factory.mktemp("training")
    for name in "abc":
        for part, pixels in (
            ("images", make_pixels(60, 80, seed=ord(name))),
            ("labels", (LABELS > 0).astype(np.uint8)),
        ):
            (place / part).mkdir(exist_ok=True)
            tifffile.imwrite(place / part / f"{name}.tif", pixels)
    (place / "made").mkdir()
    ended = server.run("train", place / "images", place / "labels", "-o", place / "made" / "m.safetensors", *TRAINING)
    assert ended["code"] == 0, ended
    return place


def test_folders_of_trainings(fuzz: Fuzz, training: Path) -> None:
    def case(rng: random.Random, folder: Path) -> list[object]:
        shutil.copytree(training / "made", folder / "made")
        (folder / "made" / "m.safetensors").unlink()
        files = sorted(path for path in (folder / "made").rglob("*") if path.is_file())
        path = rng.choice(files)
        if path.suffix == ".json":
            replace_json(rng, path)
        else:
            path.write_bytes(damaged(rng, path.read_bytes()))
        model = folder / "made" / "m.safetensors"
        return ["train", training / "images", training / "labels", "-o", model, *TRAINING, "--resume"]

    fuzz.each("training", case)


def test_names_of_crops(fuzz: Fuzz) -> None:
    parts = ("²", "0", "9" * 30, "-1", "٣", "1e9", "", "4294967296", "7", "\n")

    def case(rng: random.Random, folder: Path) -> list[object]:
        (folder / "crops").mkdir()
        for number in range(2):
            x, y, w = (rng.choice(parts) for _ in range(3))
            names = (
                f"s_y{y}_x{x}.tif",
                f"s [x={x},y={y},w={w},h=60].tif",
                f"s [d={w},x={x},y={y},w=80,h=60]-{number}.tif",
            )
            tifffile.imwrite(folder / "crops" / rng.choice(names), LABELS)
        return ["stitch", folder / "crops", "-o", folder / "out.tif"]

    fuzz.each("crop", case)
