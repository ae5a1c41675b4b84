"""Representations, dataclasses of tensors, on another device."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def to_device(value: T, device: torch.device | str) -> T:
    """A tensor, or a dataclass with all tensors in it however deep, on a device; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if not dataclasses.is_dataclass(value):
        return value
    parts = {part.name: getattr(value, part.name) for part in dataclasses.fields(value) if part.init}
    moved = {name: to_device(part, device) for name, part in parts.items() if _holds_tensors(part)}
    return dataclasses.replace(value, **moved)


def _holds_tensors(value: object) -> bool:
    return isinstance(value, Tensor) or dataclasses.is_dataclass(value)
