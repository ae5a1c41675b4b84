"""Light of training scenes beyond one white sun and a grey sky."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from scenegen.synthesis.pictures.looks import Draws

_CORNER_REACH_M = 0.35
_SOFT_PIXELS = 9  # over which borders of shadows are softened


@dataclass(frozen=True)
class SceneLight:
    """Light of S scenes; of scenes without a change all factors are 1 and all strengths 0.

    Attributes:
        ambient, sun: (S, 3) factors of sky and sun: their strengths and colours.
        lamp: (S, 3) place of a lamp without shadow; glow: (S, 3) its light at its place; reach: (S,) metres
            at which half of it is left.
        corners: (S,) how much darker it is where surfaces meet.
        softness: (S,) share of blurred shadows.
        window: (S, 4) half sides of the window through which the sun shines, width of its bars, and whether
            there is one; window_axes: (S, 2, 3) across the sun's rays, about centre: (S, 3).
        exposure: (S,) mean light that the camera sets a picture to; 0 for pictures that are left as they are.
    """

    ambient: Tensor
    sun: Tensor
    lamp: Tensor
    glow: Tensor
    reach: Tensor
    corners: Tensor
    softness: Tensor
    window: Tensor
    window_axes: Tensor
    centre: Tensor
    exposure: Tensor

    @classmethod
    def draw(cls, scene: dict[str, Tensor], probability: float, generator: torch.Generator) -> SceneLight:
        """Draw the light of the scenes of a batch (see `layout_arrays`; with ``low`` and ``high``)."""
        draws = Draws(len(scene["eye"]), generator)
        changed = draws.happens(probability)
        centre, spread = (scene["low"] + scene["high"]) / 2, scene["high"] - scene["low"]

        def factors(low: float, high: float) -> Tensor:
            drawn = draws.powers(low, high, 1) * _warmth(draws)
            return torch.where(changed[:, None], drawn, 1.0)

        has_window = changed & draws.happens(0.25)
        sun = factors(0.15, 1.8) * torch.where(has_window, 1.8, 1.0)[:, None]
        lamp = centre + spread * draws.uniform(-0.7, 0.7, 3)
        lamp[:, 1] = draws.uniform(0.8, 2.6)
        glow = draws.uniform(0.1, 0.9, 1) * _warmth(draws) * (changed & draws.happens(0.5))[:, None]
        window = [draws.uniform(0.15, 0.9), draws.uniform(0.15, 0.9), draws.uniform(0.0, 0.05)]
        up = torch.tensor([0.0, 1.0, 0.0], device=lamp.device).expand_as(lamp)
        across = F.normalize(torch.linalg.cross(scene["sun_direction"], up), dim=-1)
        return cls(
            factors(0.5, 1.35),
            sun,
            lamp,
            glow,
            draws.powers(0.4, 3.0),
            draws.uniform(0.0, 0.5) * changed,
            draws.uniform(0.0, 1.0) * changed,
            torch.stack([*window, has_window.float()], -1),
            torch.stack([across, torch.linalg.cross(scene["sun_direction"], across)], 1),
            centre + spread * draws.uniform(-0.4, 0.4, 3),
            draws.uniform(0.6, 1.05) * changed,
        )

    def received(
        self, points: Tensor, scene: dict[str, Tensor], sky: Tensor, sunlight: Tensor, lit: Tensor
    ) -> Tensor:
        """Light (S, H, W, 3) at places.

        Args:
            points: (S, H, W, 3) in the world.
            scene: see `shading.render_scenes`.
            sky: (S, H, W) light of the sky.
            sunlight: (S, H, W) light of the sun where nothing shades it.
            lit: (S, H, W) 1 where nothing does, 0 in shadow.
        """
        soft = F.avg_pool2d(lit[:, None], _SOFT_PIXELS, 1, _SOFT_PIXELS // 2, count_include_pad=False)[:, 0]
        lit = torch.lerp(lit, soft, self.softness[:, None, None]) * self._through_window(points)
        sky = sky * (1 - self.corners[:, None, None] * _nearness(points, scene))
        distance = (points - self.lamp[:, None, None]).square().sum(-1)
        glow = 1 / (1 + distance / self.reach.square()[:, None, None])

        def coloured(light: Tensor, colour: Tensor) -> Tensor:
            return light[..., None] * colour[:, None, None]

        light = coloured(sky, self.ambient) + coloured(sunlight * lit, self.sun) + coloured(glow, self.glow)
        gain = self.exposure / light.mean((1, 2, 3)).clamp(min=1e-3)
        return light * torch.where(self.exposure > 0, gain, 1.0)[:, None, None, None]

    def _through_window(self, points: Tensor) -> Tensor:
        """1 where the sun shines through the window, or where there is none."""
        half_u, half_v, bar, exists = (part[:, None, None] for part in self.window.unbind(-1))
        u, v = torch.einsum("shwc,skc->kshw", points - self.centre[:, None, None], self.window_axes)
        inside = (u.abs() < half_u) & (v.abs() < half_v) & (torch.minimum(u.abs(), v.abs()) > bar)
        return (inside | (exists < 0.5)).float()


def _warmth(draws: Draws) -> Tensor:
    """Colours (S, 3) of light from warm to cold, of mean brightness 1."""
    warm = draws.uniform(-0.3, 0.22, 1)
    return torch.cat([1 - 0.8 * warm, 1 - 0.1 * warm, 1 + warm], -1)


def _nearness(points: Tensor, scene: dict[str, Tensor]) -> Tensor:
    """How near (S, H, W) places are to two surfaces of their room at once, 0 to 1."""
    nearest, second = points[..., 1].abs(), (scene["ceiling"][:, None, None] - points[..., 1]).abs()
    nearest, second = torch.minimum(nearest, second), torch.maximum(nearest, second)
    for point, normal in zip(scene["wall_point"].unbind(1), scene["wall_normal"].unbind(1)):
        distance = torch.einsum("shwc,sc->shw", points - point[:, None, None], normal).abs()
        exists = normal.abs().sum(-1)[:, None, None] > 0
        distance = torch.where(exists, distance, torch.inf)
        second = torch.minimum(second, torch.maximum(nearest, distance))
        nearest = torch.minimum(nearest, distance)
    return torch.exp(-second / _CORNER_REACH_M)
