"""What making samples costs beside the network itself, in one run.

Two ways to take the same number of training steps, in turn, as often as asked:

    loader    batches from files, as `train` makes them: drawn, warped, varied, weighted, in worker processes
    network   one batch that is in memory already, again and again

Their ratio, of steps per second, is the result. On a CPU workers and network share the cores, so that the ratio cannot
be 1. Processor time says what the ratio is where all cores are busy, and is not disturbed by other programs:
`cpu_network_over_all` is that of a step over that of a step and its samples.

    python -m benchmarks.training -o benchmarks/results/training.json
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import finish, machine, make_parser, rounded, spread
from unettile.devices import keep_freed_memory, set_threads
from unettile.errors import InputError
from unettile.networks import build_network
from unettile.training.loader import Share, load_batches
from unettile.training.losses import training_loss
from unettile.training.pairs import find_pairs
from unettile.training.recipe import Recipe
from unettile.training.recipefile import read_recipe
from unettile.training.samples import Arrays, Samples
from unettile.training.schedule import make_optimizer
from unettile.training.survey import survey

SAMPLE = Path(__file__).parent.parent / "sample_data" / "nuclei"
QUEUED = 2  # batches that a worker has ready: taken untimed, so that those that are timed were made meanwhile


class Trainer:
    """Takes training steps of a recipe's network on batches."""

    def __init__(self, network: nn.Module, recipe: Recipe, device: torch.device, precision: str) -> None:
        self._network = network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._optimizer = make_optimizer(self._network, recipe.optimizer)
        self._recipe = recipe
        self._device = device
        self._cast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

    def take(self, batches: Iterator[Any], count: int) -> float:
        """Return the seconds of so many steps."""
        began = time.perf_counter()
        for _ in range(count):
            batch = (tensor.to(self._device, non_blocking=True) for tensor in next(batches))
            windows, classes, weights, depths = batch
            self._optimizer.zero_grad()
            with self._cast:
                outputs = self._network(windows.contiguous(memory_format=torch.channels_last))
                depth = depths if self._recipe.labels.depth else None
                loss = training_loss(outputs, classes, weights, self._recipe.loss, depth)
            loss.backward()
            self._optimizer.step()
            float(loss.detach())  # waits for the device, as `train` does
        return time.perf_counter() - began


def _placed(batches: Iterable[Arrays | InputError], device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches on the device that trains."""
    for batch in batches:
        if isinstance(batch, InputError):
            raise batch
        yield tuple(torch.from_numpy(part).to(device) for part in batch)


def measure(
    recipe: Recipe, images: Path, labels: Path, repeats: int, steps: int, precision: str = "fp32", workers: int = 1
) -> dict[str, object]:
    """Run the two ways in turn and return the figures as JSON values."""
    set_threads()
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    taken = 1 + (repeats + 1) * (QUEUED * workers + steps)
    recipe = replace(recipe, run=replace(recipe.run, epochs=1, steps_per_epoch=taken))
    network = build_network(recipe.network.name, recipe.network_config())
    assert isinstance(network.lost, int)
    samples = Samples(survey(find_pairs(images, labels), recipe), recipe, network.lost, None)
    batches = _placed(load_batches(samples, recipe, Share(), workers), device)
    first = next(batches)
    trainer = Trainer(network, recipe, device, precision)
    trainer.take(batches, QUEUED * workers + steps)  # warm-up of both ways, and of the workers' caches
    rounds, processor = [], []
    for _ in range(repeats):
        began = time.process_time()
        bare = trainer.take(repeat(first), steps)
        processor.append((time.process_time() - began) / steps)
        trainer.take(batches, QUEUED * workers)
        rounds.append((bare, trainer.take(batches, steps)))
    began = time.process_time()
    for number in range(recipe.run.batch):
        samples[number]  # once to fill the cache
    began = time.process_time()
    for number in range(recipe.run.batch):
        samples[number]
    making = time.process_time() - began
    samples.close()
    return {
        "bench": "training",
        "machine": machine("torch", device=device.type),
        "case": {
            "window": recipe.run.output_edge + 2 * network.lost,
            "batch": recipe.run.batch,
            "precision": precision,
            "workers": workers,
            "repeats": repeats,
        },
        "loader_over_network": spread([bare / loaded for bare, loaded in rounds]),
        "cpu_network_over_all": spread([step / (step + making) for step in processor]),
        "cpu_seconds": {"step": rounded(statistics.median(processor)), "samples_of_a_step": rounded(making)},
    }


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--recipe", default="nuclei-valid")
    parser.add_argument("--set", action="append", default=[], help="change a key of the recipe")
    parser.add_argument("--images", type=Path, default=SAMPLE / "images")
    parser.add_argument("--labels", type=Path, default=SAMPLE / "labels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="timed in each round")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    given = parser.parse_args()
    chosen = read_recipe(given.recipe, tuple(given.set))
    result = measure(chosen, given.images, given.labels, given.repeats, given.steps, given.precision, given.workers)
    finish(result, given.output)
