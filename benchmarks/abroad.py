"""How right is the recipe of the shipped model on sources that it never saw: each source is left out in turn.

The recipe `nuclei` trains from five sources, which UNETTILE_DATA names. Here it trains from four of them, for a given
time, by the same command but for the source that is taken out of the recipe; images of that source are then segmented
and scored without any options, as a user would, their object size estimated. What this finds is what a user should
expect on images of another laboratory, but for what a longer training adds.

    python -m benchmarks.abroad --encoder efficientnet-lite0-57934424.pth -o benchmarks/results/abroad.json --minutes 30
"""

from __future__ import annotations

import json
import re
import tempfile
from importlib.resources import files
from pathlib import Path

from benchmarks.measure import finish, machine, make_parser, run_child
from benchmarks.recipes import DATA, put, scores

MOST = 40
"""Images of a group that are judged, at even distances in the order of their names."""

OPEN = DATA / "nuclei_open"
FOLDERS = {
    "dsb2018": DATA / "dsb2018_train",
    "kromp": OPEN / "kromp_sbsst265",
    "nuinsseg": OPEN / "nuinsseg_he",
    "bitdepth": OPEN / "bitdepth_dapi_tissue",
    "cervical": OPEN / "cervical_pap",
}
KINDS = {"gray-dark": "fluorescence", "gray-bright": "bright field", "color-bright": "stained", "color-dark": "stained"}


def recipe_without(source: str) -> str:
    """Return the shipped recipe without the table of one source."""
    text = (files("unettile") / "training" / "recipes" / "nuclei.toml").read_text("utf-8")
    left, found = re.subn(rf"^\[sources\.{source}\]\n(?:(?!\[).*\n)*", "", text, flags=re.MULTILINE)
    assert found == 1, source
    return left


def groups_of(source: str) -> dict[str, list[Path]]:
    """Return the images of a source that are judged, by kind where it has several."""
    folder = FOLDERS[source]
    found: dict[str, list[Path]] = {}
    kinds = {}
    if source == "dsb2018":
        kinds = {name: KINDS.get(kind, kind) for name, *_, kind in json.loads((folder / "index.json").read_text())}
    for image in sorted((folder / "images").iterdir()):
        found.setdefault(kinds.get(image.stem, ""), []).append(image)
    return {kind: images[:: -(-len(images) // MOST)] for kind, images in sorted(found.items())}


def judge(model: Path, source: str, folder: Path) -> list[dict[str, object]]:
    """Segment and score the images of a source, and return figures for each kind of them as JSON values."""
    rows = []
    for number, (kind, images) in enumerate(groups_of(source).items()):
        place = folder / f"{source}-{number}"
        put(
            ((image, next((FOLDERS[source] / "labels").glob(f"{image.stem}.*")), slice(None)) for image in images),
            place,
        )
        means = scores(model, place, place / "masks", objects=True)
        figures = {name: round(float(means[name]), 4) for name in ("ap_50", "mean_ap", "dice_1")}
        rows.append({"source": source, "kind": kind, "judged": len(images), **figures})
    return rows


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="that each training has")
    parser.add_argument("--encoder", type=Path, help="ImageNet parameters of the encoder; without, it begins at random")
    parser.add_argument(
        "--processes", type=int, default=1, help="that train together, each with its share of the cores"
    )
    parser.add_argument("--sources", nargs="+", default=list(FOLDERS), choices=list(FOLDERS))
    parser.add_argument("--keep", type=Path, help="a folder for recipes, models and masks, which stay there")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for source in options.sources:
            recipe, model = folder / f"{source}.toml", folder / f"{source}.safetensors"
            recipe.write_text(recipe_without(source), "utf-8")
            train = ["train", DATA, DATA, "-o", model, "--recipe", recipe]
            train += ["--max-time", f"{round(60 * options.minutes)}s"]
            if options.encoder:
                train += ["--set", f"encoder_parameters={options.encoder}"]
            together = ["--standalone", "--nproc-per-node", options.processes, "-m", "unettile"]
            run_child("torch.distributed.run", [*together, *train, "--quiet"])
            rows += judge(model, source, folder)
            result = {"machine": machine("torch"), "processes": options.processes, "minutes": options.minutes}
            result["encoder"] = bool(options.encoder)
            finish(result | {"groups": rows}, options.output)  # as soon as it is there


if __name__ == "__main__":
    main()
