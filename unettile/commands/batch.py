"""One command over many images: which file becomes which, and what to do when one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from unettile.commands.console import one_line
from unettile.commands.failures import explain
from unettile.errors import InputError, UsageError

DEFAULT_FORMAT = "tif"
"""Ending of the masks in a directory."""


@dataclass(frozen=True)
class Task:
    """One image and where its result goes.

    Args:
        name: what to call the image where there is little room; "" for the name of its file.
    """

    image: Path
    output: Path
    name: str = ""

    @property
    def title(self) -> str:
        """What to call the image."""
        return self.name or self.image.name


class Status(StrEnum):
    """How a task ended."""

    DONE = "done"
    SKIPPED = "skipped"
    PLANNED = "planned"
    REFUSED = "refused"
    FAILED = "failed"
    STOPPED = "stopped"
    NOT_BEGUN = "not begun"


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Args:
        message: for a person, one line.
        details: for --json.
    """

    task: Task
    status: Status
    message: str
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "image": str(self.task.image),
            "output": str(self.task.output),
            "status": self.status.value,
            "message": self.message,
            **self.details,
        }


@dataclass(frozen=True)
class Results:
    """How the tasks of a command ended.

    Args:
        outcomes: one a task, in their order.
        error: what ends the command once this is told: what stopped it, or the first defect. None if all is told.
    """

    outcomes: tuple[Outcome, ...]
    error: Exception | None = None


def is_batch(images: Sequence[Path]) -> bool:
    """Whether the output is a directory: several images, a directory of them, even of one, or a plate."""
    from unettile.images.listing import is_folder
    from unettile.images.plates import is_plate

    return len(images) > 1 or is_folder(images[0]) or is_plate(images[0])


def plan_tasks(images: Sequence[Path], output: Path, ending: str | None = None) -> list[Task]:
    """Name an output for every image: OUT itself for one image file, else OUT/<name>.<ending>.

    Args:
        ending: of the names in a directory, such as ome.tif.

    Raises:
        InputError: a directory without images, or the only image does not exist.
        UsageError: OUT is of the wrong kind, an ending that is not written, or one for a single file, two images would
            share an output, or an output is one of the images.
    """
    from unettile.images.urls import refuse_writing, url_of

    refuse_writing(output)
    if not is_batch(images):
        _check_no_ending(ending)
        if not images[0].exists() and url_of(images[0]) is None:
            raise InputError(f"cannot read {images[0]}: no such file")  # before what may be wrong only because of it
        tasks = [Task(images[0], output)]
        if output.is_dir() and output.suffix.lower() != ".zarr":
            example = output / _name(images[0])
            raise UsageError(f"-o {output} is a directory: one image needs a file name; use {example}")
    else:
        _check_directory(output, "several images, or a directory of them, need a directory")
        ending = (ending or DEFAULT_FORMAT).lower().removeprefix(".")
        _check_ending(ending)
        tasks = [Task(image, output / f"{name}.{ending}", title) for name, title, image in _expand(images)]
    _check_clashes(images, tasks)
    return tasks


def plan_labels(images: Sequence[Path], name: str) -> list[Task]:
    """Return the tasks whose results are label images in the images' own directories.

    Raises:
        UsageError: a name that no label image can have.
        InputError: an image that is no OME-Zarr, or a directory without images.
    """
    from unettile.images.labelplace import find_label_place, label_path

    tasks = [Task(image, label_path(image, name), title) for _, title, image in _expand(images)]
    for task in tasks:
        find_label_place(task.output)
    return tasks


def plan_shard(images: Sequence[Path], output: Path, ending: str | None = None) -> list[Task]:
    """Return the one task of a command with --shard, whose OUT is a run directory.

    Raises:
        UsageError: more than one image, an OUT that is or looks like a file, or an ending for it.
    """
    if is_batch(images):
        raise UsageError("--shard takes one image: give a command for each")
    _check_no_ending(ending)
    _check_directory(output, "--shard needs a run directory, which `unettile stitch` makes a file of")
    return [Task(images[0], output)]


def run_tasks(tasks: Sequence[Task], work: Callable[[Task], Outcome]) -> Results:
    """Do every task; an image that is refused, or that brings out a defect of ours, does not stop the others.

    A signal, the end of --max-time, or a command that is wrong for every image stops them all.
    """
    outcomes: list[Outcome] = []
    defect: Exception | None = None
    for task in tasks:
        try:
            outcomes.append(work(task))
        except Exception as error:
            failure = explain(error, "segment")
            if failure is None:
                outcomes.append(Outcome(task, Status.FAILED, one_line(f"{type(error).__name__}: {error}")))
                defect = defect or error
            elif failure.exit_code == InputError.exit_code:
                outcomes.append(Outcome(task, Status.REFUSED, failure.message))
            else:
                outcomes.append(Outcome(task, Status.STOPPED, failure.message))
                outcomes += [Outcome(other, Status.NOT_BEGUN, "") for other in tasks[len(outcomes) :]]
                return Results(tuple(outcomes), error)
    return Results(tuple(outcomes), defect)


def passed_over(images: Sequence[Path]) -> list[str]:
    """Say, a line for each directory among the images, which directories below it are not searched."""
    from unettile.images.listing import is_folder

    lines = []
    for image in images:
        if is_folder(image):
            below = sorted(path.name for path in image.iterdir() if is_folder(path) and not path.name.startswith("."))
            if below:
                named = ", ".join(below[:3]) + (f" and {len(below) - 3} more" if len(below) > 3 else "")
                lines.append(f"directories below {image} are not searched: {named}")
    return lines


def _name(image: Path) -> str:
    from unettile.images.listing import image_stem

    return f"{image_stem(image)}.{DEFAULT_FORMAT}"


def _check_ending(ending: str) -> None:
    from unettile.images.formats import format_of

    format_of(Path(f"mask.{ending}"))


def _check_no_ending(ending: str | None) -> None:
    if ending is not None:
        raise UsageError(f"--format {ending} is for directories: the name of one file says its format")


def _expand(images: Sequence[Path]) -> list[tuple[str, str, Path]]:
    """Return all images, of a directory those in it, of a plate its fields; each after the stem of its output's name,
    and its own name where that is not its file's.
    """
    from unettile.images.listing import image_stem, is_folder, list_images
    from unettile.images.plates import is_plate, list_fields

    found = []
    for path in (path for image in images for path in (list_images(image) if is_folder(image) else [image])):
        if not is_plate(path):
            found.append((image_stem(path), "", path))
            continue
        before = "" if list(images) == [path] else f"{image_stem(path)}_"
        found += [(before + field, before + field, image) for field, image in list_fields(path)]
    return found


def _check_directory(output: Path, need: str) -> None:
    if output.exists() and not output.is_dir():
        raise UsageError(f"-o {output} is a file: {need}")
    if not output.exists() and output.suffix.lower() in (".tif", ".tiff", ".png", ".zarr"):
        raise UsageError(f"-o {output} looks like a file: {need}; use {output.with_suffix('')}")


def _check_clashes(images: Sequence[Path], tasks: Sequence[Task]) -> None:
    from unettile.protection import protect

    owners: dict[Path, Path] = {}
    for task in tasks:
        other = owners.setdefault(task.output, task.image)
        if other is not task.image:
            raise UsageError(
                f"{other} and {task.image} would both become {task.output}: need names that differ;"
                " rename one, or give two commands"
            )
    protect([*images, *(task.image for task in tasks)], [task.output for task in tasks])
