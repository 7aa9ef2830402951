"""Every GPU of a machine at one image, a process for each; where there is one alone, two processes share it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tifffile

from tests.narrow import make_checkpoint, make_pixels
from unettile.checkpoint import save_checkpoint
from unettile.cli import run
from unettile.devices import list_cuda

pytestmark = pytest.mark.gpu


def test_the_file_is_that_of_one_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    devices = list_cuda()
    devices *= 2 if len(devices) == 1 else 1
    monkeypatch.setattr("unettile.devices.list_cuda", lambda: devices)
    save_checkpoint(make_checkpoint(widths=(16, 32, 64)), tmp_path / "model.safetensors")
    tifffile.imwrite(tmp_path / "image.tif", make_pixels(3500, 3100 * len(devices)), tile=(256, 256))
    words = ["segment", str(tmp_path / "image.tif"), "-m", str(tmp_path / "model.safetensors"), "--diameter", "off"]
    for name in ("cuda:0", "cuda:all"):
        assert run([*words, "-o", str(tmp_path / f"{name}.tif"), "--device", name, "--json"]) == 0
    shown = capsys.readouterr()
    one, every = map(json.loads, shown.out.splitlines())
    assert (tmp_path / "cuda:0.tif").read_bytes() == (tmp_path / "cuda:all.tif").read_bytes()
    assert every["blocks_computed"] == one["blocks_computed"] and every["devices"] == list(devices)
    assert f"computed by {len(devices)} processes" in shown.err
