"""One command over many images: which file becomes which, and what to do when one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from unettile.commands.failures import explain
from unettile.errors import InputError, UsageError


@dataclass(frozen=True)
class Task:
    """One image and where its result goes."""

    image: Path
    output: Path


class Status(StrEnum):
    """How a task ended."""

    DONE = "done"
    SKIPPED = "skipped"
    PLANNED = "planned"
    REFUSED = "refused"


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


def is_batch(images: Sequence[Path]) -> bool:
    """Whether the output is a directory: several images, or a directory of them, even of one."""
    from unettile.images.slide import is_folder

    return len(images) > 1 or is_folder(images[0])


def plan_tasks(images: Sequence[Path], output: Path) -> list[Task]:
    """Name an output for every image: OUT itself for one image file, else OUT/<name>.tif.

    Raises:
        InputError: a directory without images.
        UsageError: OUT is of the wrong kind, two images would share an output, or an output is one of the images.
    """
    if not is_batch(images):
        tasks = [Task(images[0], output)]
        if output.is_dir():
            example = output / _name(images[0])
            raise UsageError(f"-o {output} is a directory: one image needs a file name; use {example}")
    else:
        _check_directory(output, "several images, or a directory of them, need a directory")
        tasks = [Task(image, output / _name(image)) for image in _expand(images)]
    _check_clashes(tasks)
    return tasks


def plan_shard(images: Sequence[Path], output: Path) -> list[Task]:
    """Return the one task of a command with --shard, whose OUT is a run directory.

    Raises:
        UsageError: more than one image, or an OUT that is or looks like a file.
    """
    if is_batch(images):
        raise UsageError("--shard takes one image: give a command for each")
    _check_directory(output, "--shard needs a run directory, which `unettile stitch` makes a file of")
    return [Task(images[0], output)]


def run_tasks(tasks: Sequence[Task], work: Callable[[Task], Outcome]) -> list[Outcome]:
    """Do every task; an image that is refused does not stop the others.

    Raises:
        UsageError: it would stop them all. What is no refusal (a signal, a defect) passes through, too.
    """
    outcomes = []
    for task in tasks:
        try:
            outcomes.append(work(task))
        except Exception as error:
            failure = explain(error)
            if failure is None or failure.exit_code != InputError.exit_code:
                raise
            outcomes.append(Outcome(task, Status.REFUSED, failure.message))
    return outcomes


def _name(image: Path) -> str:
    from unettile.images.slide import image_stem

    return f"{image_stem(image)}.tif"


def _expand(images: Sequence[Path]) -> list[Path]:
    from unettile.images.slide import is_folder, list_images

    return [path for image in images for path in (list_images(image) if is_folder(image) else [image])]


def _check_directory(output: Path, need: str) -> None:
    if output.exists() and not output.is_dir():
        raise UsageError(f"-o {output} is a file: {need}")
    if not output.exists() and output.suffix.lower() in (".tif", ".tiff", ".png"):
        raise UsageError(f"-o {output} looks like a file: {need}; use {output.with_suffix('')}")


def _check_clashes(tasks: Sequence[Task]) -> None:
    owners: dict[Path, Path] = {}
    for task in tasks:
        other = owners.setdefault(task.output, task.image)
        if other is not task.image:
            raise UsageError(
                f"{other} and {task.image} would both become {task.output}: need names that differ;"
                " rename one, or give two commands"
            )
    inputs = {task.image.resolve() for task in tasks}
    for task in tasks:
        if task.output.resolve() in inputs:
            raise UsageError(f"{task.output} is one of the images: need another output; choose another -o")
