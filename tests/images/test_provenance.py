"""What an output says of itself tells whether it is the one that would be made now; nothing else does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from unettile.errors import InputError
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import write_image
from unettile.images.provenance import differing_keys, is_finished, read_provenance

METADATA: dict[str, Any] = {"unettile": "0.1", "write": ["classes"], "within": None, "scaling": {"low": [0.5]}}
NAMES = ("a.tif", "a.ome.tif", "a.png", "a.ome.zarr")


def write(path: Path, metadata: dict[str, Any]) -> Path:
    layer = Layer("classes", reduction="majority", names=("background", "cell"))
    write_image(path, Canvas((20, 30), (layer,), metadata=metadata), lambda box: np.zeros(box.shape, np.uint8))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_an_output_proves_what_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert not is_finished(path, METADATA)
    write(path, METADATA | {"objects": 7})
    assert read_provenance(path) == METADATA | {"objects": 7}
    assert is_finished(path, METADATA | {"write": ("classes",)}), "a tuple is written as a list"
    os.utime(path, (0, 0))
    assert is_finished(path.rename(tmp_path / f"b{name}"), METADATA), "neither names nor times are asked"
    with pytest.raises(InputError, match=r"\(unettile, within differ\).*--overwrite"):
        is_finished(tmp_path / f"b{name}", METADATA | {"unettile": "0.2", "within": {}})


@pytest.mark.parametrize(
    "content",
    [b"", b"II*\0", b"another's", b"\x89PNG\r\n\x1a\n", b'{"unettile": 1}', b"II*\0\x08\0\0\0" + b"\xff" * 40],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_a_strangers_is_never_taken_for_ours(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    assert read_provenance(path) == {}
    with pytest.raises(InputError, match="is no mask of unettile"):
        is_finished(path, METADATA)


@pytest.mark.parametrize(
    "text", ["", "null", "[" * 100_000, '{"a": 1}', "<OME", '<!DOCTYPE OME><OME xmlns="x"/>', "<OME></OME>"], ids=len
)
def test_descriptions_of_others(tmp_path: Path, text: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.uint8), description=text, metadata=None)
    assert read_provenance(tmp_path / "a.tif") == {}


@pytest.mark.parametrize("text", ["", "{}", '{"attributes": []}', '{"attributes": {"unettile": 3}}', "[" * 100_000])
def test_zarr_directories_of_others(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.zarr").mkdir()
    assert read_provenance(tmp_path / "a.zarr") == {}
    (tmp_path / "a.zarr" / "zarr.json").write_text(text)
    assert read_provenance(tmp_path / "a.zarr") == {}


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tif")
    assert read_provenance(tmp_path / "a.tif") == {}
    (tmp_path / "a.zarr").mkdir()
    os.mkfifo(tmp_path / "a.zarr" / "zarr.json")
    assert read_provenance(tmp_path / "a.zarr") == {}


def test_a_key_that_is_missing_differs() -> None:
    assert differing_keys({"a": None}, {"a": None, "b": None}) == ["b"]
