"""Write docs/notebook.ipynb, its cells run: `python docs/make_notebook.py`. The text of the notebook stands here."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "notebook.ipynb"
SAMPLES = Path(__file__).parent.parent / "sample_data"

CELLS = (
    """# First steps in Python

Segment nuclei, measure them, and compare them with labels. Start Jupyter in the folder that holds `sample_data`.
[python.md](python.md) has the rest.""",
    """
import unettile

model = unettile.load("nuclei", device="cpu", precision="fp32")
model
""",
    "An image is opened without being read. This one fits into memory, so we read all of it.",
    """
name = "nuclei_y00000_x00448.tif"
image = unettile.open(f"sample_data/nuclei/images/{name}").read()
image.shape, image.dtype
""",
    "One pass of the network gives the classes of the pixels and the ids of the objects.",
    """
found = model.segment(image, write=["classes", "instances"])
mask, ids = found["classes"], found["instances"]
f"{ids.max()} objects, {mask.mean():.0%} of the image"
""",
    "Each object is a row, in the order of ids. Where pandas is installed, this is a DataFrame.",
    """
cells = unettile.objects(ids, image=image, instances=True)
largest = int(cells["area_px"].argmax())
{name: round(float(cells[name][largest]), 1) for name in ("id", "area_px", "eccentricity", "mean_intensity_0")}
""",
    "These labels were made by a classical method. They are no ground truth, but they show what scores look like.",
    """
truth = unettile.open(f"sample_data/nuclei/labels/{name}").read()
scores = unettile.evaluate(ids, truth, objects=True, instances=True)
{name: round(scores.pooled.figures[name], 2) for name in ("mean_iou", "ap_50", "f1_50")}
""",
    "The weight map of the U-Net paper is large where background lies between two close nuclei.",
    """
weights = unettile.weight_map(truth)
f"from {weights.min():.2f} to {weights.max():.2f}"
""",
    "With a file for the mask, the same call takes images of any size. If it is stopped, make it again: it goes on.",
    """
model.segment("sample_data/nuclei.tif", "mask.tif", overwrite=True)
unettile.open("mask.tif")
""",
)
"""Text and code by turns; code begins with a new line."""


def make() -> str:
    """Return the notebook, its cells run one after the other in a temporary folder that holds the sample data."""
    cells: list[dict[str, Any]] = []
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("sample_data").symlink_to(SAMPLES)
        for number, text in enumerate(CELLS):
            head = {"id": f"cell-{number}", "metadata": {}, "source": text.strip().splitlines(keepends=True)}
            if text.startswith("\n"):
                count = sum("outputs" in cell for cell in cells) + 1
                outputs = run_cell(text, names, count)
                cells.append({"cell_type": "code", "execution_count": count, **head, "outputs": outputs})
            else:
                cells.append({"cell_type": "markdown", **head})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def run_cell(code: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run a cell; return what a notebook shows below it: what it prints, and the value of a last expression."""
    tree, shown = ast.parse(code), io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(shown), warnings.catch_warnings(action="ignore"):
        exec(compile(tree, "<cell>", "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if shown.getvalue():
        text = shown.getvalue().splitlines(keepends=True)
        outputs.append({"name": "stdout", "output_type": "stream", "text": text})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        outputs.append({"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"})
    return outputs


if __name__ == "__main__":
    PAGE.write_text(make(), "utf-8")
