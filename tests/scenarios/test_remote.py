"""Images on a server, here one on loopback: the mask is that of a local copy, and a lost connection is told of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import s3fs
import tifffile

import unettile
from tests.scenarios.conftest import Cli, make_pixels
from tests.zarrs import files, write_plate, write_zarr
from unettile.images import remote
from unettile.images.remote import RemoteFile
from unettile.images.urls import url_of

SHAPE = 60, 70


class Quiet(ThreadingHTTPServer):
    """A server that says nothing of connections that its clients cut."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Server:
    """A server of a folder over HTTP with ranges; and, as far as it is needed here, over s3.

    Args:
        url: of the folder.
        sent: bytes that were sent.
        requests: what was asked for.
        signed: whether the requests carried a signature.
        drop: how many requests are cut off; -1 for all.
        last: the number of the request after which all are cut off.
        ranges: whether parts of files are given.
        status: of all answers, if it is not None.
        missing: the status where there is nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.sent, self.drop, self.ranges = folder, 0, 0, True
        self.requests: list[str] = []
        self.last = 0
        self.signed: set[bool] = set()
        self.status: int | None = None
        self.missing = 404
        self._server = Quiet(("127.0.0.1", 0), self._handler())
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.endpoint}/bucket"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                server.requests.append(f"{self.command} {self.path}")
                if len(server.requests) == server.last:
                    server.drop = -1
                server.signed.add("Authorization" in self.headers)
                if server.drop:
                    server.drop -= server.drop > 0
                    self.close_connection = True
                    self.connection.close()
                    return
                path, _, query = self.path.removeprefix("/bucket").strip("/").partition("?")
                file = server.folder / path
                if server.status is not None or not file.is_file():
                    listing = b'<?xml version="1.0"?><ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>'
                    asked = "list-type" in query and server.status is None
                    self.finish_with(
                        server.status or (200 if asked else server.missing), listing if asked and body else b""
                    )
                    return
                content, asked_range = file.read_bytes(), self.headers.get("Range")
                if asked_range and server.ranges:
                    start, _, stop = asked_range.removeprefix("bytes=").partition("-")
                    first, last = int(start), min(int(stop or len(content) - 1), len(content) - 1)
                    part = content[first : last + 1]
                    self.finish_with(206, part, {"Content-Range": f"bytes {first}-{last}/{len(content)}"})
                    return
                self.finish_with(200, content if body else b"", {"Content-Length": str(len(content))})

            def finish_with(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                own = {"Content-Length": str(len(content)), "ETag": '"e"', "Content-Type": "application/xml"}
                if server.ranges:
                    own["Accept-Ranges"] = "bytes"
                own["Last-Modified"] = "Mon, 01 Jan 2024 00:00:00 GMT"
                for name, value in (own | (headers or {})).items():
                    self.send_header(name, value)
                self.end_headers()
                server.sent += len(content)
                if content:
                    self.wfile.write(content)

        return Handler


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "served"
    folder.mkdir()
    remote._is_anonymous.cache_clear()
    made = Server(folder)
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
    yield made
    made.close()
    s3fs.S3FileSystem.clear_instance_cache()


def put(server: Server, form: str) -> str:
    """Put an image into the folder; return its name."""
    pixels = make_pixels(*SHAPE)
    if form == "tif":
        tifffile.imwrite(server.folder / "image.tif", pixels, tile=(32, 32), compression="zlib")
        return "image.tif"
    write_zarr(server.folder / "image.zarr", pixels, "yx", form)
    return "image.zarr"


@pytest.mark.parametrize(
    ("place", "form"),
    [("http", "tif"), ("http", "0.4"), ("http", "0.5"), ("s3", "0.5"), ("s3 with credentials", "tif")],
)
def test_a_mask_is_that_of_a_local_copy(
    place: str, form: str, server: Server, cli: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = put(server, form)
    options = ("-m", model, "--diameter", "off")
    assert cli("segment", server.folder / name, *options, "-o", tmp_path / "local.tif").code == 0
    assert not server.requests
    if place.endswith("credentials"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    url = f"{server.url}/{name}" if place == "http" else f"s3://bucket/{name}"
    done = cli("segment", url, *options, "-o", tmp_path / "remote.tif", "--json")
    assert done.code == 0, done.err
    assert (tmp_path / "remote.tif").read_bytes() == (tmp_path / "local.tif").read_bytes()
    assert server.signed == {place.endswith("credentials")}
    assert cli("segment", url, *options, "-o", tmp_path / "remote.tif").code == 0


def test_a_region_is_read_without_the_rest(server: Server) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2048, 2048)).astype(np.uint8)
    tifffile.imwrite(server.folder / "large.tif", pixels, tile=(256, 256))
    with unettile.open(f"{server.url}/large.tif") as image:
        assert np.array_equal(image[1000:1100, 300:400], pixels[1000:1100, 300:400])
        assert "127.0.0.1" in repr(image) and "http://" in repr(image)
    assert server.sent < pixels.nbytes / 3


@pytest.mark.parametrize("form", ["tif", "0.5"])
def test_a_connection_that_is_lost(form: str, server: Server, cli: Cli, model: Path, tmp_path: Path) -> None:
    url = f"{server.url}/{put(server, form)}"
    command = ("segment", url, "-m", model, "--diameter", "off", "-o", tmp_path / "mask.tif")
    server.drop = -1
    lost = cli(*command)
    assert lost.code == 75 and "was lost" in lost.err and lost.err.count("\n") == 1, lost.err
    assert not (tmp_path / "mask.tif").exists()
    server.drop = 2
    done = cli(*command)
    assert done.code == 0 and (tmp_path / "mask.tif").exists(), done.err
    # and in the midst of the work: half of its requests are answered
    server.requests.clear()
    command = (*command[:-1], tmp_path / "other.tif")
    assert cli(*command).code == 0
    server.last = len(server.requests) // 2
    server.requests.clear()
    command = (*command[:-1], tmp_path / "third.tif")
    lost = cli(*command)
    assert lost.code == 75 and "was lost" in lost.err and lost.err.count("\n") == 1, lost.err
    server.drop = 0
    assert cli(*command).code == 0
    assert (tmp_path / "third.tif").read_bytes() == (tmp_path / "mask.tif").read_bytes()


def test_several_threads_read_one_file(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hardly any blocks kept, so that what one thread has found another drops."""
    monkeypatch.setattr(remote, "BLOCK_BYTES", 16)
    monkeypatch.setattr(remote, "BLOCKS", 4)
    data = np.random.default_rng(0).integers(0, 256, 2000).astype(np.uint8).tobytes()
    (server.folder / "data").write_bytes(data)
    places = np.random.default_rng(1).integers(0, 1980, 200).tolist()
    with RemoteFile(f"{server.url}/data") as file, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda place: file.pread(20, place), places))
    assert found == [data[place : place + 20] for place in places]


