"""What the processes of a run do together; each of these is called by all of them, or by the only one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from unettile.training.survey import Source
from unettile.training.validate import ImageScore, Judge, Scores


def mean_and_signal(loss: float, signum: int | None, fabric: Fabric) -> tuple[float, int | None]:
    """Return the mean loss of the processes, and the signal that any of them was sent."""
    if fabric.world_size == 1:
        return loss, signum
    shared = fabric.all_gather(torch.tensor([loss, float(signum or 0)], dtype=torch.float64))
    assert isinstance(shared, Tensor)
    return float(shared[:, 0].mean()), int(shared[:, 1].max()) or None


def on_any(own: bool, fabric: Fabric) -> bool:
    """Whether it is so on any process."""
    highest = fabric.all_reduce(torch.tensor(float(own)), reduce_op="max")
    assert isinstance(highest, Tensor)
    return bool(highest)


def shared_number(own: float, fabric: Fabric) -> float:
    """Return the first process's number."""
    if fabric.world_size == 1:
        return own
    shared = fabric.broadcast(own)
    assert isinstance(shared, float)
    return shared


def score_together(
    judge: Judge, network: nn.Module, sources: Sequence[Source], fabric: Fabric, shifts: Sequence[float] = (0.0,)
) -> list[Scores]:
    """Score images that the processes share among them; all get the scores of all, in the order of the images.

    Returns:
        One for each number that is added to the logit of class 0.
    """
    world, rank = fabric.world_size, fabric.global_rank
    if world > 1:  # each process kept its own statistics of batch norm: the first one's count
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)
    own = [judge.score(source, shifts) for source in sources[rank::world]]
    shares: list[list[list[ImageScore]]] = [own] * world
    if world > 1:
        torch.distributed.all_gather_object(shares, own)
    images = [shares[index % world][index // world] for index in range(len(sources))]
    return [Scores.of([image[number] for image in images]) for number in range(len(shifts))]
