"""Pose of each asset from its position token, refined over a few passes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis_modules.models import TorsoModule, full_precision
from trellis_modules.transformer import (
    NORM_EPS,
    LayerNorm32,
    ModulatedTransformerBlock,
    initialize_transformer,
)

#: Pose encodings and their identity: translation (3), rotation (quaternion wxyz or Euler angles), scale (1).
IDENTITY_POSES: dict[str, tuple[float, ...]] = {
    "absT_quatR_S": (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    "absT_eulerR_S": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
}


class PositionHead(TorsoModule):
    """Iterative pose regression: each pass is modulated by the pose so far and adds a correction.

    Source: SceneGen, arXiv:2508.15769, sec. 3.2, after the camera head of VGGT, arXiv:2503.11651.
    """

    def __init__(
        self,
        model_channels: int,
        trunk_depth: int = 4,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        pose_encoding_type: str = "absT_quatR_S",
        num_iteration: int = 4,
    ) -> None:
        super().__init__()
        if pose_encoding_type not in IDENTITY_POSES:
            raise ValueError(
                f"PositionHead: pose_encoding_type must be one of {sorted(IDENTITY_POSES)}, "
                f"got {pose_encoding_type!r}"
            )
        if num_iteration < 1:
            raise ValueError(f"PositionHead: num_iteration must be at least 1, got {num_iteration}")
        self.num_iteration = num_iteration
        self.identity = IDENTITY_POSES[pose_encoding_type]
        pose_size = len(self.identity)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, pose_size))
        self.trunk = nn.ModuleList(
            ModulatedTransformerBlock(model_channels, num_heads, mlp_ratio, qk_rms_norm=True)
            for _ in range(trunk_depth)
        )
        self.token_norm = LayerNorm32(model_channels, eps=NORM_EPS, elementwise_affine=False)
        self.trunk_norm = LayerNorm32(model_channels, eps=NORM_EPS, elementwise_affine=False)
        self.embed_pose = nn.Linear(pose_size, model_channels)
        self.pose_branch = nn.Sequential(
            nn.Linear(model_channels, model_channels // 2),
            nn.GELU(),
            nn.Linear(model_channels // 2, pose_size),
        )

    def torso(self) -> Iterator[nn.Module]:
        """The trunk; pose embedding and regression stay float32."""
        yield self.trunk

    def initialize_weights(self) -> None:
        """Start near the identity pose: a scale that starts at 0 would get no gradient through its ReLU."""
        initialize_transformer(self)
        last = self.pose_branch[-1]
        nn.init.normal_(last.weight, std=0.02)
        with torch.no_grad():
            last.bias.copy_(torch.tensor(self.identity) / self.num_iteration)

    def forward(self, token: Tensor, is_query: Tensor, num_iteration: int | None = None) -> Tensor:
        """Regress the poses of B assets.

        Args:
            token: (B, 1, C) float32 position tokens after the last block.
            is_query: (B,) bool; in eval mode these rows become the identity: a query asset is the frame.
            num_iteration: passes; default: the configured number.

        Returns:
            (B, 8) float32, object to query frame: translation, quaternion (wxyz, not normalised), scale >= 0.
        """
        with full_precision(token.device):
            token = self.token_norm(token)
            pose = torch.zeros_like(self.empty_pose_tokens).expand(len(token), -1)
            previous = self.empty_pose_tokens.expand(len(token), -1)
            for _ in range(num_iteration or self.num_iteration):
                pose = pose + self._refine(token, self.embed_pose(previous))
                previous = pose
            pose = torch.cat([pose[:, :-1], F.relu(pose[:, -1:])], dim=-1)
        if self.training:
            return pose
        # made on its device, because a pass that is recorded as a CUDA graph copies nothing from the CPU
        identity = torch.cat([pose.new_full((1,), value) for value in self.identity])
        return torch.where(is_query[:, None], identity, pose)

    def _refine(self, token: Tensor, condition: Tensor) -> Tensor:
        """One pass: (B, 1, C) tokens and (B, C) embedded poses -> (B, 8) corrections."""
        h, condition = token.to(self.torso_dtype), condition.to(self.torso_dtype)
        for block in self.trunk:
            h = block(h, condition)
        return self.pose_branch(self.trunk_norm(h.to(token.dtype))).squeeze(1)
