"""What learns: an objective with its masters, optimiser, clipper and averages, on one process or on many."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from scenegen.datasets.batch import Batch
from scenegen.trainers.compiled_blocks import compile_blocks
from scenegen.trainers.cuda_graph import GraphedGradients
from scenegen.trainers.distributed import (
    World,
    average_gradients,
    in_parallel,
    start_equal,
)
from scenegen.trainers.elastic import build_elastic
from scenegen.trainers.ema import Averages
from scenegen.trainers.grad_clip import build_clipper
from scenegen.trainers.loop_config import LoopConfig
from scenegen.trainers.objective import Objective
from scenegen.trainers.optimizers import LearningRates, build_optimizer, trained_groups
from scenegen.trainers.precision import build_precision, prepare_networks, whole, whole_tensors

logger = logging.getLogger(__name__)

T = TypeVar("T")
Logs = dict[str, Tensor]


class Learner:
    """Makes gradients of batches and steps of the optimiser; knows neither data nor files.

    Attributes:
        objective: on the device.
        fp16_mode: the precision that is used: the configuration's, but float32 on a CPU instead of bfloat16,
            which takes several times as long there.
        precision, optimizer, clipper, averages: see their classes.
        elastic: controls which blocks are computed again; None where nothing does.
        is_sharded: networks are spread over processes.
    """

    def __init__(self, objective: Objective, config: LoopConfig, device: torch.device, world: World) -> None:
        """Make ready; all processes must do this together.

        Args:
            objective: changed in place: brought to the device, and spread over processes where asked for.
            config: of the loop.
            device: of this process.
            world: of all processes.

        Raises:
            ConfigError: nothing is trained, or the optimiser, the clipper or the schedule is wrong.
        """
        self._world, self.device = world, device
        self.fp16_mode = None if device.type == "cpu" and config.fp16_mode == "bfloat16" else config.fp16_mode
        prepare_networks(list(objective.children()), self.fp16_mode)
        is_spread = world.size > 1 and config.parallel == "fsdp2"
        self._whole = copy.deepcopy(objective) if is_spread else None  # holds whole networks again at the end
        self.objective = objective.to(device)
        groups = trained_groups(self.objective.named_parameters(), config.optimizer)
        if config.compile:
            compile_blocks(objective, device, is_spread=is_spread, recomputes=config.elastic is not None)
        self._module: nn.Module = self.objective
        self._records = config.cuda_graphs and device.type == "cuda" and not is_spread
        if is_spread and config.cuda_graphs:
            logger.info(
                "trainer.cuda_graphs changes nothing: passes of networks that are spread are not recorded"
            )
        if world.size > 1 and self._records:
            start_equal(self.objective)
        elif world.size > 1:
            self._module = in_parallel(self.objective, config.parallel, world, device)
            # sharding puts other parameters in the place of those that were grouped
            groups = trained_groups(self.objective.named_parameters(), config.optimizer)
        self.is_sharded = isinstance(self._module, FSDPModule)
        self.precision = build_precision(self.fp16_mode, groups, device, config.fp16_scale_growth)
        self.optimizer = build_optimizer(config.optimizer, groups, self.precision.masters)
        self._rates = LearningRates(self.optimizer, config.lr_scheduler)
        self.clipper = build_clipper(config.grad_clip)
        self.elastic = build_elastic(config.elastic, objective, device)
        self.averages = Averages(self.precision.flat_masters, config.ema_rates, config.ema_warmup)
        self._parameters = [parameter for group in groups for parameter in group.parameters]
        self._passes = config.batch_split
        self.generator = torch.Generator(device)
        self._gradients: Callable[..., tuple[Tensor, Logs]] = (
            GraphedGradients(self._loss, self._parameters, self.generator)
            if self._records
            else self._eager_gradients
        )

    # ---- a step

    def start_step(self) -> None:
        """Forget the gradients of the step before."""
        for parameter in self._parameters:
            parameter.grad = None
        self._sums: list[Tensor | None] | None = None

    def add_gradients(self, batch: Batch, seed: int, decisions: tuple[Hashable, ...], is_last: bool) -> Logs:
        """Add the gradients of one pass of a step.

        Args:
            batch: on the device.
            seed: of what is random in the pass.
            decisions: of the objective for the step.
            is_last: no other pass of this step follows; processes exchange their gradients now.

        Returns:
            What the objective logs, "loss" first.
        """
        self.generator.manual_seed(seed)
        if isinstance(self._gradients, GraphedGradients):
            _, logs = self._gradients(batch, decisions)
            kept = torch.stack([value.float() for value in logs.values()])  # the next pass overwrites them
            logs = dict(zip(logs, kept.unbind(), strict=True))
            if self._passes > 1:
                self._add_recorded(is_last)
            if is_last and self._world.size > 1:
                average_gradients(self._parameters, self._world)
            return logs
        watched = nullcontext() if self.elastic is None else self.elastic.watch(batch, seed)
        with self._exchange(is_last), watched:
            return self._gradients(batch, decisions)[1]

    @torch.no_grad()
    def _add_recorded(self, is_last: bool) -> None:
        """Keep the gradients of a pass that was played back, which the next one overwrites."""
        gradients = [parameter.grad for parameter in self._parameters]
        if self._sums is None:
            self._sums = [None if gradient is None else gradient.clone() for gradient in gradients]
        else:
            known = [i for i, gradient in enumerate(gradients) if gradient is not None]
            for i in known:
                self._sums[i] = (
                    gradients[i].clone() if self._sums[i] is None else self._sums[i] + gradients[i]
                )
        if is_last:
            for parameter, total in zip(self._parameters, self._sums, strict=True):
                parameter.grad = total

    def _exchange(self, is_last: bool) -> AbstractContextManager:
        """Whether processes exchange gradients in the backward pass that comes."""
        if isinstance(self._module, DistributedDataParallel):
            return nullcontext() if is_last else self._module.no_sync()
        if isinstance(self._module, FSDPModule):
            self._module.set_requires_gradient_sync(is_last)
        return nullcontext()

    def _loss(self, batch: Batch, generator: torch.Generator, *decisions: Hashable) -> tuple[Tensor, Logs]:
        with self.precision.autocast():
            loss, logs = self._module(batch, generator, *decisions)
        return self.precision.scaled(loss / self._passes), {"loss": loss.detach(), **logs}

    def _eager_gradients(self, batch: Batch, decisions: tuple[Hashable, ...]) -> tuple[Tensor, Logs]:
        loss, logs = self._loss(batch, self.generator, *decisions)
        loss.backward()
        return loss.detach(), logs

    def finish_step(self, step: int, progress: float) -> Logs:
        """Clip the gradients and let the optimiser and the averages step; nothing waits for the device.

        A gradient that is not finite would poison weights, moments and averages alike: weights and moments
        then stay as they are.

        Args:
            step: 0-based.
            progress: part of the whole run that is done, 0 to 1, for the learning rate.

        Returns:
            "grad_norm" before clipping, "skipped" (0 or 1), "lr" of the last group, and more.
        """
        gradients = self.precision.collect(self.optimizer)
        norm = self.clipper(gradients, self._world.sum_ if self.is_sharded else None)
        broken = (~torch.isfinite(norm)).float()
        rate = self._rates.set(step, progress)
        self.precision.step(self.optimizer, broken)
        self.averages.update(step)
        return {
            "grad_norm": norm.detach(),
            "skipped": broken,
            "lr": torch.full_like(norm, rate),
            **self.clipper.logs(),
            **self.precision.logs(),
        }

    @torch.no_grad()
    def end_step(self, means: Logs, broken: Tensor) -> None:
        """Let the objective keep what it keeps of a step; of a broken one nothing stays.

        Args:
            means: of what it logged, over all passes of all processes.
            broken: as `finish_step` logs it: "skipped".
        """
        before = {name: value.clone() for name, value in self.objective.kept.items()}
        self.objective.end_step(means)
        for name, value in self.objective.kept.items():
            value.copy_(torch.where(broken > 0, before[name], value))

    # ---- weights

    def with_averages(self, look: Callable[[], T], index: int = 0) -> T:
        """Call a function while networks have their averaged weights, in eval mode; all processes together.

        Args:
            look: may use the networks by themselves.
            index: of the average's rate.
        """
        self.averages.swap(index)
        self.precision.publish()
        self.objective.eval()
        try:
            return self.objective.visit(look)
        finally:
            if isinstance(self._module, FSDPModule):
                self._module.reshard()  # what was put together are the averages
            self.averages.swap(index)
            self.precision.publish()
            self.train_mode()

    @torch.no_grad()
    def take_averages(self) -> None:
        """Give the networks their averaged weights for good, in float32 and each whole in this process.

        All processes must call this together; training does not go on afterwards.
        """
        named, averages = self.named, self.averages.tensors[0]
        if self._whole is not None:
            named = partial(whole_tensors, self.precision.groups)
            spread, self.objective = self.objective.state_dict(), self._whole.to(self.device)
            for name, value in self.objective.state_dict().items():
                value.copy_(whole(spread[name]))
        prepare_networks(list(self.objective.children()), None)
        for name, value in named(averages).items():
            self.objective.get_parameter(name).copy_(value)

    def statistics(self) -> dict[str, float]:
        """Norms of trained parameters and their last gradients: "param_norms/name" and "param_grads/name"."""
        values = self.precision.flat_masters
        found: dict[str, float] = {}
        for kind, tensors in (("param_norms", values), ("param_grads", [value.grad for value in values])):
            named = self.named(tensors)
            norms = torch.stack([value.float().norm() for value in named.values()]).tolist()
            found |= {f"{kind}/{name}": norm for name, norm in zip(named, norms, strict=True)}
        return found

    def train_mode(self) -> None:
        """Training mode for networks that are trained; others normalise as they do when they are used."""
        self.objective.train()
        for child in self.objective.children():
            child.train(any(parameter.requires_grad for parameter in child.parameters()))

    def named(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Tensors shaped like all masters by the names of their parameters, see `Precision.named`."""
        return self.precision.named(tensors)

    def check_equal(self) -> None:
        """Compare what all processes must hold alike, bit for bit.

        Raises:
            RanksDiffer: names what is not the same.
        """
        shared = {} if self.is_sharded else self.named(self.precision.flat_masters)
        self._world.check_equal({**self.objective.kept, **shared})
