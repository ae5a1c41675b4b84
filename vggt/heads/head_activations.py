"""Activations of the dense heads: values and their confidence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def inverse_log(values: Tensor) -> Tensor:
    """Undo a signed log(1 + |v|) compression: sign(v) (exp|v| - 1)."""
    return values.sign() * values.abs().expm1()


def _direction(values: Tensor) -> Tensor:
    return values / _length(values)


def _length(values: Tensor) -> Tensor:
    return values.norm(dim=-1, keepdim=True).clamp(min=1e-8)


def _norm_exp(values: Tensor) -> Tensor:
    return _direction(values) * _length(values).expm1()


def _xy_inverse_log(values: Tensor) -> Tensor:
    xy, z = values.split((values.shape[-1] - 1, 1), dim=-1)
    z = inverse_log(z)
    return torch.cat((xy * z, z), dim=-1)


VALUE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda values: values,
    "exp": torch.exp,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "inv_log": inverse_log,
    "xy_inv_log": _xy_inverse_log,
    "norm": _direction,
    "norm_exp": _norm_exp,
}

CONFIDENCE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "expp1": lambda logits: 1 + logits.exp(),
    "expp0": torch.exp,
    "sigmoid": torch.sigmoid,
}


def check_activations(activation: str, conf_activation: str) -> None:
    """Raise ValueError when a name is in neither ``VALUE_ACTIVATIONS`` nor ``CONFIDENCE_ACTIVATIONS``."""
    for name, known in ((activation, VALUE_ACTIVATIONS), (conf_activation, CONFIDENCE_ACTIVATIONS)):
        if name not in known:
            raise ValueError(f"head activations: unknown name {name!r}; expected one of {sorted(known)}")


def activate_head(maps: Tensor, activation: str, conf_activation: str) -> tuple[Tensor, Tensor]:
    """Turn a head's raw maps into values and confidence.

    Args:
        maps: (B, C, H, W); the last channel is the confidence.
        activation: name in ``VALUE_ACTIVATIONS``.
        conf_activation: name in ``CONFIDENCE_ACTIVATIONS``.

    Returns:
        Values (B, H, W, C - 1) and confidence (B, H, W).

    Raises:
        ValueError: unknown name.
    """
    check_activations(activation, conf_activation)
    maps = maps.permute(0, 2, 3, 1)
    values, confidence = maps[..., :-1], maps[..., -1]
    return VALUE_ACTIVATIONS[activation](values), CONFIDENCE_ACTIVATIONS[conf_activation](confidence)
