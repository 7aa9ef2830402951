"""The models that the package ships: a checkpoint and a card (`<name>.md`) each; or the user's own."""

from __future__ import annotations

from pathlib import Path

from unettile.errors import InputError

MODELS = ("nuclei", "nuclei-valid")
DEFAULT_MODEL = "nuclei"


def find_model(name: str) -> Path:
    """Return the checkpoint of a shipped model, or of a file.

    Raises:
        InputError: neither a shipped model nor a file.
    """
    if name in MODELS:
        return Path(__file__).parent / f"{name}.safetensors"
    path = Path(name)
    if path.exists():
        return path
    known = ", ".join(MODELS)
    raise InputError(f"no model called {name!r}: need a shipped one ({known}), or the path of a checkpoint or program")
