"""unettile: tiled segmentation of large images whose mask is a function of the image and the model alone.

    import unettile

    model = unettile.load("nuclei")
    mask = model.segment(image)

Each function does what the command of its name does, with its names, defaults and bytes; `docs/python.md` shows them by
task. `import unettile` loads nothing but this file: what a function needs is imported when it is first asked for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unettile.errors import Advice, Incomplete, InputError, Interrupted, UnettileError, UsageError
    from unettile.face.evaluate import evaluate
    from unettile.face.image import Image
    from unettile.face.image import open_image as open
    from unettile.face.model import Model, load
    from unettile.face.objects import objects
    from unettile.face.train import train
    from unettile.face.weights import weight_map

__version__ = "0.1.0"

__all__ = [
    "Advice",
    "Image",
    "Incomplete",
    "InputError",
    "Interrupted",
    "Model",
    "UnettileError",
    "UsageError",
    "__version__",
    "evaluate",
    "load",
    "objects",
    "open",
    "train",
    "weight_map",
]

_PLACES = {
    "Advice": "errors",
    "Image": "face.image",
    "Incomplete": "errors",
    "InputError": "errors",
    "Interrupted": "errors",
    "Model": "face.model",
    "UnettileError": "errors",
    "UsageError": "errors",
    "evaluate": "face.evaluate",
    "load": "face.model",
    "objects": "face.objects",
    "open": "face.image:open_image",
    "train": "face.train",
    "weight_map": "face.weights",
}
"""Where each name is defined: a module, and what it is called there if that differs."""


def __getattr__(name: str) -> Any:
    """Import what is asked for the first time."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, called = _PLACES[name].partition(":")
    found = getattr(import_module(f"{__name__}.{module}"), called or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Face(ModuleType):
    """This package: a room of the house that is called like a name in `__all__`, `objects`, does not hide it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
