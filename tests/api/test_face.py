"""What `import unettile` promises: the names, how light it is, and that options are the command's."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import unettile
from unettile.commands.evaluate import evaluate as evaluate_command
from unettile.commands.objects import objects as objects_command
from unettile.commands.segment import segment as segment_command
from unettile.commands.train import train as train_command
from unettile.commands.weights import weights as weights_command
from unettile.face.choices import Choices
from unettile.face.model import Model

PROMISED = {
    "Advice", "Image", "Incomplete", "InputError", "Interrupted", "Model", "UnettileError", "UsageError", "__version__",
    "evaluate", "load", "objects", "open", "train", "weight_map",
}  # fmt: skip


def fresh(code: str) -> str:
    """Run code in a new process and return what it prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_names_are_those_that_are_promised() -> None:
    assert set(unettile.__all__) == PROMISED and set(dir(unettile)) >= PROMISED
    assert all(getattr(unettile, name) is not None for name in PROMISED)
    with pytest.raises(AttributeError, match="no attribute 'segment'"):
        _ = unettile.segment  # type: ignore[attr-defined]


def test_import_is_as_light_as_help() -> None:
    code = "import sys, unettile; print(*sorted(name for name in sys.modules if name.startswith('unettile')))"
    assert fresh(code) == "unettile"
    code = "import sys, unettile; unettile.weight_map; print('torch' in sys.modules)"
    assert fresh(code) == "False"


def test_a_room_of_the_same_name_does_not_hide_a_function() -> None:
    code = "import sys, unettile, unettile.objects.rules; from unettile.objects.rules import Foreground; "
    code += "print('unettile.face' in sys.modules); from unettile import objects; "
    code += "print(objects.__module__, unettile.objects is objects, Foreground().holes)"
    assert fresh(code).split() == ["False", "unettile.face.objects", "True", "0"]
    code = "import unettile; unettile.objects; import unettile.objects.job; print(unettile.objects.__module__)"
    assert fresh(code) == "unettile.face.objects"


# Of each function, the parameters of the command that it does not have, and why.
OWN = {"quiet", "json", "json_output", "context"}  # what is printed, and how the command line works
FACES: list[tuple[Callable[..., Any], Callable[..., Any], set[str]]] = [
    (
        Model.segment,
        segment_command,
        # several images are a loop, a label image is an output; jobs, their scripts and reports are the command's;
        # `load` has the last five
        {"images", "into_labels", "ending", "show_profile", "dry_run", "shard", "shards", "share", "model", "trust",
         "tta", "device", "precision"},
    ),
    (unettile.load, segment_command, set()),
    (unettile.evaluate, evaluate_command, set()),
    (unettile.weight_map, weights_command, {"output", "preview", "overwrite", "format_version", "dry_run"}),  # an array
    (unettile.objects, objects_command, set()),
    (unettile.train, train_command, {"plan"}),  # a recipe to edit is a file of the command's
]  # fmt: skip
ADDED = {
    "segment": {"self", "image", "progress"},
    "load": set(),
    "evaluate": {"progress"},
    "weight_map": set(),
    "objects": {"instances", "progress"},
    "train": {"progress"},
}
"""Parameters that a function has and its command has not."""
OTHERWISE = {
    ("load", "model"),
    ("weight_map", "pixel_size"),
    ("segment", "output"),
    ("segment", "write"),
    ("train", "output"),
    ("objects", "percentiles"),
    ("evaluate", "class_names"),
}
"""Parameters whose default has another form, "1,1" and (1.0, 1.0), none and "nuclei", or that are optional here."""


@pytest.mark.parametrize(("function", "command", "left_out"), FACES, ids=lambda part: getattr(part, "__name__", ""))
def test_options_have_the_names_and_defaults_of_the_command(
    function: Callable[..., Any], command: Callable[..., Any], left_out: set[str]
) -> None:
    here, there = inspect.signature(function).parameters, inspect.signature(command).parameters
    name = function.__name__
    if function is unettile.load:
        assert set(here) <= set(there)
    else:
        assert set(there) - set(here) == (left_out | (OWN & set(there)))
        assert set(here) - set(there) == ADDED[name]
    for key in set(here) & set(there):
        if (name, key) not in OTHERWISE:
            assert plain(here[key].default) == plain(there[key].default), key


def plain(default: Any) -> Any:
    return default.value if isinstance(default, Enum) else default


@pytest.mark.parametrize("name", sorted(PROMISED - {"__version__"}))
def test_all_is_typed_and_described(name: str) -> None:
    found = getattr(unettile, name)
    assert found.__doc__ and found.__doc__.strip().splitlines()[0].endswith(".")
    if not inspect.isclass(found):
        hints = typing.get_type_hints(found)
        assert set(inspect.signature(found).parameters) | {"return"} == set(hints)
        assert ">>>" in found.__doc__ or name == "train"


def test_what_is_checked_of_segment_is_what_it_takes() -> None:
    taken = typing.get_type_hints(unettile.Model.segment)
    checked = typing.get_type_hints(Choices)
    assert {name: taken[name] for name in checked} == checked
    assert set(taken) - set(checked) == {"image", "output", "write", "return"}


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(unettile.__file__).parent / "py.typed").is_file()
