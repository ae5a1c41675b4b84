"""Objects that stand inside of each other: the released number, and an overlap with gradients.

Occupancies are those of the structure decoder, (N, R, R, R) with axes x, y, z of the object's z-up frame.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from scenegen.geometry import SCALE, identity_pose, invert_pose, place, place_yup, sanitize_pose, yup_to_zup

_SMALLEST_VOLUME = 1e-6


@torch.no_grad()
def collision_ratio(occupied: Tensor, poses: Tensor, resolution: int) -> Tensor:
    """Share of the occupied cells of a scene that more than one of its target assets touches.

    This is the published number, and has no gradient: the lower corners of voxels are placed, the scene is
    fitted to a cube of cells with the query in it, and the query is not counted.

    Args:
        occupied: (N, R, R, R) bool, the query first.
        poses: (N, 8) in the query frame.
        resolution: cells along the cube.

    Returns:
        A number from 0 to 1; 0 where there is nothing.
    """
    asset, *voxel = occupied.nonzero(as_tuple=True)
    if not len(asset):
        return poses.new_zeros(())
    corners = torch.stack(voxel, -1).to(poses) / occupied.shape[-1] - 0.5
    points = place(corners[:, None], poses[asset])[:, 0]
    low, high = points.amin(0), points.amax(0)
    side = (high - low).max().clamp_min(torch.finfo(points.dtype).tiny)
    cells = (((points - (low + high) / 2) / side + 0.5) * (resolution - 1)).long().clamp(0, resolution - 1)
    index = (cells * cells.new_tensor([resolution**2, resolution, 1])).sum(-1)
    counted = asset > 0
    touched = torch.unique(torch.stack([index[counted], asset[counted]]), dim=1)[0]
    _, assets_in_cell = torch.unique(touched, return_counts=True)
    return (assets_in_cell > 1).sum() / assets_in_cell.new_tensor(max(len(assets_in_cell), 1))


def soft_overlap(logits: Tensor, poses: Tensor, resolution: int) -> Tensor:
    """Volume that objects share over the volume that they fill, with gradients for shapes and poses.

    Every object counts, the query too, with what its surface encloses. Points of each object's grid go
    through `place` into the scene and from there into the frames of the others, whose occupancy is read
    between voxels; pairs count once.

    Args:
        logits: (N, R, R, R) of the structure decoder.
        poses: (N, 8) predicted in the query frame; the first is taken for the identity, which it is when a
            scene is made.
        resolution: points along each object's cube, a divisor of R.

    Raises:
        ValueError: the resolution does not divide R.
    """
    count, edge = logits.shape[:2]
    if edge % resolution:
        raise ValueError(f"trainer.overlap_resolution: expected a divisor of {edge}, got {resolution}")
    solids = solid_occupancy(logits.float().sigmoid())
    query = identity_pose(1, device=poses.device, dtype=poses.dtype)
    poses = sanitize_pose(torch.cat([query, poses[1:]]))
    filled = F.avg_pool3d(solids[:, None], edge // resolution).flatten(1)  # (N, P)
    in_scene = place(_cell_centres(resolution, poses), poses)  # (N, P, 3)
    in_frames = yup_to_zup(place_yup(in_scene.flatten(0, 1), invert_pose(poses)))  # (N, N * P, 3)
    # grid_sample takes a volume as [z, y, x] and its points as (x, y, z), the cube being [-1, 1].
    grids = solids.permute(0, 3, 2, 1)[:, None]
    read = F.grid_sample(grids, 2 * in_frames[:, None, None], align_corners=False)
    read = read.view(count, count, -1)  # [frame, object of the point, point]
    cell = poses[:, SCALE, None].pow(3).view(-1) / resolution**3  # volume around a point of each object
    shared = (read * filled).sum(-1) * cell
    overlap = (shared.sum() - shared.diagonal().sum()) / 2
    volumes = filled.sum(-1) * cell
    union = torch.maximum(volumes.sum() - overlap, volumes.max())  # where three meet, pairs count too often
    return overlap / union.detach().clamp_min(_SMALLEST_VOLUME)


def solid_occupancy(shell: Tensor) -> Tensor:
    """Fill what surfaces enclose: a voxel counts as much as it is hidden in all six directions.

    Args:
        shell: (N, R, R, R) in [0, 1].

    Returns:
        The same shape; nowhere less than the shell.
    """
    hidden = [
        values
        for axis in (1, 2, 3)
        for values in (shell.cummax(axis).values, shell.flip(axis).cummax(axis).values.flip(axis))
    ]
    return torch.stack(hidden).amin(0)


def _cell_centres(resolution: int, like: Tensor) -> Tensor:
    """Centres (resolution^3, 3) of the cells of the object's cube, z changing fastest."""
    centres = (torch.arange(resolution, device=like.device, dtype=like.dtype) + 0.5) / resolution - 0.5
    return torch.cartesian_prod(centres, centres, centres)
