"""Other colours for the same shapes, so that colours are read from pictures instead of being remembered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scenegen.synthesis.shapes.shape_bank import Triangles

_KEPT = 0.3  # of the objects keep the ratios of their channels
_TINTED = 0.35
_GRAINED = 0.4
_GRAIN_STRENGTH = 0.25
_GRAIN_FREQUENCY = 60.0  # largest, in radians a unit of length


@dataclass(frozen=True)
class Recolouring:
    """A change of colours for each of K objects: channel gains, a tint, grain that runs through it."""

    gain: Tensor  # (K, 3)
    tint: Tensor  # (K, 3) colour that is mixed in
    mix: Tensor  # (K, 1) its share
    wave: Tensor  # (K, 3) frequencies of the grain
    strength: Tensor  # (K,) of the grain

    @classmethod
    def draw(cls, count: int, generator: torch.Generator) -> Recolouring:
        """Random changes for ``count`` objects, on the device of the generator."""

        def draw(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=generator.device)

        gain = torch.exp((draw(count, 3) - 0.5) * 0.9 + (draw(count, 1) - 0.5) * 0.8)
        tint, mix = draw(count, 3), draw(count, 1) * (draw(count, 1) < _TINTED)
        gain = torch.where(draw(count, 1) < _KEPT, 1.0, gain)
        wave = (draw(count, 3) - 0.5) * 2 * _GRAIN_FREQUENCY
        strength = draw(count) * _GRAIN_STRENGTH * (draw(count) < _GRAINED)
        return cls(gain, tint, mix, wave, strength)

    def of(self, rows: Tensor) -> Recolouring:
        """The changes of the objects ``rows`` (J,) int64."""
        return Recolouring(
            *(values[rows] for values in (self.gain, self.tint, self.mix, self.wave, self.strength))
        )

    def apply(self, triangles: Triangles) -> Triangles:
        """Triangles of the K objects, in their object frames, in new colours."""
        owner, mix = triangles.owner, self.mix
        colours = triangles.colours * self.gain[owner] * (1 - mix[owner]) + (self.tint * mix)[owner]
        wave = torch.sin((triangles.corners.mean(1) * self.wave[owner]).sum(-1))
        colours = (colours * (1 + wave * self.strength[owner])[:, None]).clamp(0, 1)
        return Triangles(triangles.corners, owner, colours)
