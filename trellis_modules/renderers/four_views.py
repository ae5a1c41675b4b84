"""Pictures of something from all four sides, as one picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from trellis_modules.renderers.cameras import fov_intrinsics, orbit_extrinsics
from trellis_modules.renderers.gaussian_renderer import render_gaussians
from trellis_modules.renderers.pictures import to_uint8, two_by_two
from trellis_modules.representations.gaussian import Gaussian

_DISTANCE, _FOV_DEG = 2.0, 40.0
_TURN = math.pi / 4  # by which views are turned and tilted at most


@torch.no_grad()
def four_views(draw: Callable[[Tensor, Tensor], Tensor], generator: torch.Generator | None = None) -> Tensor:
    """Draw from all four sides, turned and tilted by chance.

    Args:
        draw: (extrinsics (1, 4, 4), intrinsics (3, 3)) -> colours (S, S, 3) in [0, 1].
        generator: of the angles of the views, on the CPU; None: always the same.

    Returns:
        (2 * S, 2 * S, 3) uint8, the views as a grid of two by two.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    turn = (2 * torch.rand(5, generator=generator) - 1) * _TURN
    yaw, pitch = torch.arange(4) * (math.pi / 2) + turn[0], turn[1:]
    intrinsics = fov_intrinsics(math.radians(_FOV_DEG))
    views = [draw(pose[None], intrinsics) for pose in orbit_extrinsics(yaw, pitch, _DISTANCE)]
    return to_uint8(two_by_two(torch.stack(views)))


def gaussian_preview(
    gaussian: Gaussian, *, size: int, ssaa: int, generator: torch.Generator | None = None
) -> Tensor:
    """Four views of Gaussians on black.

    Args:
        gaussian: of one object.
        size: pixels per edge of a view.
        ssaa: samples per pixel and axis.
        generator: see `four_views`.

    Returns:
        (2 * size, 2 * size, 3) uint8.
    """
    draw = partial(render_gaussians, gaussian, size=size, ssaa=ssaa)
    return four_views(lambda pose, intrinsics: draw(pose, intrinsics).colour[0], generator)
