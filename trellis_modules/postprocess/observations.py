"""Pictures of an appearance, from which a texture is baked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trellis_modules.renderers import render_gaussians, render_octree
from trellis_modules.renderers.cameras import multiview_cameras
from trellis_modules.representations.gaussian import Gaussian
from trellis_modules.representations.octree import VoxelOctree
from trellis_modules.representations.strivec import Strivec


@dataclass(frozen=True)
class Observations:
    """V pictures of S x S pixels of one object, over black.

    Attributes:
        colour: (V, S, S, 3) in [0, 1], weighted by alpha; row 0 is the top.
        alpha: (V, S, S) in [0, 1].
        extrinsics: (V, 4, 4) world to camera, OpenCV axes; the world is the object z-up frame.
        intrinsics: (V, 3, 3) normalised; one (3, 3) for all is repeated.
    """

    colour: Tensor
    alpha: Tensor
    extrinsics: Tensor
    intrinsics: Tensor

    def __post_init__(self) -> None:
        count, size = len(self.colour), self.colour.shape[1] if self.colour.ndim == 4 else 0
        expected = (count, size, size, 3), (count, size, size), (count, 4, 4)
        got = tuple(self.colour.shape), tuple(self.alpha.shape), tuple(self.extrinsics.shape)
        if not size or got != expected or tuple(self.intrinsics.shape) not in ((3, 3), (count, 3, 3)):
            raise ValueError(
                "Observations: expected colour (V, S, S, 3), alpha (V, S, S), extrinsics (V, 4, 4) and "
                "intrinsics (3, 3) or (V, 3, 3), "
                f"got {', '.join(map(str, got))} and {tuple(self.intrinsics.shape)}"
            )
        if not (torch.isfinite(self.colour).all() and torch.isfinite(self.alpha).all()):
            raise ValueError(
                "Observations: expected finite colour and alpha, got nan or inf; check the appearance"
            )
        object.__setattr__(self, "intrinsics", self.intrinsics.expand(count, 3, 3))

    def __len__(self) -> int:
        return len(self.colour)

    @property
    def size(self) -> int:
        """Pixels per edge."""
        return self.colour.shape[1]

    def to(self, device: torch.device) -> Observations:
        """Copy to a device, as float32."""
        return Observations(
            *(
                values.to(device=device, dtype=torch.float32)
                for values in (self.colour, self.alpha, self.extrinsics, self.intrinsics)
            )
        )


@torch.no_grad()
def observe(
    appearance: Gaussian | VoxelOctree | Strivec, num_views: int, size: int, *, backend: str = "auto"
) -> Observations:
    """Render an appearance over black from cameras spread evenly around it.

    Args:
        appearance: in the object z-up frame.
        num_views: cameras at distance 2, field of view 40 degrees.
        size: pixels per edge.
        backend: of the renderer.
    """
    render = render_gaussians if isinstance(appearance, Gaussian) else render_octree
    extrinsics, intrinsics = multiview_cameras(num_views)
    rendering = render(appearance, extrinsics, intrinsics, size, backend=backend)
    return Observations(
        rendering.colour, rendering.alpha, extrinsics.to(rendering.colour), intrinsics.to(rendering.colour)
    )
