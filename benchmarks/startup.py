"""How long whole processes take, over `python -c "import torch"` beside which they stand: `--help`, and a small image.

Processes take turns, so that all see the same machine and the same caches of the system.

    python -m benchmarks.startup -o benchmarks/results/startup.json
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.cases import write_mosaic
from benchmarks.measure import finish, machine, make_parser, ratios, rounds_of


def measure(edge: int, rounds: int) -> dict[str, object]:
    """Run the processes in turn and return the figures as JSON values; `edge` of the image, px."""
    with tempfile.TemporaryDirectory() as place:
        image, mask = Path(place) / "image.tif", Path(place) / "mask.tif"
        write_mosaic(image, edge)
        unettile = [sys.executable, "-m", "unettile"]
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "--help": [*unettile, "--help"],
            "segment": [
                *unettile,
                "segment",
                str(image),
                "-o",
                str(mask),
                "-m",
                "nuclei-valid",
                "--device",
                "cpu",
                "--diameter",
                "off",
                "--overwrite",
                "--quiet",
            ],
        }
        run = partial(subprocess.run, check=True, capture_output=True)
        found = rounds_of({name: partial(run, words) for name, words in commands.items()}, rounds, warm_up=rounds > 1)
    return {
        "bench": "startup",
        "machine": machine("torch"),
        "case": {"edge": edge, "rounds": rounds},
        "over_import_torch": {name: ratios(found, name, "import torch") for name in ("--help", "segment")},
    }


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--edge", type=int, default=512, help="of the image, px")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    finish(measure(given.edge, given.rounds), given.output)
