"""`models` through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tifffile
import torch

from tests.contracts.test_networks import make_checkpoint
from tests.scenarios.conftest import Cli
from unettile.checkpoint import save_checkpoint
from unettile.models import MODELS


def test_the_card_of_a_file(cli: Cli, model: Path) -> None:
    done = cli("models", model)
    assert done.code == 0 and done.err == ""
    for part in ("tiny", "unet", "0 background, 1 cell", "margin 92 px, stride 16 px", "4 + 16k", "CC0-1.0", "sha256"):
        assert part in done.out, part
    described = json.loads(cli("models", model, "--json").out)
    assert described["geometry"] == {"margin": 92, "stride": 16, "base": 4, "exact": True}
    assert len(described["sha256"]) == 64 and described["channels"] == 1
    assert described["receptive_field"] == 204 and described["largest_difference"] is None
    costs = described["flops_per_pixel"]
    assert [entry["tile"] for entry in costs] == [388, 772, 1540]
    assert costs[0]["flops"] > costs[1]["flops"] > costs[2]["flops"] > 0


def test_the_card_is_made_for_reading(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the width of the terminal, figures with four digits, keys and values as `--set` takes them."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in MODELS:
        shown = cli("models", name).out
        assert max(len(line) for line in shown.splitlines()) <= 80
        assert not re.search(r"\d\.\d{5}|True|False|[{}']", shown), shown
    assert "batch_norm true" in cli("models", "nuclei-valid").out


def test_the_shipped_models_say_how_large_their_objects_are(cli: Cli) -> None:
    for name in MODELS:
        described = json.loads(cli("models", name, "--json").out)
        size = described["objects_px"]
        assert 5 < size["low"] < size["median"] < size["high"] < 100
        assert f"{size['low']:g} to {size['high']:g} px across, median {size['median']:g}" in cli("models", name).out


def test_the_list(cli: Cli) -> None:
    done = cli("models")
    assert done.code == 0 and [line.split()[0] for line in done.out.splitlines()] == list(MODELS)
    listed = json.loads(cli("models", "--json").out)["models"]
    assert [entry["name"] for entry in listed] == list(MODELS)


def test_an_unknown_model_names_the_known_ones(cli: Cli) -> None:
    done = cli("models", "nucleii")
    assert done.code == 3 and "nuclei" in done.err and done.err.count("\n") == 1


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net++ of random parameters."""
    path = tmp_path_factory.mktemp("nested") / "nested.safetensors"
    save_checkpoint(make_checkpoint(("unet++", {"in_channels": 1, "widths": [4, 4, 6, 6, 8]})), path)
    return path


