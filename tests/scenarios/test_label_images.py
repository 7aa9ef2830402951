"""`--into-labels`: masks as label images in an image's own OME-Zarr, read by programs that are not ours; and plates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import tifffile
import zarr
from numpy.typing import NDArray
from ome_zarr_models.v04.image_label import ImageLabelAttrs
from ome_zarr_models.v05 import ImageLabel

import unettile
from tests.scenarios.conftest import Cli, make_pixels
from tests.zarrs import files, write_plate, write_zarr
from unettile.images.pyramid import majority
from unettile.images.slide import read_labels
from unettile.objects.write import Writer
from unettile.segmentation.run.reader import BlockReader

VERSIONS = ("0.4", "0.5")
SHAPE = (60, 70)
each_version = pytest.mark.parametrize("version", VERSIONS)


def read(path: Path) -> NDArray[Any]:
    driver = "zarr3" if (path / "zarr.json").is_file() else "zarr"
    store = tensorstore.open({"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}})
    return np.asarray(store.result().read().result())


def listed(image: Path) -> list[str]:
    attributes: dict[str, Any] = dict(zarr.open_group(image / "labels", mode="r").attrs.asdict())
    names: list[str] = attributes.get("ome", attributes)["labels"]
    return names


@each_version
def test_a_mask_becomes_a_label_image(version: str, cli: Cli, model: Path, tmp_path: Path) -> None:
    pixels = make_pixels(*SHAPE)[None, None]
    image = write_zarr(tmp_path / "image.zarr", pixels, "czyx", version)
    before = files(image)
    options = ("-m", model, "--diameter", "off")
    assert cli("segment", image, *options, "-o", tmp_path / "mask.tif").code == 0
    mask = read_labels(tmp_path / "mask.tif")
    done = cli("segment", image, *options, "--into-labels", "cells", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["output"] == str(image / "labels" / "cells")
    after = files(image)
    assert {name: after[name] for name in before} == before
    assert {name for name in after if name not in before if not name.startswith("labels/cells/")} == (
        {"labels/.zgroup", "labels/.zattrs"} if version == "0.4" else {"labels/zarr.json"}
    )
    assert listed(image) == ["cells"]
    group = zarr.open_group(image / "labels" / "cells", mode="r")
    if version == "0.4":
        described = ImageLabelAttrs.model_validate(group.attrs.asdict())
        label, scales = described.image_label, described.multiscales[0]
    else:
        found = ImageLabel.from_zarr(group).attributes.ome
        label, scales = found.image_label, found.multiscales[0]
    assert label.source.image == "../../" and label.colors[1].rgba == (255, 200, 0, 255)
    assert [(axis.name, axis.unit) for axis in scales.axes] == [(axis, "micrometer") for axis in "zyx"]
    assert len(scales.datasets) == 2
    steps = [step.model_dump(exclude_none=True) for step in scales.datasets[1].coordinateTransformations]
    assert steps[0]["scale"] == [2.0, 1.0, 0.5] and steps[1]["translation"] == [0.0, 0.25, 0.125]
    assert np.array_equal(read(image / "labels" / "cells" / "0"), mask[None])
    assert np.array_equal(read(image / "labels" / "cells" / "1"), majority(mask)[None])
    # given again: nothing is done, but for a list that a killed process did not come to
    for file in (image / "labels").iterdir():
        if file.is_file():
            file.unlink()
    again = cli("segment", image, *options, "--into-labels", "cells")
    assert again.code == 0 and "is finished already" in again.err and listed(image) == ["cells"]
    refused = cli("segment", image, *options, "--into-labels", "cells", "--write", "instances")
    assert refused.code == 3 and "was made otherwise" in refused.err
    assert files(image) == after
    done = cli("segment", image, *options, "--into-labels", "ids", "--write", "instances")
    assert done.code == 0 and listed(image) == ["cells", "ids"]
    assert cli("segment", image, *options, "--into-labels", "cells", "--write", "instances", "--overwrite").code == 0
    assert np.array_equal(read(image / "labels" / "cells" / "0"), read(image / "labels" / "ids" / "0"))
    assert listed(image) == ["cells", "ids"]
    assert cli("objects", image / "labels" / "ids", "--table", tmp_path / "t.csv", "--image", image).code == 0


@each_version
def test_stacks_and_shards(version: str, cli: Cli, model: Path, tmp_path: Path) -> None:
    pixels = np.stack([make_pixels(*SHAPE, seed=seed) for seed in range(2)])
    image = write_zarr(tmp_path / "image.zarr", pixels, "zyx", version, levels=1)
    options = ("-m", model, "--diameter", "off")
    refused = cli("segment", image, *options, "--z", "1", "--into-labels", "cells")
    assert refused.code == 2 and "needs all planes" in refused.err and "--z all" in refused.err
    assert not (image / "labels").exists()
    assert cli("segment", image, *options, "--z", "all", "-o", tmp_path / "mask.ome.zarr").code == 0
    assert cli("segment", image, *options, "--z", "all", "--into-labels", "cells").code == 0
    expected = read(tmp_path / "mask.ome.zarr" / "0")
    assert np.array_equal(read(image / "labels" / "cells" / "0"), expected)
    for shard in ("0/2", "1/2"):
        assert cli("segment", image, *options, "--z", "all", "--shard", shard, "-o", tmp_path / "run").code == 0
    other = write_zarr(tmp_path / "other.zarr", pixels[::-1], "zyx", version, levels=1)
    refused = cli("stitch", tmp_path / "run", "-o", other, "--into-labels", "joined")
    assert refused.code == 3 and "is a run of another image" in refused.err
    done = cli("stitch", tmp_path / "run", "-o", image, "--into-labels", "joined")
    assert done.code == 0 and listed(image) == ["cells", "joined"], done.err
    assert np.array_equal(read(image / "labels" / "joined" / "0"), expected)


def test_a_run_that_was_stopped_goes_on(cli: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = write_zarr(tmp_path / "image.zarr", make_pixels(*SHAPE), "yx", "0.5")
    command = ("segment", image, "-m", model, "--diameter", "off", "--into-labels", "cells")

    class PowerCut(BaseException):
        pass

    def die(self: BlockReader, box: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(BlockReader, "read_box", die)
        cli(*command)
    assert not (image / "labels" / "cells").exists() and (image / "labels" / "cells.run").is_dir()
    done = cli(*command, "--json")
    assert done.code == 0 and json.loads(done.out)["blocks_computed"] == 0, done.err
    assert sorted(path.name for path in (image / "labels").iterdir()) == ["cells", "zarr.json"]


def test_what_is_refused(cli: Cli, model: Path, image: Path, tmp_path: Path) -> None:
    store = write_zarr(tmp_path / "image.zarr", make_pixels(*SHAPE), "yx", "0.5")
    options = ("-m", model, "--diameter", "off")
    before = files(store)
    for given, code, said in (
        ((image, "--into-labels", "a"), 3, "is no OME-Zarr"),
        ((store, "--into-labels", "../a"), 2, "need letters"),
        ((store, "--into-labels", "a", "-o", tmp_path / "a.tif"), 2, "got both"),
        ((store,), 2, "got neither"),
        ((store, "--into-labels", "a", "--shard", "0/2"), 2, "unettile stitch RUN -o IMAGE"),
        ((store, "--into-labels", "a", "--format", "png"), 2, "--into-labels writes"),
        ((store, "--into-labels", "a", "--write", "probabilities"), 2, "holds classes or ids"),
        ((store, "--into-labels", "a", "--level", "1"), 2, "leave --level"),
    ):
        refused = cli("segment", *given, *options)
        assert refused.code == code and said in refused.err and refused.err.count("\n") == 1, (given, refused)
    assert files(store) == before
    (store / "labels" / "theirs").mkdir(parents=True)
    (store / "labels" / "theirs" / "note.txt").write_text("kept")
    refused = cli("segment", store, "--into-labels", "theirs", *options, "--overwrite")
    assert refused.code == 3 and (store / "labels" / "theirs" / "note.txt").exists()


@each_version
def test_a_plate_is_a_batch(version: str, cli: Cli, model: Path, tmp_path: Path) -> None:
    fields = ("A/1/0", "A/1/1", "A/2/0")
    pixels = {field: make_pixels(*SHAPE, seed=seed) for seed, field in enumerate(fields)}
    plate = write_plate(tmp_path / "plate.zarr", pixels, version)
    options = ("-m", model, "--diameter", "off")
    done = cli("segment", plate, *options, "-o", tmp_path / "masks", "--json")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["A_1_0.tif", "A_1_1.tif", "A_2_0.tif"]
    assert cli("segment", plate, *options, "--into-labels", "cells").code == 0
    for field in fields:
        alone = tmp_path / "alone.tif"
        assert cli("segment", plate / field, *options, "-o", alone, "--overwrite").code == 0
        assert (tmp_path / "masks" / f"{field.replace('/', '_')}.tif").read_bytes() == alone.read_bytes()
        assert np.array_equal(read(plate / field / "labels" / "cells" / "0"), read_labels(alone))
        assert listed(plate / field) == ["cells"]
    assert cli("segment", plate, *options, "-o", tmp_path / "mask.tif").code == 2
    assert cli("segment", plate, plate / "A/1/0", *options, "-o", tmp_path / "both", "--dry-run").code == 0
    shutil.rmtree(plate / "A" / "2" / "0")
    refused = cli("segment", plate, *options, "-o", tmp_path / "masks")
    assert refused.code == 3 and "lists 0 among its images, which is not there" in refused.err


@each_version
def test_ids_become_a_label_image(version: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `objects` numbers them, with or without a directory for label images, of a plane or of a stack."""
    mask = np.zeros((2, *SHAPE), np.uint8)
    mask[0, 3:10, 3:10] = mask[0, 20:40, 30:50] = mask[1, 5:9, 5:9] = 1
    image = write_zarr(tmp_path / "image.zarr", np.stack([make_pixels(*SHAPE)] * 2), "zyx", version)
    plain = write_zarr(tmp_path / "plain.zarr", make_pixels(*SHAPE), "yx", version)
    tifffile.imwrite(tmp_path / "stack.ome.tif", mask, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "mask.tif", mask[0])
    before = files(plain)
    command = ("objects", tmp_path / "mask.tif", "-o", plain / "labels" / "ids")
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", fail)
        assert cli(*command).code == 3
    assert not (plain / "labels").exists()
    refused = cli(*command[:-1], image / "labels" / "ids")
    assert refused.code == 2 and "needs all planes of it: give --z all" in refused.err
    done = cli(*command, "--table", tmp_path / "t.csv", "--image", plain)
    assert done.code == 0, done.err
    assert read(plain / "labels" / "ids" / "0").max() == 2 and listed(plain) == ["ids"]
    after = files(plain)
    assert {name: after[name] for name in before} == before
    for file in [path for path in (plain / "labels").iterdir() if path.is_file()]:
        file.unlink()  # a process that was killed did not come to the list
    assert cli(*command).code == 0 and files(plain) == after
    assert cli(*command, "--min-size", "60").code == 3 and files(plain) == after
    assert cli(*command, "--min-size", "60", "--overwrite").code == 0
    assert read(plain / "labels" / "ids" / "0").max() == 1 and listed(plain) == ["ids"]
    # from a label image to another, of a stack
    assert cli("objects", tmp_path / "stack.ome.tif", "--z", "all", "-o", image / "labels" / "found").code == 0
    assert [plane.max() for plane in read(image / "labels" / "found" / "0")] == [2, 1]
    again = ("objects", image / "labels" / "found", "--z", "all", "-o", image / "labels" / "large", "--min-size", "60")
    assert cli(*again).code == 0 and listed(image) == ["found", "large"]
    assert [plane.max() for plane in read(image / "labels" / "large" / "0")] == [1, 0]
    refused = cli("objects", tmp_path / "mask.tif", "-o", image / "labels" / "large", "--overwrite")
    assert refused.code == 2 and [plane.max() for plane in read(image / "labels" / "large" / "0")] == [1, 0]


def fail(*_: object) -> None:
    raise unettile.InputError("a part of it is damaged")


def test_a_label_image_from_python(cli: Cli, model: Path, tmp_path: Path) -> None:
    image = write_zarr(tmp_path / "image.zarr", make_pixels(*SHAPE), "yx", "0.5")
    loaded = unettile.load(model, device="cpu")
    mask = loaded.segment(image, diameter="off")
    loaded.segment(image, image / "labels" / "cells", diameter="off")
    assert listed(image) == ["cells"] and np.array_equal(read(image / "labels" / "cells" / "0"), mask)


def test_gathered_metadata_are_told_of(cli: Cli, model: Path, tmp_path: Path) -> None:
    image = write_zarr(tmp_path / "image.zarr", make_pixels(*SHAPE), "yx", "0.4")
    zarr.consolidate_metadata(str(image), zarr_format=2)
    done = cli("segment", image, "-m", model, "--diameter", "off", "--into-labels", "cells")
    assert done.code == 0 and "gathered in one file" in done.err
    done = cli("objects", image / "labels" / "cells", "-o", image / "labels" / "ids")
    assert done.code == 0 and "gathered in one file" in done.err
