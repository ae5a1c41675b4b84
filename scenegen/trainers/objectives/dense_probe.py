"""Auxiliary targets of networks that start from nothing: where patches lie, how objects stand."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scenegen.geometry import ROTATION, SCALE, TRANSLATION
from scenegen.synthesis.sources.batch import PhotoBatch
from scenegen.trainers.objectives.losses import masked_mean
from trellis_modules.quaternions import quaternion_to_matrix

_DEPTH_UNIT_M = 3.5  # typical distance of what a patch shows, so that the target is 0 on average
_FAR_M = 20.0
_TOKEN_GAIN = 0.05
CAMERA_POSE_SIZE = 13


class Probe(nn.Linear):
    """A linear map from tokens to targets, whose steps stay small beside its errors.

    Small transformers learn to see much sooner from dense targets than through a model that is conditioned on
    them; afterwards the map is not needed. Tokens are layer-normalised and enter with a small gain: with 256
    channels near 1, one step of Adam at a rate of 1e-3 would move every output by up to 0.2, more than the
    errors to be told apart, and the encoder would learn to undo that instead of to see.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., C) tokens -> (..., outputs)."""
        return super().forward(_TOKEN_GAIN * F.layer_norm(tokens, tokens.shape[-1:]))


class PointsProbe(Probe):
    """Where parts of the patches of crops lie on their objects: several points a patch."""

    def __init__(self, width: int, grid: int, parts: int = 1) -> None:
        """Build the map.

        Args:
            width: channels of the tokens.
            grid: patches along an edge of a crop.
            parts: points along each edge of a patch.
        """
        super().__init__(width, 3 * parts**2)
        self.grid, self.parts = grid, parts

    def error(self, patches: Tensor, object_points: Tensor) -> Tensor:
        """See `points_error`.

        Args:
            patches: tokens (B, grid * grid, width) of the patches of crops.
            object_points: (B, 4, G, G), see `SceneBatch`; G a multiple of ``grid * parts``.
        """
        told = self(patches).mT.unflatten(2, (self.grid, self.grid))
        points = F.pixel_shuffle(told, self.parts).flatten(2).mT
        return points_error(points, F.adaptive_avg_pool2d(object_points.float(), self.grid * self.parts))


def points_error(predicted: Tensor, object_points: Tensor) -> Tensor:
    """Mean absolute error, in longest sides of the object, of the points that the patches of crops show.

    Args:
        predicted: (B, G * G, 3) in the object's y-up frame.
        object_points: (B, 4, G, G), see `SceneBatch`; patches count by the share that shows the object.
    """
    points, share = object_points.flatten(2).mT.split((3, 1), dim=-1)  # (B, G*G, 3), (B, G*G, 1)
    error = (predicted.float() * share - points).abs().mean(-1, keepdim=True)
    return error.sum() / share.sum().clamp(min=1e-6)


def depth_error(predicted: Tensor, depth: Tensor) -> Tensor:
    """Mean absolute error of the logarithm of the depth of G * G patches.

    Args:
        predicted: (S, G * G), logarithm of the depth in units of 3.5 m.
        depth: (S, I, I) metres; beyond 20 m counts as 20 m.
    """
    grid = math.isqrt(predicted.shape[1])
    log_depth = torch.log(depth.clamp(max=_FAR_M) / _DEPTH_UNIT_M)[:, None]
    return (predicted.float() - F.adaptive_avg_pool2d(log_depth, grid).flatten(1)).abs().mean()


def camera_poses(picture: PhotoBatch, world_poses: Tensor) -> Tensor:
    """How objects stand before the camera: (S, N, `CAMERA_POSE_SIZE`).

    Place of the centre in the picture (x and y, the picture being [-1, 1]), logarithms of its depth over
    3.5 m and of the longest side in metres, and the object's axes in the camera frame, row by row.

    Args:
        picture: of S scenes.
        world_poses: (S, N, 8) in metres.
    """
    extrinsics = picture.extrinsics[:, None]
    rotation = extrinsics[..., :3, :3]
    centre = (rotation @ world_poses[..., TRANSLATION, None] + extrinsics[..., :3, 3:])[..., 0]
    depth = centre[..., 2:].clamp(min=0.1)
    place = (2 * picture.focal[:, None, None] * centre[..., :2] / depth).clamp(-2, 2)
    axes = rotation @ quaternion_to_matrix(world_poses[..., ROTATION])
    sizes = [torch.log(depth / _DEPTH_UNIT_M), torch.log(world_poses[..., SCALE])]
    return torch.cat([place, *sizes, axes.flatten(-2)], dim=-1)


def camera_pose_errors(predicted: Tensor, target: Tensor, counted: Tensor) -> dict[str, Tensor]:
    """Mean absolute errors of the parts of camera poses (..., `CAMERA_POSE_SIZE`); ``counted`` (...) bool."""
    error = (predicted.float() - target).abs()
    parts = {"camera_place": error[..., :2], "camera_size": error[..., 2:4], "camera_axes": error[..., 4:]}
    return {name: masked_mean(part.mean(-1), counted.float()) for name, part in parts.items()}
