"""The learner: a network with its optimiser and its average; it takes one step after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from unettile.errors import InputError
from unettile.training.job import TrainJob
from unettile.training.losses import training_loss
from unettile.training.network import Average, make_network
from unettile.training.schedule import make_optimizer, set_rate


class Learner:
    """What is learnt on one process of a run; parameters are drawn from torch's seed as it is.

    Args:
        fresh: its parameters are not loaded afterwards.

    Raises:
        InputError: another network than the one that it is to begin with.
        UsageError: a window that does not fit the network.
    """

    def __init__(self, job: TrainJob, fabric: Fabric, *, fresh: bool) -> None:
        self._recipe, self._fabric = job.recipe, fabric
        network, self.geometry, self.lost = make_network(job.recipe, job.start, fresh=fresh)
        if fabric.world_size > 1 and fabric.device.type == "cuda":  # on CPUs torch has none: one set a process
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        self._network = fabric.setup_module(network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        made = make_optimizer(network, job.recipe.optimizer, fused=job.precision != "fp16")
        optimizer = fabric.setup_optimizers(made)
        assert not isinstance(optimizer, tuple)
        self._optimizer = optimizer
        ema = job.recipe.run.ema
        self._average = Average(self._network.module, ema) if ema > 0 else None

    def step(self, batch: tuple[Tensor, ...], number: int, rate: float) -> float:
        """Take a step of the optimiser, counted from 0; return the loss of this process's share of the batch.

        Args:
            batch: windows (N, C, n, n), classes, weights and depths (N, m, m).
        """
        run, clip = self._recipe.run, self._recipe.optimizer.clip_norm
        set_rate(self._optimizer.param_groups, rate)
        # dropout follows from the step, so that a resumed run drops the same, and each process its own
        torch.manual_seed((run.seed * 1_000_003 + number) * self._fabric.world_size + self._fabric.global_rank)
        self._network.train()
        self._optimizer.zero_grad()
        losses: list[Tensor] = []
        passes = zip(*(tensor.chunk(run.accumulate) for tensor in batch), strict=True)
        for index, (x, c, w, d) in enumerate(passes):
            with self._fabric.no_backward_sync(self._network, enabled=index < run.accumulate - 1):
                outputs = self._network(x.contiguous(memory_format=torch.channels_last))
                depth = d if self._recipe.labels.depth else None
                loss = training_loss(outputs, c, w, self._recipe.loss, depth, self._recipe.labels.kinds)
                loss = loss / run.accumulate
                self._fabric.backward(loss)
            losses.append(loss.detach())  # a number would have to be waited for
        if clip > 0:  # a norm that is not finite is told of by who called, in our own words
            self._fabric.clip_gradients(self._network, self._optimizer, max_norm=clip, error_if_nonfinite=False)
        self._optimizer.step()
        if self._average is not None:
            self._average.update(self._network.module, number + 1)
        return sum(float(loss) for loss in losses)

    def network(self, number: int) -> nn.Module:
        """Return the network that is validated and kept after so many steps, in eval mode: the average, if any.

        Raises:
            InputError: its parameters are no finite numbers.
        """
        network: nn.Module = self._network.module if self._average is None else self._average.network
        if not all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()):
            raise InputError(
                f"parameters are no finite numbers after step {number}: lower optimizer.learning_rate, or train with"
                " --precision fp32"
            )
        return network.eval()

    def state(self) -> dict[str, Any]:
        """Return all that is carried from step to step."""
        return {
            "network": self._network.module.state_dict(),
            "average": self._average.network.state_dict() if self._average is not None else {},
            "optimizer": self._optimizer.state_dict(),
            "precision": self._fabric.strategy.precision.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on with a state."""
        self._network.module.load_state_dict(state["network"])
        if self._average is not None:
            self._average.network.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._fabric.strategy.precision.load_state_dict(state["precision"])
