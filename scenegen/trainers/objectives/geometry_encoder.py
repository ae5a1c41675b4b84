"""Objective of the geometry encoder: depth and cameras of one or two pictures of a scene."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scenegen.trainers.objectives.losses import masked_mean
from scenegen.trainers.trainer import Objective
from vggt.pose_encoding import cameras_to_encoding

_NEAR, _FAR = 0.02, 8.0  # of the mean depth; what lies beyond (a wall far behind) is not trained on


@dataclass(frozen=True)
class GeometryEncoderConfig:
    """Weights of the terms: depth + lambda_edges * depth differences + lambda_camera * camera encoding."""

    lambda_edges: float = 1.0
    lambda_camera: float = 2.0


def _stack_views(batch: Mapping[str, Tensor], name: str, frames: int) -> Tensor:
    """(S, frames, ...) from ``name`` and, for two frames, ``second_name``."""
    return torch.stack([batch[prefix + name] for prefix in ("", "second_")[:frames]], dim=1)


class GeometryEncoderObjective(Objective):
    """Trains ``aggregator``, ``camera_head`` and ``depth_head`` of a VGGT on rendered scenes.

    Every second batch has two views, so that the attention across frames learns something too. As in VGGT
    (sec. 3.4) the first camera is the world frame, and lengths are in units of the first view's mean depth.
    """

    def __init__(self, vggt: nn.Module, config: GeometryEncoderConfig) -> None:
        self.modules: Mapping[str, nn.Module] = {"vggt": vggt}
        self.vggt, self.config = vggt, config
        self._frames = 1

    def settle(self, generator: torch.Generator) -> Hashable:
        """How many frames the next loss looks at."""
        self._frames = 1 + int(torch.randint(2, (), generator=generator))
        return self._frames

    def loss(
        self, batch: Mapping[str, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Log-depth error, differences of neighbouring depths, and camera error."""
        frames = self._frames
        images, depth = _stack_views(batch, "scene_image", frames), _stack_views(batch, "depth", frames)
        unit = self._mean_depth(depth[:, 0])
        relative = depth / unit[:, None, None, None]
        tokens, first_patch = self.vggt.aggregator(images)
        values, _ = self.vggt.depth_head(
            tokens, tuple(images.shape[-2:]), first_patch, frames_chunk_size=None
        )
        terms = self._depth_terms(values[..., 0].float(), relative)
        goal = self._encodings(batch, frames, unit, images.shape[-1])
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
    def _encodings(batch: Mapping[str, Tensor], frames: int, unit: Tensor, size: int) -> Tensor:
        """Camera encodings (S, frames, 9) relative to the first camera."""
        world_to_camera = _stack_views(batch, "camera_extrinsics", frames)
        relative = world_to_camera @ torch.linalg.inv(world_to_camera[:, :1])
        relative[..., :3, 3] /= unit[:, None, None]
        focal = _stack_views(batch, "focal", frames) * size
        intrinsics = torch.diag_embed(F.pad(focal[..., None].expand(-1, -1, 2), (0, 1), value=1.0))
        intrinsics[..., :2, 2] = size / 2
        return cameras_to_encoding(relative[..., :3, :], intrinsics, (size, size))
