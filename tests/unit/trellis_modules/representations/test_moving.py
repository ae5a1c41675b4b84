"""Representations on another device, with all that they hold."""

import dataclasses

import torch

from trellis_modules.representations.moving import to_device


def test_representations_move_with_what_they_hold():
    @dataclasses.dataclass(frozen=True)
    class Inner:
        values: torch.Tensor

    @dataclasses.dataclass(frozen=True)
    class Outer:
        inner: Inner
        points: torch.Tensor
        name: str = "x"
        nothing: torch.Tensor | None = None

    moved = to_device(Outer(Inner(torch.ones(2)), torch.zeros(1)), "meta")
    assert moved.inner.values.device.type == moved.points.device.type == "meta"
    assert moved.name == "x" and moved.nothing is None
