"""Objective of the geometry encoder: depth and cameras of one or two pictures of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scenegen.synthesis.sources.batch import PhotoBatch, ScenePairBatch
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.losses import masked_mean
from vggt.pose_encoding import cameras_to_encoding

_NEAR, _FAR = 0.02, 8.0  # of the mean depth; what lies beyond (a wall far behind) is not trained on


@dataclass(frozen=True)
class GeometryEncoderConfig:
    """Weights of the terms: depth + lambda_edges * depth differences + lambda_camera * camera encoding."""

    lambda_edges: float = 1.0
    lambda_camera: float = 2.0


class GeometryEncoderObjective(Objective):
    """Trains ``aggregator``, ``camera_head`` and ``depth_head`` of a VGGT on rendered scenes.

    Every second batch has two views, so that the attention across frames learns something too. As in VGGT
    (sec. 3.4) the first camera is the world frame, and lengths are in units of the first view's mean depth.
    """

    batch_type = ScenePairBatch

    def __init__(self, vggt: nn.Module, config: GeometryEncoderConfig) -> None:
        super().__init__()
        self.vggt, self.config = vggt, config

    def decide(self, generator: torch.Generator) -> tuple[int]:
        """How many frames the loss looks at."""
        return (1 + int(torch.randint(2, (), generator=generator)),)

    def forward(
        self, batch: ScenePairBatch, generator: torch.Generator, frames: int = 1
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Log-depth error, differences of neighbouring depths, and camera error."""
        views = (batch.first, batch.second)[:frames]
        images = torch.stack([view.image for view in views], dim=1)  # (S, frames, 3, I, I)
        depth = torch.stack([view.depth for view in views], dim=1)
        unit = self._mean_depth(depth[:, 0])
        relative = depth / unit[:, None, None, None]
        tokens, first_patch = self.vggt.aggregator(images)
        values, _ = self.vggt.depth_head(
            tokens, tuple(images.shape[-2:]), first_patch, frames_chunk_size=None
        )
        terms = self._depth_terms(values[..., 0].float(), relative)
        goal = self._encodings(views, unit, images.shape[-1])
        cameras = self.vggt.camera_head(tokens[-1])
        terms["camera"] = sum(
            0.8 ** (len(cameras) - 1 - i) * (camera.float() - goal).abs().mean()
            for i, camera in enumerate(cameras)
        )
        loss = (
            terms["depth"]
            + self.config.lambda_edges * terms["edges"]
            + self.config.lambda_camera * terms["camera"]
        )
        logs = {name: term.detach() for name, term in terms.items()}
        logs["fov_error_deg"] = torch.rad2deg(
            (cameras[-1][..., 7].float() - goal[..., 7]).abs().mean()
        ).detach()
        return loss, logs

    @staticmethod
    def _mean_depth(depth: Tensor) -> Tensor:
        """Mean (S,) of the finite depths of (S, H, W) below 30 metres."""
        valid = depth < 30
        return (torch.where(valid, depth, 0).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)).clamp(min=0.1)

    def _depth_terms(self, predicted: Tensor, relative: Tensor) -> dict[str, Tensor]:
        """L1 of log depth and of its differences between neighbours; both (S, frames, h, w)."""
        stride = relative.shape[-1] // predicted.shape[-1]
        goal = relative[..., stride // 2 :: stride, stride // 2 :: stride]
        valid = (goal > _NEAR) & (goal < _FAR)
        error = predicted.clamp(min=1e-4).log() - torch.where(valid, goal, 1.0).log()
        along_x = (error[..., 1:] - error[..., :-1]).abs(), valid[..., 1:] & valid[..., :-1]
        along_y = (error[..., 1:, :] - error[..., :-1, :]).abs(), valid[..., 1:, :] & valid[..., :-1, :]
        return {
            "depth": masked_mean(error.abs(), valid),
            "edges": masked_mean(*along_x) + masked_mean(*along_y),
        }

    @staticmethod
    def _encodings(views: Sequence[PhotoBatch], unit: Tensor, size: int) -> Tensor:
        """Camera encodings (S, frames, 9) relative to the first camera."""
        world_to_camera = torch.stack([view.extrinsics for view in views], dim=1)
        relative = world_to_camera @ torch.linalg.inv(world_to_camera[:, :1])
        relative[..., :3, 3] /= unit[:, None, None]
        focal = torch.stack([view.focal for view in views], dim=1) * size
        intrinsics = torch.diag_embed(F.pad(focal[..., None].expand(-1, -1, 2), (0, 1), value=1.0))
        intrinsics[..., :2, 2] = size / 2
        return cameras_to_encoding(relative[..., :3, :], intrinsics, (size, size))
