"""The processes of a run: how they begin, and what they do together; each of these is called by all of them."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Sequence
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from unettile.errors import UsageError
from unettile.training.survey import Source
from unettile.training.validate import ImageScore, Judge, Scores

FABRIC_PRECISION = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
PATIENCE = timedelta(hours=12)  # the first process may survey or write for long while others wait


def make_fabric(device: torch.device, precision: str) -> Fabric:
    """Return Fabric for this process; several are started by `torchrun`, whose variables alone say how many.

    Raises:
        UsageError: more processes than GPUs, of which each takes one.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it has advice for users of Fabric
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    if device.type == "cuda":
        if world > 1 and local > torch.cuda.device_count():
            raise UsageError(
                f"{local} processes on this machine need a GPU each, and {torch.cuda.device_count()} are here: give"
                " torchrun a smaller --nproc-per-node, or --device cpu"
            )
        _choose_kernels(precision)
    devices: int | list[int] = local
    if device.type == "cuda" and world == 1:
        devices = [device.index or 0]
    fabric = Fabric(
        accelerator=device.type,
        devices=devices,
        num_nodes=max(1, world // local),
        strategy=DDPStrategy(timeout=PATIENCE) if world > 1 else "auto",
        precision=FABRIC_PRECISION[precision],  # type: ignore[arg-type]
        # named, or Fabric would take ranks from a batch system's variables, which say nothing of this process
        plugins=TorchElasticEnvironment() if world > 1 else LightningEnvironment(),
    )
    fabric.launch()
    if world > 1:
        atexit.register(_part)
    return fabric


def _part() -> None:
    """Leave the other processes while the interpreter is whole: threads of gloo that outlive it may abort the process.

    PyTorch pull request 179291 tells why.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _choose_kernels(precision: str) -> None:
    """Let float32 be float32 unless it is to be tf32, and take kernels that add up in one order, the same each time."""
    # not by the flag of matmul, after which torch from 2.9 on refuses to tell Fabric a precision set before in this way
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


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
    judge.rest()  # training wants the memory
    shares: list[list[list[ImageScore]]] = [own] * world
    if world > 1:
        torch.distributed.all_gather_object(shares, own)
    images = [shares[index % world][index // world] for index in range(len(sources))]
    return [Scores.of([image[number] for image in images]) for number in range(len(shifts))]
