"""Precision: in which numbers networks compute, and which tensors the optimiser and the averages work on.

The optimiser never sees the parameters themselves but their *masters*, in float32. In float32 and under
autocast a master is its parameter; with ``inflat_all`` the networks hold 16-bit weights, and the masters of a
group are one flat tensor; where a network is sharded, masters are the shards of this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from scenegen.trainers.optimizers import TrainedGroup, step_unless
from trellis_modules.checkpoint import set_compute_dtype
from trellis_modules.models.torso import TorsoModule

FIRST_LOG_SCALE = 20.0
RESTARTED_LOG_SCALE = 10.0


class Precision:
    """Weights in float32; networks compute in it, or under autocast in bfloat16.

    Attributes:
        masters: for each group the tensors that the optimiser changes.
    """

    def __init__(
        self, groups: Sequence[TrainedGroup], device: torch.device, autocast: torch.dtype | None = None
    ) -> None:
        """Make the masters; what is trained may be sharded already."""
        self.groups, self.device, self._autocast = groups, device, autocast
        self.masters = self._make_masters()

    def _make_masters(self) -> list[list[Tensor]]:
        return [[_master_of(parameter) for parameter in group.parameters] for group in self.groups]

    @property
    def flat_masters(self) -> list[Tensor]:
        """The masters of all groups, one after the other."""
        return [master for group in self.masters for master in group]

    def autocast(self) -> AbstractContextManager:
        """What the loss is computed under."""
        return torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss as it is differentiated."""
        return loss

    @torch.no_grad()
    def collect(self, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        """Give the masters the gradients that their parameters got, zeros where there are none.

        Returns:
            The gradients of all masters, without any scale of the loss; changing them in place changes what
            the step sees.
        """
        for group, masters in zip(self.groups, self.masters, strict=True):
            for parameter, master in zip(group.parameters, masters, strict=True):
                gradient = local_of(parameter.grad)
                master.grad = torch.zeros_like(master) if gradient is None else gradient
        return [master.grad for master in self.flat_masters]

    def step(self, optimizer: torch.optim.Optimizer, broken: Tensor) -> None:
        """One step of the optimiser on the masters, left out where gradients are broken.

        Args:
            optimizer: of the masters.
            broken: float32 scalar on the device, 1 where a gradient is not finite, else 0.
        """
        step_unless(broken, optimizer)

    def publish(self) -> None:
        """Give the parameters the values of their masters."""

    def named(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        """Tensors shaped like all masters, by the names of the parameters that they belong to.

        The result shares memory with the values.
        """
        names = [name for group in self.groups for name in group.names]
        return dict(zip(names, values, strict=True))

    def logs(self) -> dict[str, Tensor]:
        """What is worth logging, as scalars."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The state of the loss scale as numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state of the loss scale."""


class ScaledPrecision(Precision):
    """Autocast in float16; the loss is scaled so that small gradients do not vanish.

    Source: ``torch.amp.GradScaler``.
    """

    def __init__(self, groups: Sequence[TrainedGroup], device: torch.device) -> None:
        super().__init__(groups, device, torch.float16)
        self._scaler = torch.amp.GradScaler(device.type)
        self._scaler.scale(torch.ones((), device=device))  # makes its tensors

    def scaled(self, loss: Tensor) -> Tensor:
        """See `Precision.scaled`."""
        return self._scaler.scale(loss)

    def collect(self, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        """See `Precision.collect`."""
        gradients = super().collect(optimizer)
        self._scaler.unscale_(optimizer)
        return gradients

    def step(self, optimizer: torch.optim.Optimizer, broken: Tensor) -> None:
        """See `Precision.step`; the scale changes with what the scaler itself found."""
        self._scaler.step(optimizer)
        self._scaler.update()

    def logs(self) -> dict[str, Tensor]:
        """The factor on the loss."""
        return {"scale": self._scaler.scale(torch.ones((), device=self.device))}

    def state_dict(self) -> dict[str, Any]:
        """See `Precision.state_dict`."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Precision.load_state_dict`."""
        self._scaler.load_state_dict(dict(state))


class FlatPrecision(Precision):
    """16-bit weights with one flat float32 master for each group, and a loss scale of 2^``log_scale``.

    The scale grows by ``growth`` in its exponent with every good step and halves with every broken one.

    Source: the published training configurations (``fp16_mode: "inflat_all"``).
    """

    def __init__(self, groups: Sequence[TrainedGroup], device: torch.device, growth: float) -> None:
        super().__init__(groups, device)
        self._growth = growth
        dtype = torch.float32 if device.type == "mps" else torch.float64  # which Apple's GPUs lack
        self._log_scale = torch.tensor(FIRST_LOG_SCALE, dtype=dtype, device=device)

    @torch.no_grad()
    def _make_masters(self) -> list[list[Tensor]]:
        masters = []
        for group in self.groups:
            flat = nn.Parameter(torch.cat([p.detach().float().flatten() for p in group.parameters]))
            flat.grad = torch.zeros_like(flat)
            masters.append([flat])
        return masters

    def scaled(self, loss: Tensor) -> Tensor:
        """See `Precision.scaled`."""
        return loss.float() * self._log_scale.exp2().float()

    @torch.no_grad()
    def collect(self, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        """See `Precision.collect`."""
        unscale = self._log_scale.neg().exp2().float()
        gradients = []
        for group, (master,) in zip(self.groups, self.masters, strict=True):
            parts = zip(_split(master.grad, group.parameters), group.parameters, strict=True)
            given = [(part, p.grad) for part, p in parts if p.grad is not None]
            if len(given) < len(group.parameters):
                master.grad.zero_()
            if given:
                torch._foreach_copy_([part for part, _ in given], [gradient for _, gradient in given])
            gradients.append(master.grad.mul_(unscale))
        return gradients

    def step(self, optimizer: torch.optim.Optimizer, broken: Tensor) -> None:
        """See `Precision.step`; then the scale changes and the parameters get the new values."""
        step_unless(broken, optimizer)
        scale = torch.where(broken > 0, self._log_scale - 1, self._log_scale + self._growth)
        self._log_scale.copy_(torch.where(scale < 0, RESTARTED_LOG_SCALE, scale))
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """See `Precision.publish`."""
        for group, (master,) in zip(self.groups, self.masters, strict=True):
            torch._foreach_copy_(list(group.parameters), _split(master, group.parameters))

    def named(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        """See `Precision.named`."""
        named = {}
        for group, flat in zip(self.groups, values, strict=True):
            named |= dict(zip(group.names, _split(flat.detach(), group.parameters), strict=True))
        return named

    def logs(self) -> dict[str, Tensor]:
        """The exponent of the factor on the loss."""
        return {"log_scale": self._log_scale.float()}

    def state_dict(self) -> dict[str, Any]:
        """See `Precision.state_dict`."""
        return {"log_scale": self._log_scale.item()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Precision.load_state_dict`."""
        self._log_scale.fill_(float(state["log_scale"]))


def prepare_networks(networks: Sequence[nn.Module], fp16_mode: str | None) -> None:
    """Bring the torsos of networks that are trained into the precision of their weights.

    With ``inflat_all`` they stay as their configurations say (``use_fp16``); otherwise the optimiser works on
    the parameters themselves, which 16 bits are too few for.

    Args:
        networks: changed in place; those without a trained parameter stay as they are.
        fp16_mode: of `scenegen.trainers.loop_config.LoopConfig`.
    """
    for network in networks:
        is_trained = any(parameter.requires_grad for parameter in network.parameters())
        if is_trained and fp16_mode != "inflat_all" and isinstance(network, TorsoModule):
            set_compute_dtype(network, torch.float32)


def build_precision(
    fp16_mode: str | None, groups: Sequence[TrainedGroup], device: torch.device, growth: float
) -> Precision:
    """The precision of ``trainer.fp16_mode`` for what is trained.

    Args:
        fp16_mode: "inflat_all", "amp", "bfloat16" or None, float32.
        groups: parameters in the precision that `prepare_networks` gave them, on the device.
        device: of the parameters.
        growth: of the exponent of the loss scale with every good step of "inflat_all".
    """
    if fp16_mode == "inflat_all":
        return FlatPrecision(groups, device, growth)
    if fp16_mode == "amp":
        return ScaledPrecision(groups, device)
    return Precision(groups, device, torch.bfloat16 if fp16_mode == "bfloat16" else None)


def local_of(value: Tensor | None) -> Tensor | None:
    """What this process holds of a tensor."""
    return value.to_local() if isinstance(value, DTensor) else value


def _master_of(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(local_of(parameter.detach())) if isinstance(parameter, DTensor) else parameter


def whole_of(local: Tensor, like: Tensor) -> Tensor:
    """The tensor of which this process holds a part, spread as a parameter is, or all."""
    if not isinstance(like, DTensor):
        return local
    return DTensor.from_local(
        local, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """What this process holds of a tensor that is spread as a parameter is, or all of it.

    Raises:
        ValueError: it has another shape than the parameter.
    """
    if value.shape != like.shape:
        raise ValueError(f"expected a tensor of shape {tuple(like.shape)}, got {tuple(value.shape)}")
    if not isinstance(like, DTensor):
        return value
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None).to_local()


def whole(value: Tensor) -> Tensor:
    """A tensor of which each process holds a part, or all, put together; all processes must call this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def whole_tensors(groups: Sequence[TrainedGroup], values: Sequence[Tensor]) -> dict[str, Tensor]:
    """Tensors shaped like all masters, put together from all processes, by the names of their parameters."""
    parameters = {name: p for group in groups for name, p in zip(group.names, group.parameters, strict=True)}
    return {
        name: whole(whole_of(value, parameter))
        for (name, parameter), value in zip(parameters.items(), values, strict=True)
    }


def _split(flat: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Views of a flat tensor in the shapes of parameters."""
    parts = flat.split([parameter.numel() for parameter in parameters])
    return [part.view(parameter.shape) for part, parameter in zip(parts, parameters, strict=True)]