def test_a_zarr_that_vanishes_is_no_background(server: Server) -> None:
    """Chunks that are not there are full of the fill value: so would be all of an image that was taken away."""
    with unettile.open(f"{server.url}/{put(server, '0.5')}") as image:
        server.status = 404
        with pytest.raises(unettile.InputError, match="has vanished"):
            image.read()


@pytest.mark.parametrize("form", ["tif", "0.5"])
def test_a_connection_that_is_lost_while_it_is_read(form: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with unettile.open(f"{server.url}/{put(server, form)}") as image:
        if form == "tif":
            image._slide._file._blocks.clear()  # type: ignore[attr-defined]
        server.drop = -1
        with pytest.raises(unettile.Incomplete, match="was lost"):
            image.read()
        server.drop = 1
        assert np.array_equal(image.read(), make_pixels(*SHAPE))


def test_what_is_refused(server: Server, cli: Cli, model: Path, tmp_path: Path) -> None:
    put(server, "tif")
    (server.folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    command = ("segment", "-m", model, "-o", tmp_path / "mask.tif")
    for name, said in (("none.tif", "no such file"), ("none.zarr", "no such file"), ("a.png", "download other images")):
        refused = cli(*command, f"{server.url}/{name}")
        assert refused.code == 3 and said in refused.err and refused.err.count("\n") == 1, refused.err
        assert f"{server.url}/{name}" in refused.err
    server.status = 403
    assert "the server refuses it" in cli(*command, f"{server.url}/image.tif").err
    server.status, server.ranges = None, False
    tifffile.imwrite(server.folder / "large.tif", np.zeros((1024, 1024), np.uint8))
    refused = cli(*command, f"{server.url}/large.tif")
    assert refused.code == 3 and "gives no parts of files" in refused.err


def test_without_the_extra_a_line_names_it(
    cli: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("segment", "-m", model, "-o", tmp_path / "mask.tif")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "s3fs", None)
        patch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
        refused = cli(*command, "s3://bucket/image.tif")
    assert refused.code == 3 and "need s3fs for s3; install it with" in refused.err, refused.err
    monkeypatch.setitem(sys.modules, "fsspec", None)
    refused = cli(*command, "https://127.0.0.1:9/image.tif")
    assert refused.code == 3 and "need fsspec for https" in refused.err and "unettile[remote]" in refused.err


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_plate_is_a_batch(version: str, server: Server, cli: Cli, model: Path, tmp_path: Path) -> None:
    """Also where the server forbids what it does not have."""
    fields = {field: make_pixels(*SHAPE, seed=seed) for seed, field in enumerate(("A/1/0", "A/2/0"))}
    write_plate(server.folder / "plate.zarr", fields, version)
    command = ("segment", f"{server.url}/plate.zarr", "-m", model, "--diameter", "off")
    server.missing = 403
    done = cli(*command, "-o", tmp_path / "masks")
    assert done.code == 0, done.err
    assert cli("segment", server.folder / "plate.zarr", *command[2:], "-o", tmp_path / "local").code == 0
    assert files(tmp_path / "masks") == files(tmp_path / "local") and len(files(tmp_path / "masks")) == 2
    server.drop = -1
    lost = cli(*command, "-o", tmp_path / "again")
    assert lost.code == 75 and "was lost" in lost.err and lost.err.count("\n") == 1, lost.err
    server.drop = 0
    for given, code, said in (
        ((*command, "--into-labels", "cells"), 3, "is on a server, where nothing is written: give -o OUT"),
        ((*command[:2], "-m", model, "-o", f"{server.url}/masks"), 2, "nothing is written to a server"),
        (
            ("segment", f"{server.url}/plate.zarr/A/1", "-m", model, "-o", tmp_path / "a.tif"),
            3,
            "it is a plate or a well",
        ),
    ):
        refused = cli(*given)
        assert refused.code == code and said in refused.err and refused.err.count("\n") == 1, refused.err


@pytest.mark.parametrize("name", ["ids.ome.tif", "ids.tif", "ids.zarr"])
def test_a_mask_says_there_what_it_says_here(name: str, server: Server, cli: Cli, model: Path, tmp_path: Path) -> None:
    """Its ids, and their classes."""
    options = ("-m", model, "--diameter", "off", "--write", "instances")
    assert cli("segment", server.folder / put(server, "tif"), *options, "-o", server.folder / name).code == 0
    for place, table in ((server.folder / name, "here.csv"), (f"{server.url}/{name}", "there.csv")):
        done = cli("objects", place, "--table", tmp_path / table)
        assert done.code == 0, done.err
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert "cell" in (tmp_path / "there.csv").read_text()
    done = cli("evaluate", f"{server.url}/{name}", server.folder / name, "--objects", "--instances", "--json", "-q")
    assert done.code == 0 and '"panoptic_quality_by_class"' in done.out, done.err
    refused = cli("train", server.url, server.folder, "-o", tmp_path / "m.safetensors")
    assert refused.code == 3 and "no folder can be listed: download it" in refused.err, refused.err


def test_only_urls_are_remote() -> None:
    assert url_of(Path("s3://a/b c.tif")) == "s3://a/b c.tif" and url_of("http:/a/b") == "http://a/b"
    assert [url_of(Path(text)) for text in ("a.tif", "/https/a", "https", "ftp://a/b")] == [None] * 4
