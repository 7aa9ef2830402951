"""`models` through the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.scenarios.conftest import Cli
from unettile.models import MODELS


def test_the_card_of_a_file(cli: Cli, model: Path) -> None:
    done = cli("models", model)
    assert done.code == 0 and done.err == ""
    for part in ("tiny", "unet", "0 background, 1 cell", "margin 92 px, stride 16 px", "4 + 16k", "CC0-1.0", "sha256"):
        assert part in done.out, part
    described = json.loads(cli("models", model, "--json").out)
    assert described["geometry"] == {"margin": 92, "stride": 16, "base": 4, "exact": True}
    assert len(described["sha256"]) == 64 and described["channels"] == 1


def test_the_list(cli: Cli) -> None:
    done = cli("models")
    assert done.code == 0 and [line.split()[0] for line in done.out.splitlines()] == list(MODELS)
    listed = json.loads(cli("models", "--json").out)["models"]
    assert [entry["name"] for entry in listed] == list(MODELS)


def test_an_unknown_model_names_the_known_ones(cli: Cli) -> None:
    done = cli("models", "nucleii")
    assert done.code == 3 and "nuclei" in done.err and done.err.count("\n") == 1
