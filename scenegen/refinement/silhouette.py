"""How well an object, seen by the photo's camera, covers its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scenegen.geometry import place_yup
from scenegen.photo.camera import PhotoCamera
from scenegen.refinement.solid import Solid

GRID_WIDTH = 64
"""Cells across the photo on which silhouettes are compared."""

_POINTS = 4000
_MIN_DEPTH = 0.05


@dataclass(frozen=True)
class MaskTarget:
    """One object's mask on a coarse grid.

    Attributes:
        cover: (H, W) float32, share of each cell that the mask covers.
        counts: (H, W) float32, share of each cell that no other mask covers; behind those it may go on.
        camera: (3, 4) float32, query frame to camera.
        focal: in photo widths.
    """

    cover: Tensor
    counts: Tensor
    camera: Tensor
    focal: float

    def overlap(self, solid: Solid, poses: Tensor) -> Tensor:
        """Intersection over union (K,) in [0, 1] of the mask and an object at poses (K, 8)."""
        shown = self._silhouettes(place_yup(solid.points[:_POINTS], poses))
        both = torch.minimum(shown, self.cover) * self.counts
        either = torch.maximum(shown, self.cover) * self.counts
        return both.sum(dim=(1, 2)) / either.sum(dim=(1, 2)).clamp_min(1e-6)

    def _silhouettes(self, points: Tensor) -> Tensor:
        """Cells (K, H, W) in {0, 1} that points (K, P, 3) cover, small gaps closed."""
        height, width = self.cover.shape
        xyz = points @ self.camera[:, :3].T + self.camera[:, 3]
        depth = xyz[..., 2]
        uv = self.focal * xyz[..., :2] / depth.clamp_min(_MIN_DEPTH)[..., None]
        cells = ((uv + uv.new_tensor([0.5, 0.5 * height / width])) * width).floor().long()
        inside = (depth > _MIN_DEPTH) & ((cells >= 0) & (cells < cells.new_tensor([width, height]))).all(-1)
        index = torch.where(inside, cells[..., 1] * width + cells[..., 0], height * width)  # last: outside
        shown = points.new_zeros(len(points), height * width + 1).scatter_(1, index, 1.0)
        shown = shown[:, :-1].view(-1, 1, height, width)
        grown = F.max_pool2d(shown, 3, 1, 1)
        return torch.maximum(shown, -F.max_pool2d(-grown, 3, 1, 1)).squeeze(1)


def mask_targets(view: PhotoCamera, masks: Sequence[np.ndarray]) -> list[MaskTarget]:
    """Prepare the masks of a scene, (H, W) bool each and all of one size."""
    covers = torch.stack([_coarse(mask) for mask in masks])
    camera = torch.from_numpy(view.extrinsics[:3]).float()
    total = covers.sum(dim=0)
    return [
        MaskTarget(cover, (1 - (total - cover)).clamp(0, 1), camera, float(view.focal)) for cover in covers
    ]


def _coarse(mask: np.ndarray) -> Tensor:
    """Area average of a mask, `GRID_WIDTH` cells wide."""
    height, width = mask.shape
    rows = max(round(GRID_WIDTH * height / width), 1)
    return F.adaptive_avg_pool2d(torch.from_numpy(mask).float()[None], (rows, GRID_WIDTH))[0]
