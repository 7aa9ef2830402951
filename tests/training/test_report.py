"""The page of a training run: well-formed, complete in itself, and readable in a real browser where there is one."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.runs import RECIPE, make_job, run
from unettile.box import Box
from unettile.images.arrays import ArrayImage
from unettile.metrics.objects import match_counts
from unettile.report.chart import Axis, Line, line_chart
from unettile.report.page import write_report
from unettile.report.pictures import EDGE, MISSED, draw_panels
from unettile.training.pairs import Pair
from unettile.training.parts import LabelPart, LossPart
from unettile.training.survey import Source, survey
from unettile.training.validate import Judge, Predicted

PANELS = 5


@pytest.fixture
def page(data: Path) -> Path:
    """The report of a short run with three classes, whose folder has a name that HTML must escape."""
    recipe = replace(RECIPE, labels=LabelPart(border=2, names=("<ground>", "cell & co")))
    result, _ = run(make_job(data, recipe))
    path = result.folder / "report.html"
    write_report(result, recipe, path)
    return path


def test_the_page_is_well_formed_and_needs_nothing_else(page: Path) -> None:
    text = page.read_text("utf-8")
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    assert not [e for e in root.iter() if e.tag.endswith(("script", "link", "iframe", "object"))]
    addresses = [v for e in root.iter() for k, v in e.attrib.items() if k in ("src", "href", "srcset", "data")]
    assert addresses and all(address.startswith("data:image/") for address in addresses)
    assert "url(" not in text and "@import" not in text and "http" not in text
    for heading in ("Curves", "Classes", "All images, the worst first", "What the run cost", "Recipe"):
        assert f">{heading}</h2>" in text
    assert "&lt;ground&gt;" in text and "cell &amp; co" in text


def test_every_picture_can_be_decoded_and_shows_a_validation_image(page: Path) -> None:
    found = re.findall(r'<img src="data:image/(\w+);base64,([^"]+)" alt="([^"]+)"', page.read_text("utf-8"))
    names = (page.parent / "validation.txt").read_text().split()
    assert len(found) == PANELS * len(names)
    for kind, content, alternative in found:
        pixels = decode(f"data:image/{kind};base64,{content}")
        assert pixels.shape == (70, 90, 3) and alternative.split(" of ")[1] in names


def test_of_a_large_image_the_worst_part_is_shown_and_all_of_it(tmp_path: Path) -> None:
    """Here a cell at the lower right is missed, so that the part is that corner."""
    labels = np.zeros((700, 900), np.uint16)
    labels[100:150, 100:150], labels[640:690, 850:880] = 1, 2
    pair = Pair(ArrayImage(np.full(labels.shape, 80, np.uint8)), ArrayImage(labels))
    recipe = replace(RECIPE, loss=LossPart(w0=0.0))
    (source,) = survey([pair], recipe)

    class Blind(Judge):
        def __init__(self) -> None:
            pass

        def predict(self, source: Source) -> Predicted:
            found = (labels == 1)[None].astype(np.float32)
            return Predicted(Box.of_shape(labels.shape), np.concatenate([1 - found, found]))

    pictures = dict(draw_panels(source, Blind(), recipe, ((0, 0, 0), (255, 255, 255))))
    assert list(pictures) == ["image", "truth", "prediction", "error", "all of it, and where"], "weights are all 1"
    error = decode(pictures["error"])
    assert error.shape == (EDGE, EDGE, 3) and (error == MISSED).all(axis=2).sum() == 50 * 30
    assert (decode(pictures["prediction"]) == 0).all()
    whole = decode(pictures["all of it, and where"])
    assert whole.shape == (233, 300, 3) and whole[180, 297].min() > 150 > whole[20, 20].max(), "a frame at the corner"


def test_what_is_not_there_is_not_shown(data: Path) -> None:
    """No objects: no AP; few images: no heading above nothing."""
    result, _ = run(make_job(data, RECIPE))
    none = match_counts(*2 * [np.zeros((2, 2), int)], (0.5,))
    empty = tuple(replace(score, objects=none) for score in result.validation.images)
    result = replace(result, validation=replace(result.validation, images=empty))
    write_report(result, RECIPE, result.folder / "report.html")
    text = (result.folder / "report.html").read_text("utf-8").partition("<h2>Recipe")[0]
    assert not re.search(r"\bAP\b", text) and "no objects" in text
    assert not re.search(r"</h2><h2>", text)


def decode(uri: str) -> NDArray[np.uint8]:
    kind, content = re.fullmatch(r"data:image/(\w+);base64,(.+)", uri).groups()  # type: ignore[union-attr]
    pixels: NDArray[np.uint8] = {"png": imagecodecs.png_decode, "jpeg": imagecodecs.jpeg_decode}[kind](
        base64.b64decode(content)
    )
    return pixels


def test_curves_show_what_they_are_given() -> None:
    lines = [Line("a & b", "a", (1.0, float("nan"), 0.01)), Line("none", "b", (float("nan"),) * 3)]
    root = ElementTree.fromstring(line_chart([1, 2, 3], lines, Axis("loss", log=True), 3))
    titles = [e.text for e in root.iter() if e.tag == "title"]
    assert titles == ["a & b, epoch 1: 1", "a & b, epoch 3: 0.01"]
    numbers = [float(e.text or "nan") for e in root.iter() if e.tag == "text" and e.text != "epoch"]
    assert {0.01, 0.1, 1.0} <= set(numbers)
    for value in (0.5, 5e-15, 3e14):
        single = ElementTree.fromstring(line_chart([1], [Line("a", "a", (value,))], Axis("loss", log=True), 1))
        assert len([e for e in single.iter() if e.tag == "circle"]) == 1
        numbers = [float(e.text or "nan") for e in single.iter() if e.get("text-anchor") == "end"]
        assert len(numbers) > 1 and min(numbers) < value * 1.1 and max(numbers) > value * 0.9


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to render the page with")
def test_a_browser_renders_the_page(page: Path, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path}/profile",
    ]
    command = ["chromium", *options, "--window-size=1200,2400", f"--screenshot={shot}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    pixels = imagecodecs.png_decode(shot.read_bytes())
    assert pixels.shape[:2] == (2400, 1200)
    assert len(np.unique(pixels[..., :3].reshape(-1, 3), axis=0)) > 200  # pictures, not an empty or broken page
