"""Crops: names understood or refused, gaps and disagreements named, pixels as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.narrow import make_pixels
from unettile.box import Box
from unettile.errors import Incomplete, InputError
from unettile.images.slide import open_slide
from unettile.segmentation.crops import CropName
from unettile.segmentation.stitch import stitch_crops

PIXELS = make_pixels(90, 130)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "crops"
    place.mkdir()
    return place


def cut(folder: Path, pixels: NDArray[np.generic], box: Box, qupath: bool = False, name: str = "slide") -> Path:
    """Write one crop and return its path."""
    place = f" [x={box.x0},y={box.y0},w={box.width},h={box.height}]" if qupath else f"_y{box.y0:05d}_x{box.x0:05d}"
    path = folder / f"{name}{place}.tif"
    tifffile.imwrite(path, np.ascontiguousarray(pixels[box.slices]), photometric="rgb" if pixels.ndim == 3 else None)
    return path


@pytest.mark.parametrize("qupath", [False, True])
@pytest.mark.parametrize("step", [40, 30])
def test_crops_become_the_image(tmp_path: Path, folder: Path, qupath: bool, step: int) -> None:
    whole = Box.of_shape((90, 130))
    for y in range(0, 90, step):
        for x in range(0, 130, step):
            cut(folder, PIXELS, Box(y, x, y + 40, x + 40).intersect(whole), qupath)
    result = stitch_crops(folder, tmp_path / "whole.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "whole.tif"), PIXELS)
    assert result.shape == (90, 130) and result.parts == len(list(folder.iterdir()))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_types_and_channels_are_kept(tmp_path: Path, folder: Path, dtype: type[np.generic]) -> None:
    pixels = make_pixels(40, 50, channels=3).astype(dtype)
    cut(folder, pixels, Box(0, 0, 40, 30))
    cut(folder, pixels, Box(0, 20, 40, 50))
    stitch_crops(folder, tmp_path / "whole.tif")
    found = tifffile.imread(tmp_path / "whole.tif")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.moveaxis(pixels, 2, 0))


def test_gaps_are_named(tmp_path: Path, folder: Path) -> None:
    for box in (Box(0, 0, 40, 130), Box(40, 0, 90, 50), Box(40, 70, 90, 130)):
        cut(folder, PIXELS, box)
    with pytest.raises(Incomplete, match="leave 1 gap: y 40 to 90, x 50 to 70;"):
        stitch_crops(folder, tmp_path / "whole.tif")
    cut(folder, PIXELS, Box(50, 40, 90, 80))
    with pytest.raises(Incomplete, match="y 40 to 50, x 50 to 70;"):
        stitch_crops(folder, tmp_path / "whole.tif")
    with pytest.raises(Incomplete, match="y 90 to 100, x 0 to 130"):
        stitch_crops(folder, tmp_path / "whole.tif", shape=(100, 130))
    assert not (tmp_path / "whole.tif").exists()


def test_a_missing_first_crop_is_a_gap(tmp_path: Path, folder: Path) -> None:
    cut(folder, PIXELS, Box(0, 40, 90, 130))
    with pytest.raises(Incomplete, match="y 0 to 90, x 0 to 40"):
        stitch_crops(folder, tmp_path / "whole.tif")


def test_overlaps_that_disagree_are_named(tmp_path: Path, folder: Path) -> None:
    one = cut(folder, PIXELS, Box(0, 0, 90, 80))
    changed = PIXELS.copy()
    changed[33, 77] += 1
    changed[55, 71] += 1
    other = cut(folder, changed, Box(0, 70, 90, 130))
    with pytest.raises(InputError, match="disagree where they overlap, first at y 33, x 77") as refusal:
        stitch_crops(folder, tmp_path / "whole.tif")
    assert one.name in str(refusal.value) and other.name in str(refusal.value)
    assert not (tmp_path / "whole.tif").exists() and len(list(tmp_path.iterdir())) == 1


def test_what_is_no_mosaic_is_refused(tmp_path: Path, folder: Path) -> None:
    first = cut(folder, PIXELS, Box(0, 0, 90, 80))
    out = tmp_path / "whole.tif"
    refused = {
        "other": "2 images .other, slide.",
        "kind": "differ in kind",
        "stray": "no offset in its name",
        "size": "its name says 90 × 60",
        "downsampled": "its name says 22 × 15",
        "both": "differ in their downsampling",
        "unknown": r"is not understood: \[x=80,y=0,w=60,h=90,c=2\] needs whole numbers x, y, w and h, and may",
        "fraction": "is not understood",
        "enlarged": "is not understood",
    }
    for case, text in refused.items():
        match case:
            case "other":
                path = cut(folder, PIXELS, Box(0, 80, 90, 130), name="other")
            case "kind":
                path = cut(folder, PIXELS.astype(np.uint16), Box(0, 80, 90, 130))
            case "stray":
                path = folder / "overview.tif"
                path.write_bytes(first.read_bytes())
            case "size":
                path = folder / "slide [x=80,y=0,w=60,h=90].tif"
                path.write_bytes(first.read_bytes())
            case "both":
                path = folder / "slide [d=2,x=80,y=0,w=160,h=180].tif"
                path.write_bytes(first.read_bytes())
            case _:
                fields = {
                    "downsampled": "d=4,x=80,y=0,w=60,h=90",
                    "unknown": "x=80,y=0,w=60,h=90,c=2",
                    "fraction": "x=80.5,y=0,w=60,h=90",
                    "enlarged": "d=0.5,x=80,y=0,w=40,h=45",
                }[case]
                path = folder / f"slide [{fields}].tif"
                path.write_bytes(first.read_bytes())
        with pytest.raises(InputError, match=text) as refusal:
            stitch_crops(folder, out)
        assert "\n" not in str(refusal.value)
        path.unlink()
    assert not out.exists()


@pytest.mark.parametrize(
    "name",
    ["s [x=²,y=0,w=1,h=1]", "s [x=1,y=0,w=1,h=99999999999]", "s_y1_x99999999999", "s_y1_x" + "9" * 200, "s_y²_x0"],
)
def test_absurd_names_are_refused_in_a_line(name: str) -> None:
    with pytest.raises(InputError, match=r"offset in its name|not understood") as refused:
        CropName.parse(Path(f"{name}.tif"))
    assert "\n" not in str(refused.value)


def test_names() -> None:
    assert CropName.parse(Path("a/my_slide_y00384_x00768.tif")) == CropName("my_slide", 384, 768)
    assert CropName.parse(Path("y1_x2.png")) == CropName("", 1, 2)
    assert CropName.parse(Path("my slide [x=768,y=384,w=512,h=500].tif")) == CropName("my slide", 384, 768, (500, 512))
    assert CropName.parse(Path("s [d=1,x=1,y=2,w=3,h=4].tif")) == CropName("s", 2, 1, (4, 3))
    assert CropName.parse(Path("s [d=2.5,x=100,y=50,w=30,h=41,z=0,t=0]-labelled.png")) == CropName(
        "s-labelled", 20, 40, (16, 12), 2.5
    )


@pytest.mark.parametrize("role", ["", "-labelled", " mask"])
@pytest.mark.parametrize("downsample", [1, 4, 2.5])
def test_tiles_of_qupath_lie_where_their_names_say(tmp_path: Path, folder: Path, role: str, downsample: float) -> None:
    """Names speak of px of the slide, from which the tiles were made smaller; the last ones are cut off."""
    for y in range(0, 90, 40):
        for x in range(0, 130, 40):
            box = Box(y, x, min(90, y + 40), min(130, x + 40))
            place = (round(n * downsample) for n in (x, y, box.width, box.height))
            fields = ",".join(f"{name}={n}" for name, n in zip("xywh", place, strict=True))
            d = "" if downsample == 1 else f"d={downsample},"
            tifffile.imwrite(folder / f"slide [{d}{fields}]{role}.tif", PIXELS[box.slices])
    stitch_crops(folder, tmp_path / "whole.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "whole.tif"), PIXELS)


def test_images_and_their_labels_are_two_images(tmp_path: Path, folder: Path) -> None:
    for role in ("", "-labelled"):
        tifffile.imwrite(folder / f"slide [x=0,y=0,w=130,h=90]{role}.tif", PIXELS)
    with pytest.raises(InputError, match=r"crops of 2 images \(slide, slide-labelled\)"):
        stitch_crops(folder, tmp_path / "whole.tif")


def test_a_part_of_an_image_begins_where_its_crops_do(tmp_path: Path, folder: Path) -> None:
    sized = {"resolution": (2e4, 4e4), "resolutionunit": "CENTIMETER", "metadata": None}
    for box in (Box(0, 0, 90, 50), Box(0, 50, 90, 130)):
        name = f"slide [d=2,x={2 * (box.x0 + 1000)},y={2 * (box.y0 + 3000)},w={2 * box.width},h=180].tif"
        tifffile.imwrite(folder / name, PIXELS[box.slices], **sized)
    with pytest.raises(Incomplete, match="or give --region if they are of a part of the image"):
        stitch_crops(folder, tmp_path / "whole.tif")
    result = stitch_crops(folder, tmp_path / "part.tif", region=True)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "part.tif"), PIXELS)
    assert result.start == (3000, 1000) and result.to_dict()["start"] == [3000, 1000]
    with open_slide(tmp_path / "part.tif") as slide:
        assert slide.origin_um == pytest.approx((3000 * 0.25, 1000 * 0.5))
