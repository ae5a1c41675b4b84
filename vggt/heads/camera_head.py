"""Camera encoding from each frame's camera token, refined in a few iterations.

Source: VGGT, arXiv:2503.11651, sec. 3.3. Attribute names are the released weights' keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vggt.layers.block import Block
from vggt.layers.mlp import Mlp

POSE_DIM = 9  # translation 3, quaternion xyzw 4, field of view 2


class CameraHead(nn.Module):
    """Predict camera encodings by repeated correction through one shared trunk."""

    def __init__(
        self,
        dim_in: int = 2048,
        trunk_depth: int = 4,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        init_values: float = 0.01,
    ) -> None:
        """Build the head.

        Args:
            dim_in: channels of the aggregated tokens.
            trunk_depth: blocks of the trunk.
            num_heads: attention heads of a block.
            mlp_ratio: hidden width of a block's perceptron over ``dim_in``.
            init_values: initial layer scale of the trunk.
        """
        super().__init__()
        self.trunk = nn.ModuleList(
            Block(dim_in, num_heads, mlp_ratio, init_values=init_values) for _ in range(trunk_depth)
        )
        self.token_norm = nn.LayerNorm(dim_in)
        self.trunk_norm = nn.LayerNorm(dim_in)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_DIM))
        self.embed_pose = nn.Linear(POSE_DIM, dim_in)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim_in, 3 * dim_in))
        self.adaln_norm = nn.LayerNorm(dim_in, elementwise_affine=False, eps=1e-6)
        self.pose_branch = Mlp(dim_in, dim_in // 2, POSE_DIM)

    def forward(self, tokens: Tensor, num_iterations: int = 4) -> list[Tensor]:
        """Predict one camera per frame.

        Args:
            tokens: (B, S, P, dim_in), the aggregator's last output; token 0 is the camera token.
            num_iterations: corrections; gradients do not flow from one into the one before.

        Returns:
            ``num_iterations`` encodings (B, S, 9): translation, quaternion xyzw (not normalised), fov_h and
            fov_w in radians, never negative. Decode with ``vggt.pose_encoding``.

        Raises:
            ValueError: ``num_iterations`` is not positive.
        """
        if num_iterations < 1:
            raise ValueError(f"CameraHead: num_iterations must be at least 1, got {num_iterations}")
        camera_tokens = self.token_norm(tokens[:, :, 0])  # (B, S, dim_in)
        pose = self.empty_pose_tokens.expand(*camera_tokens.shape[:2], -1)
        poses = [self._correction(camera_tokens, pose)]
        for _ in range(num_iterations - 1):
            previous = poses[-1]
            poses.append(previous + self._correction(camera_tokens, previous.detach()))
        return [_activate(pose) for pose in poses]

    def _correction(self, camera_tokens: Tensor, pose: Tensor) -> Tensor:
        shift, scale, gate = self.poseLN_modulation(self.embed_pose(pose)).chunk(3, dim=-1)
        hidden = gate * (self.adaln_norm(camera_tokens) * (1 + scale) + shift) + camera_tokens
        for block in self.trunk:
            hidden = block(hidden)
        return self.pose_branch(self.trunk_norm(hidden))  # (B, S, 9)


def _activate(pose: Tensor) -> Tensor:
    return torch.cat((pose[..., :7], F.relu(pose[..., 7:])), dim=-1)
