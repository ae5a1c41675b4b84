"""Refine a texture until its pictures match the observations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d

from trellis_modules.postprocess.fusion import FAR, MIN_ALPHA, MIN_COSINE, NEAR
from trellis_modules.postprocess.observations import Observations
from trellis_modules.renderers import render_mesh
from trellis_modules.renderers.cameras import eye_positions

_BETAS = (0.5, 0.9)
_LAST_RATE = 1e-5


@dataclass(frozen=True)
class TextureOptimization:
    """How to refine.

    Attributes:
        steps: of Adam, one random view each. The start is close, so a tenth of the steps that a black texture
            would need suffices.
        learning_rate: first one; it falls to 1e-5 along a cosine.
        smoothness: weight of the total variation.
    """

    steps: int = 250
    learning_rate: float = 1e-2
    smoothness: float = 1e-2


@dataclass(frozen=True)
class _View:
    """The pixels of one picture that show the mesh, and nothing but it."""

    grid: Tensor  # (1, 1, P, 2) places in the texture, in [-1, 1], y down
    colour: Tensor  # (3, P) without background


def optimize_texture(
    texture: Tensor,
    covered: Tensor,
    mesh: tuple[Tensor, Tensor, Tensor],
    observations: Observations,
    config: TextureOptimization,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Minimise the mean absolute difference to the observations plus the total variation.

    Args:
        texture: (S, S, 3) in [0, 1], the start, filled between the charts too.
        covered: (S, S) bool, where the texture shows the surface; only there it is kept smooth.
        mesh: vertices (V, 3), faces (F, 3) and uvs (V, 2) with v up.
        observations: on the same device.
        config: how.
        generator: draws the views, on the CPU; None is a fixed one.

    Returns:
        (S, S, 3) in [0, 1].

    Source: TRELLIS, arXiv:2412.01506, app. (texture baking).
    """
    views = [view for k in range(len(observations)) if (view := _visible_pixels(mesh, observations, k))]
    if not views:
        return texture
    generator = generator or torch.Generator().manual_seed(0)
    order = torch.randint(len(views), (config.steps,), generator=generator).tolist()
    pairs = covered[1:] & covered[:-1], covered[:, 1:] & covered[:, :-1]
    with torch.enable_grad():
        values = texture.permute(2, 0, 1)[None].clone().requires_grad_()
        adam = torch.optim.Adam([values], lr=config.learning_rate, betas=_BETAS, fused=True)
        for step, number in enumerate(order):
            adam.param_groups[0]["lr"] = _rate(config, step)
            view = views[number]
            picture = grid_sample(values, view.grid, padding_mode="border", align_corners=False)[0, :, 0]
            loss = (picture - view.colour).abs().mean() + config.smoothness * _variation(values[0], *pairs)
            adam.zero_grad()
            loss.backward()
            adam.step()
    return values.detach()[0].permute(1, 2, 0).clamp(0, 1)


def _rate(config: TextureOptimization, step: int) -> float:
    """Learning rate of a step."""
    wave = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return _LAST_RATE + wave * (config.learning_rate - _LAST_RATE)


def _variation(values: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Mean difference of neighbours in (3, S, S) over the pairs (S - 1, S) and (S, S - 1) that count."""
    down = ((values[:, 1:] - values[:, :-1]).abs() * vertical).sum() / (3 * vertical.sum()).clamp_min(1)
    right = ((values[..., 1:] - values[..., :-1]).abs() * horizontal).sum()
    return down + right / (3 * horizontal.sum()).clamp_min(1)


def _visible_pixels(
    mesh: tuple[Tensor, Tensor, Tensor], observations: Observations, number: int
) -> _View | None:
    """Pixels whose neighbours, too, show the mesh and the appearance, seen not too obliquely."""
    vertices, faces, uvs = mesh
    one = slice(number, number + 1)
    extrinsics, intrinsics = observations.extrinsics[one], observations.intrinsics[one]
    points = torch.cat([uvs, vertices], dim=1)
    rendering = render_mesh(
        vertices, faces, extrinsics, intrinsics, observations.size,
        vertex_attributes=points, near=NEAR, far=FAR,
    )  # fmt: skip
    alpha = observations.alpha[number]
    blocked = ((rendering.face[0] < 0) | (alpha <= MIN_ALPHA)).float()
    usable = max_pool2d(blocked[None, None], 3, stride=1, padding=1)[0, 0] == 0
    uv, position = rendering.attributes[0].split((2, 3), dim=-1)
    towards_eye = torch.nn.functional.normalize(eye_positions(extrinsics)[0] - position, dim=-1)
    usable &= (rendering.normal[0] * towards_eye).sum(dim=-1) > MIN_COSINE
    if not bool(usable.any()):
        return None
    grid = torch.stack([2 * uv[..., 0] - 1, 1 - 2 * uv[..., 1]], dim=-1)[usable]
    return _View(grid[None, None], (observations.colour[number] / alpha[..., None])[usable].mT)
