"""Patterns and highlights on the objects of training scenes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scenegen.synthesis.pictures.looks import Draws, Looks


@dataclass(frozen=True)
class ObjectPaint:
    """Paint of K objects: two waves through each, whose sum decides where a second colour is.

    Attributes:
        wave: (K, 2, 4) directions times frequencies, in radians a unit of the object frame, and phases.
        second: (K,) strength of the second wave: 0 stripes, 1 checks and blobs.
        threshold: (K,) of the sum; above is the second colour.
        sharpness: (K,) of the borders.
        colour: (K, 3), and opacity: (K,), 0 for objects without a pattern.
        band: (K, 2) heights between which the pattern is, of the object frame.
        gloss: (K,) strength of highlights, 0 for none, and power: (K,).
    """

    wave: Tensor
    second: Tensor
    threshold: Tensor
    sharpness: Tensor
    colour: Tensor
    opacity: Tensor
    band: Tensor
    gloss: Tensor
    power: Tensor

    @classmethod
    def draw(cls, count: int, looks: Looks, generator: torch.Generator) -> ObjectPaint:
        """Draw the paint of ``count`` objects."""
        draws = Draws(count, generator)
        towards = torch.randn(count, 2, 3, generator=generator, device=generator.device)
        upright = torch.tensor([[1.0, 0.05, 0.05], [0.05, 1.0, 0.05]], device=generator.device)
        towards = torch.where(draws.happens(0.6, 1, 1), towards * upright, towards)
        towards = torch.nn.functional.normalize(towards, dim=-1) * draws.powers(8.0, 90.0, 1, 1)
        low = draws.uniform(-0.7, 0.2)
        return cls(
            torch.cat([towards, draws.uniform(0.0, math.tau, 2, 1)], -1),
            draws.happens(0.5).float(),
            draws.uniform(-0.6, 0.8),
            draws.powers(1.0, 20.0),
            draws.colours((0.0, 0.9), (0.05, 1.0)),
            draws.uniform(0.3, 1.0) * draws.happens(looks.patterns),
            torch.stack([low, low + draws.uniform(0.2, 1.2)], -1),
            draws.powers(0.05, 0.7) * draws.happens(looks.gloss),
            draws.powers(4.0, 60.0),
        )

    def colours(self, local: Tensor, number: Tensor, plain: Tensor) -> Tensor:
        """Colours (..., 3) of objects where they have patterns.

        Args:
            local: (..., 3) places in the object frame.
            number: (...) int64, the object.
            plain: (..., 3) colours without a pattern.
        """
        first, second = (
            torch.sin((local * self.wave[:, k, :3][number]).sum(-1) + self.wave[:, k, 3][number])
            for k in (0, 1)
        )
        total = first + self.second[number] * second
        share = torch.sigmoid(self.sharpness[number] * (total - self.threshold[number]))
        low, high = (self.band[:, k][number] for k in (0, 1))
        within = (local[..., 1] > low) & (local[..., 1] < high)
        share = (share * self.opacity[number] * within)[..., None]
        return plain * (1 - share) + self.colour[number] * share

    def highlights(self, normal: Tensor, rays: Tensor, sun: Tensor, number: Tensor) -> Tensor:
        """Highlights (...) of a sun of strength 1, after Blinn and Phong.

        Args:
            normal, rays, sun: (..., 3) normals, turned to the eye; rays of the eye; unit vectors to the sun.
            number: (...) int64, the object.
        """
        half = torch.nn.functional.normalize(sun - torch.nn.functional.normalize(rays, dim=-1), dim=-1)
        cosine = (normal * half).sum(-1).clamp(min=1e-3)
        return self.gloss[number] * cosine ** self.power[number]
