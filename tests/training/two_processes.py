"""Run by `torch.distributed.run` in the tests: one process of a training run that two share."""

from __future__ import annotations

import atexit
import json
import os
import sys
from pathlib import Path

import torch

from unettile.training.job import TrainJob
from unettile.training.loop import train
from unettile.training.pairs import find_pairs, hold_out
from unettile.training.recipefile import recipe_from_dict


def has_parted(data: Path) -> None:
    if not torch.distributed.is_initialized():
        (data / f"parted-{os.environ['RANK']}").touch()


if __name__ == "__main__":
    data = Path(sys.argv[1])
    atexit.register(has_parted, data)  # called after what the run registers
    recipe = recipe_from_dict(json.loads((data / "job.json").read_text()))
    training, validation, _ = hold_out(find_pairs(data / "images", data / "labels"), 0.34)
    output = data / "two.safetensors"
    train(
        TrainJob(training, validation, recipe, output, torch.device("cpu"), "fp32", workers=0),
        lambda progress: None,
        lambda: None,
    )
