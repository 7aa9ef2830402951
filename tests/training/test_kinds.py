"""Kinds of data: many channels and bits, grey among colour, palettes, pictures as labels, images too large to load."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch

from tests.training.runs import RECIPE, make_job, run
from unettile.checkpoint import load_checkpoint
from unettile.errors import InputError
from unettile.images import cache
from unettile.images.colours import distinct_colours
from unettile.images.palette import read_palette
from unettile.metrics.objects import connected_components
from unettile.training import reader
from unettile.training.pairs import Pair
from unettile.training.parts import AugmentPart, ImagePart, LabelPart, SamplePart
from unettile.training.recipe import NetworkPart, Recipe
from unettile.training.samples import Samples
from unettile.training.survey import survey

SHORT = replace(RECIPE, run=replace(RECIPE.run, epochs=1, steps_per_epoch=3))


def rewrite(folder: Path, change: Callable[[int, np.ndarray], None]) -> None:
    """Call `change(index, pixels)` with every PNG of a folder, which writes something in its place."""
    for index, path in enumerate(sorted(folder.glob("*.png"))):
        pixels = imagecodecs.png_decode(path.read_bytes())
        path.unlink()
        change(index, pixels)


def with_channels(recipe: Recipe, channels: int) -> Recipe:
    return replace(recipe, network=NetworkPart(config=recipe.network.config | {"in_channels": channels}))


def test_sixteen_bits_two_channels_and_images_of_different_sizes(data: Path) -> None:
    def deep(index: int, pixels: np.ndarray) -> None:
        wide = np.stack([pixels.astype(np.uint16) * 200, 60000 - pixels.astype(np.uint16) * 100])
        cut = wide[:, : 70 - 5 * index, : 90 - 3 * index]
        tifffile.imwrite(data / "images" / f"{index}.tif", cut, planarconfig="separate", photometric="minisblack")

    def fit(index: int, pixels: np.ndarray) -> None:
        tifffile.imwrite(data / "labels" / f"{index}.tif", pixels[: 70 - 5 * index, : 90 - 3 * index])

    rewrite(data / "images", deep)
    rewrite(data / "labels", fit)
    result, _ = run(make_job(data, replace(with_channels(SHORT, 2), images=ImagePart(per_channel=True))))
    assert result.checkpoint.in_channels == 2 and np.isfinite(result.rows[-1].training_loss)


def test_grey_images_among_colour_ones(data: Path) -> None:
    def colour(index: int, pixels: np.ndarray) -> None:
        picture = pixels if index % 2 else np.stack([pixels, pixels // 2, 255 - pixels], axis=2)
        (data / "images" / f"{index}.png").write_bytes(imagecodecs.png_encode(picture))

    rewrite(data / "images", colour)
    mixed = replace(with_channels(SHORT, 3), images=ImagePart(grey_to_rgb=True), samples=SamplePart(kinds=1.0))
    result, _ = run(make_job(data, mixed))
    assert result.checkpoint.grey_to_rgb and np.isfinite(result.rows[-1].training_loss)
    with pytest.raises(InputError, match=r"set network\.in_channels=3 and images\.grey_to_rgb=true"):
        run(make_job(data, replace(mixed, images=ImagePart()), "b"))


CLASSES = ("ground", "disc", "other")
COLOURS = ((10, 20, 30), (250, 0, 0), (0, 0, 250))


@pytest.mark.parametrize("kind", ["palette png", "palette tiff", "picture", "plain"])
def test_classes_keep_their_names_and_colours(data: Path, kind: str) -> None:
    table = np.zeros((256, 3), np.uint8)
    table[:3] = COLOURS

    def paint(index: int, pixels: np.ndarray) -> None:
        classes = np.minimum(pixels, 2)
        if kind == "palette png":
            path = data / "labels" / f"{index}.png"
            path.write_bytes(palette_png(classes, table[:3]))
        elif kind == "palette tiff":
            wide = table.T.astype(np.uint16) * 257
            tifffile.imwrite(data / "labels" / f"{index}.tif", classes, photometric="palette", colormap=wide)
        else:
            shown = table[classes] if kind == "picture" else classes
            (data / "labels" / f"{index}.png").write_bytes(imagecodecs.png_encode(shown))

    rewrite(data / "labels", paint)
    labels = LabelPart(kind="classes", names=CLASSES, colors=COLOURS if kind == "picture" else ())
    result, _ = run(make_job(data, replace(SHORT, labels=labels)))
    classes = load_checkpoint(data / "model.safetensors").classes
    assert tuple(info.name for info in classes) == CLASSES
    assert tuple(info.color for info in classes) == (distinct_colours(3) if kind == "plain" else COLOURS)
    assert result.validation.confusion.shape == (3, 3)


def test_a_border_class_is_learned_beside_the_objects(data: Path) -> None:
    recipe = replace(SHORT, labels=LabelPart(border=4), samples=SamplePart(balance="classes"))
    result, _ = run(make_job(data, recipe))
    assert [info.name for info in result.checkpoint.classes] == ["background", "object", "border"]
    assert result.best.ap is not None and 0 <= result.best.iou <= 1


def test_a_depth_is_learned_beside_the_objects(data: Path) -> None:
    longer = replace(RECIPE.run, epochs=4, steps_per_epoch=15)
    recipe = replace(RECIPE, labels=LabelPart(depth=True), run=longer)
    job = make_job(data, recipe)
    result, _ = run(job)
    checkpoint = load_checkpoint(data / "model.safetensors")
    assert checkpoint.depth and len(checkpoint.classes) == 2 and checkpoint.config["classes"] == 3
    assert result.best.iou > 0.4
    sample = Samples(survey(job.validation, recipe), recipe, checkpoint.geometry.margin, None)[0]
    assert not isinstance(sample, InputError)
    window, _, _, depth = (torch.from_numpy(array) for array in sample)
    with torch.inference_mode():
        found = checkpoint.build()(window[None])[0, 2].sigmoid()
    assert torch.corrcoef(torch.stack((found.ravel(), depth.ravel())))[0, 1] > 0.7


def palette_png(numbers: np.ndarray, table: np.ndarray) -> bytes:
    """Return a PNG whose numbers are those of a palette."""
    from unettile.images.png import PNG_SIGNATURE, png_chunk

    plain = imagecodecs.png_encode(numbers)
    header = plain[16:25] + bytes([3]) + plain[26:29]
    rest = plain[33:]
    return PNG_SIGNATURE + png_chunk(b"IHDR", header) + png_chunk(b"PLTE", table.tobytes()) + rest


def test_a_file_without_a_palette_has_none(data: Path) -> None:
    assert read_palette(data / "labels" / "0.png") is None
    (data / "x.tif").write_bytes(b"II*\0 and nothing else")
    assert read_palette(data / "x.tif") is None


EDGE, TILE = 8192, 512


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """An RGB slide of 201 MB once decoded, and its labels: discs on a grid."""
    folder = tmp_path_factory.mktemp("slide")
    y, x = np.mgrid[:TILE, :TILE] % 128
    disc = ((y - 64) ** 2 + (x - 64) ** 2 < 40**2).astype(np.uint8)
    picture = np.stack([disc * 150 + 50, disc * 50 + 100, 200 - disc * 90], axis=2).astype(np.uint8)

    def tiles(tile: np.ndarray) -> Iterator[np.ndarray]:
        yield from (tile for _ in range((EDGE // TILE) ** 2))

    common = {"tile": (TILE, TILE), "compression": "zlib", "dtype": np.uint8}
    image, labels = folder / "slide.tif", folder / "slide_labels.tif"
    tifffile.imwrite(image, tiles(picture), shape=(EDGE, EDGE, 3), photometric="rgb", **common)
    tifffile.imwrite(labels, tiles(disc), shape=(EDGE, EDGE), **common)
    return Pair(image, labels)


def test_a_slide_is_trained_from_without_loading_it(slide: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT_BYTES", 2**24)  # the cache of tiles, which is bounded, too
    classes = LabelPart(kind="classes")
    recipe = replace(with_channels(RECIPE, 3), labels=classes)
    tracemalloc.start()
    try:
        samples = Samples(survey([slide], recipe), recipe, 20, None)
        found = [samples[index] for index in range(12)]
        _, peak = tracemalloc.get_traced_memory()
        samples.close()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20, f"{peak / 2**20:.0f} MiB of a slide of {3 * EDGE**2 / 2**20:.0f} MiB"
    assert 0.05 < np.mean([sample[1].mean() for sample in found if isinstance(sample, tuple)]) < 0.6  # discs: 0.31


def test_an_image_held_in_memory_and_one_read_by_region_give_the_same_samples(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(data, replace(RECIPE, labels=LabelPart(border=2)))
    sources = survey(job.training, job.recipe)
    held = [Samples(sources, job.recipe, 20, (1.0, 2.0, 3.0))[index] for index in range(6)]
    monkeypatch.setattr(reader, "HELD_BYTES", 0)
    reading = Samples(sources, job.recipe, 20, (1.0, 2.0, 3.0))
    by_region = [reading[index] for index in range(6)]
    reading.close()
    for one, other in zip(held, by_region, strict=True):
        assert isinstance(one, tuple) and isinstance(other, tuple)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_plain_samples_hold_the_pixels_of_the_file(data: Path) -> None:
    job = make_job(data, replace(RECIPE, augment=AugmentPart(plain=1.0)))
    (source, *_) = survey(job.training[:1], job.recipe)
    found = Samples([source], job.recipe, 20, None)[0]
    assert isinstance(found, tuple)
    scaled = source.scaling.apply(imagecodecs.png_decode(source.pair.image.read_bytes())[..., None])
    levels = np.unique(scaled)
    nearest = levels[np.abs(found[0].ravel()[:, None] - levels).argmin(axis=1)]
    np.testing.assert_allclose(found[0].ravel(), nearest, atol=1e-6)  # nothing between two levels of the file
    assert len(np.unique(nearest)) > 20


def test_an_image_that_breaks_during_training_is_refused_in_one_line(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker process meets reaches the user as it was said."""
    monkeypatch.setattr(reader.PairReader.__init__, "__defaults__", (1,))  # nothing is kept
    job = replace(make_job(data, SHORT), workers=1)
    broken = job.training[0].image.read_bytes()[:200]

    def spoil(step: int) -> None:
        for pair in job.training:
            pair.image.write_bytes(broken)

    many = replace(job, recipe=replace(SHORT, run=replace(SHORT.run, steps_per_epoch=60)))
    with pytest.raises(InputError, match=r"^cannot read .*: damaged or truncated PNG"):
        run(many, spoil)


def test_the_connected_parts_of_a_mask_are_objects(data: Path) -> None:
    """A mask of 0 and 255 trains as its parts do when each has an id: border weights lie between them."""

    def white(index: int, pixels: np.ndarray) -> None:
        parts = connected_components(pixels > 0)
        (data / "ids" / f"{index}.png").write_bytes(imagecodecs.png_encode(parts.astype(np.uint8)))
        (data / "labels" / f"{index}.png").write_bytes(imagecodecs.png_encode((pixels > 0) * np.uint8(255)))

    (data / "ids").mkdir()
    rewrite(data / "labels", white)
    by_mask, _ = run(make_job(data, replace(SHORT, labels=LabelPart(kind="components"))))
    (data / "labels").rename(data / "masks")
    (data / "ids").rename(data / "labels")
    by_id, _ = run(make_job(data, SHORT, "ids"))
    assert by_mask.rows[0].training_loss == by_id.rows[0].training_loss
    assert by_mask.best.ap is not None