def test_a_pruned_model_is_written_segments_and_costs_less(cli: Cli, nested: Path, image: Path, tmp_path: Path) -> None:
    pruned = tmp_path / "pruned.safetensors"
    whole = json.loads(cli("models", nested, "--json").out)
    done = cli("models", nested, "--set", "prune=2", "-o", pruned, "--json")
    assert done.code == 0 and json.loads(done.out)["config"]["prune"] == 2
    described = json.loads(cli("models", pruned, "--json").out)
    assert described["sha256"] == json.loads(done.out)["sha256"] != whole["sha256"]
    assert described["geometry"]["stride"] == 4
    assert all(
        2 * a["flops"] < b["flops"] for a, b in zip(described["flops_per_pixel"], whole["flops_per_pixel"], strict=True)
    )
    assert cli("segment", image, "-o", tmp_path / "mask.tif", "-m", pruned).code == 0
    done = cli("models", nested, "--set", "prune=2", "-o", pruned)
    assert done.code == 0 and "is finished already" in done.err
    done = cli("models", nested, "--set", "prune=1", "-o", pruned)
    assert done.code == 3 and "exists and is another: choose another name, or give --overwrite" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--set", "prune"), 2, "need KEY=VALUE"),
        (("--set", "prune=9"), 3, "need 0 <= prune <= 4"),
        (("--set", "prun=2"), 3, "did you mean 'prune'"),
        (("--set", "classes=3"), 3, "does not have"),
        (("-o", "a.safetensors"), 2, "give --set, too"),
        (("--set", "prune=2", "-o", "a.pth"), 2, "a .safetensors file"),
    ],
)
def test_changes_that_cannot_be_meant(
    cli: Cli, nested: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = cli("models", nested, *arguments)
    assert done.code == code and message in done.err and done.err.count("\n") == 1


def test_changes_need_a_model(cli: Cli) -> None:
    assert cli("models", "--set", "prune=2").code == 2


def test_a_program_is_read_with_trust_alone(cli: Cli, image: Path, tmp_path: Path) -> None:
    auto = torch.export.Dim.AUTO
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    program = torch.export.export(network, (torch.rand(2, 1, 32, 32),), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    for arguments in (("models", path), ("segment", image, "-o", tmp_path / "mask.tif", "-m", path)):
        refused = cli(*arguments)
        assert refused.code == 3 and "--trust" in refused.err and refused.err.count("\n") == 1
        done = cli(*arguments, "--trust")
        assert done.code == 0 and "margin 1 px, stride 1 px" in done.out + done.err
    assert (tmp_path / "mask.tif").exists()


def test_a_network_that_is_not_exact_says_so_and_by_how_much(cli: Cli, image: Path, tmp_path: Path) -> None:
    narrow = {"mids": [2] * 6, "outs": [2] * 6, "decoder_mids": [2] * 5, "decoder_outs": [2] * 5, "in_channels": 1}
    path = tmp_path / "u2netp.safetensors"
    saved = save_checkpoint(make_checkpoint(("u2netp", narrow)), path)
    done = cli("segment", image, "-o", tmp_path / "mask.tif", "-m", path)
    assert done.code == 0 and f"by up to {saved.difference:.2g} of a probability" in done.err
    with tifffile.TiffFile(tmp_path / "mask.tif") as file:
        record = json.loads(file.pages[0].description)
    assert record["model"]["largest_difference"] == saved.difference


def test_a_package_passes_its_own_test_or_is_refused(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from tests.exchange.packages import computed, described, given, sigmoid, write
    from tests.exchange.test_onnx import small

    wanted = sigmoid(computed(small(tmp_path / "net.onnx"), given() / 100))
    description = described("0.5.3", [{"scale_linear": {"gain": 0.01}}], [{"sigmoid": {}}], {})
    path = write(tmp_path / "good.zip", description, wanted)
    done = cli("models", path, "--check")
    assert done.code == 0 and "passes its own test: largest difference" in done.err and "stem" in done.out
    done = cli("models", write(tmp_path / "bad.zip", description, wanted + 0.1), "--check")
    assert done.code == 3 and "does not pass its own test" in done.err and done.err.count("\n") == 1
    done = cli("models", "nuclei", "--check")
    assert done.code == 3 and "brings no test" in done.err and done.err.count("\n") == 1


def test_an_export_that_is_there_already_is_not_said_to_be_written(
    cli: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.pt2"
    monkeypatch.setattr("unettile.export.export_model", lambda model, path, overwrite: path.write_bytes(b"same"))
    told = [cli("models", model, "--export", path, *more).err for more in ((), (), ("--overwrite",))]
    assert told[0] == told[2] == f"wrote {path}\n"
    assert told[1] == f"{path} is finished already: nothing to do\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(["net.onnx"], 2, "need a model"), (["MODEL", "net.pth"], 2, ".onnx, .pt2"), (["MODEL", "no/net.pt2"], 3, "no/")],
)
def test_exports_that_cannot_be_are_refused(
    cli: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("models", *(model if word == "MODEL" else word for word in words[:-1]), "--export", words[-1])
    assert done.code == code and said in done.err and done.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
