"""Microscopes: their own files, each by the library that knows it; they come with an extra."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unettile.errors import InputError
from unettile.images.bioimages import BioFile
from unettile.images.czi import CziFile
from unettile.images.lif import LifFile
from unettile.images.nd2 import Nd2File
from unettile.images.nd2chunks import SIGNATURE as ND2_SIGNATURE
from unettile.images.scenes import SceneFile, SceneSlide
from unettile.images.view import FIRST, View

INSTALL = "pip install 'unettile[microscopes]'"
OTHERS = "pip install 'unettile[bioio]' and the plugin of bioio that reads them"


@dataclass(frozen=True)
class Form:
    """A format of a microscope's maker.

    Args:
        name: for messages, and for the record in lower case.
        starts: how its files begin.
        library: the module that reads it.
        open: takes the file and the module.
    """

    name: str
    starts: tuple[bytes, ...]
    library: str
    open: Callable[[Path, Any], SceneFile]


FORMS = (
    Form("CZI", (b"ZISRAWFI",), "pylibCZIrw.czi", CziFile),
    Form("ND2", (ND2_SIGNATURE,), "nd2", Nd2File),
    Form("LIF", (b"\x70\0\0\0",), "liffile", LifFile),
)


def form_of(start: bytes) -> Form | None:
    """Return the format of a file that begins so; None for none of them."""
    return next((form for form in FORMS if start.startswith(form.starts)), None)


def open_scenes(path: Path, form: Form, view: View = FIRST) -> SceneSlide:
    """Open an image of a microscope's own file.

    Raises:
        InputError: its library is not installed, or finds it damaged.
        NoSuchImage: it has no such scene, plane or channel.
    """
    try:
        library = importlib.import_module(form.library)
    except (ImportError, OSError):
        package = form.library.partition(".")[0]
        raise InputError(
            f"cannot read {path}: need {package} for {form.name} files; install it with {INSTALL}"
        ) from None
    try:
        opened = form.open(path, library)
    except Exception as error:  # what a library makes of damaged bytes
        text = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"cannot read {path}: no {form.name} that can be read ({text})") from error
    return SceneSlide(path, opened, form.name.lower(), view)


def open_other(path: Path, view: View = FIRST) -> SceneSlide | None:
    """Open an image of a file that a plugin of bioio reads; None where none does, or bioio is not installed.

    Raises:
        InputError: the plugin finds it damaged.
        NoSuchImage: it has no such scene, plane or channel.
    """
    try:
        library = importlib.import_module("bioio")
        unknown = importlib.import_module("bioio_base.exceptions").UnsupportedFileFormatError
    except (ImportError, OSError):
        return None
    try:
        opened = BioFile(path, library)
    except unknown:
        return None
    except Exception as error:  # what a plugin makes of damaged bytes
        text = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"cannot read {path}: bioio finds nothing that can be read ({text})") from error
    return SceneSlide(path, opened, "bioio", view)
