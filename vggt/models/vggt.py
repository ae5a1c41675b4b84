"""The complete model: aggregator and heads.

Source: VGGT, arXiv:2503.11651. Attribute names are the released weights' keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vggt.heads.camera_head import CameraHead
from vggt.heads.dpt_head import DPTHead
from vggt.heads.track_head import TrackHead
from vggt.models.aggregator import Aggregator

NO_OVERRIDES: Mapping[str, Any] = {}


class VGGT(nn.Module):
    """Cameras, depth, points and tracks of an image sequence in one forward pass.

    The defaults are the released model. Each head takes overrides of its constructor arguments, or None where
    it is not wanted.
    """

    def __init__(
        self,
        img_size: int = 518,
        patch_size: int = 14,
        embed_dim: int = 1024,
        *,
        aggregator: Mapping[str, Any] = NO_OVERRIDES,
        camera_head: Mapping[str, Any] | None = NO_OVERRIDES,
        point_head: Mapping[str, Any] | None = NO_OVERRIDES,
        depth_head: Mapping[str, Any] | None = NO_OVERRIDES,
        track_head: Mapping[str, Any] | None = NO_OVERRIDES,
    ) -> None:
        """Build the model.

        Args:
            img_size: pixels per edge covered by the patch encoder's position table.
            patch_size: pixels per edge of a patch.
            embed_dim: channels C of the aggregator's tokens; the heads read 2 C.
            aggregator: overrides for ``Aggregator``.
            camera_head: overrides for ``CameraHead``, or None.
            point_head: overrides for the ``DPTHead`` of world points, or None.
            depth_head: overrides for the ``DPTHead`` of depth, or None.
            track_head: overrides for ``TrackHead``, or None.

        Raises:
            ValueError: the sizes do not fit together.
        """
        super().__init__()
        self.img_size, self.patch_size = img_size, patch_size
        sizes = {"img_size": img_size, "patch_size": patch_size, "embed_dim": embed_dim}
        dense = {"dim_in": 2 * embed_dim, "patch_size": patch_size}
        points = {"output_dim": 4, "activation": "inv_log", "conf_activation": "expp1"}
        depth = {"output_dim": 2, "activation": "exp", "conf_activation": "expp1"}
        self.aggregator = Aggregator(**{**sizes, **aggregator})
        self.camera_head = _build_head(CameraHead, {"dim_in": 2 * embed_dim}, camera_head)
        self.point_head = _build_head(DPTHead, {**dense, **points}, point_head)
        self.depth_head = _build_head(DPTHead, {**dense, **depth}, depth_head)
        self.track_head = _build_head(TrackHead, dense, track_head)

    def forward(self, images: Tensor, query_points: Tensor | None = None) -> dict[str, Tensor]:
        """Predict everything that the built heads offer.

        Args:
            images: (S, 3, H, W) or (B, S, 3, H, W) in [0, 1], H and W multiples of the patch size.
            query_points: (N, 2) or (B, N, 2), x and y in pixels of frame 0; None tracks nothing.

        Returns:
            ``images`` (B, S, 3, H, W); ``pose_enc`` (B, S, 9), see ``vggt.pose_encoding``; ``depth``
            (B, S, H, W, 1) and ``depth_conf`` (B, S, H, W); ``world_points`` (B, S, H, W, 3) in the frame of
            camera 0 and ``world_points_conf``; with query points ``track`` (B, S, N, 2) in pixels, ``vis``
            and, if predicted, ``conf`` (B, S, N). Heads run without autocast, in the weights' dtype.

        Raises:
            ValueError: images or points of another shape, or points for a model without track head.
        """
        if images.ndim == 4:
            images = images[None]
        if query_points is not None and self.track_head is None:
            raise ValueError("VGGT: query_points were given, but the model was built with track_head=None")
        tokens, patch_start_idx = self.aggregator(images, last_only=self._needs_last_only(query_points))
        size = (images.shape[-2], images.shape[-1])
        predictions = {"images": images}
        with torch.autocast(device_type=images.device.type, enabled=False):
            dtype = self.aggregator.camera_token.dtype
            tokens = [level.to(dtype) for level in tokens]
            if self.camera_head is not None:
                predictions["pose_enc"] = self.camera_head(tokens[-1])[-1]
            if self.depth_head is not None:
                predictions["depth"], predictions["depth_conf"] = self.depth_head(
                    tokens, size, patch_start_idx
                )
            if self.point_head is not None:
                points, confidence = self.point_head(tokens, size, patch_start_idx)
                predictions |= {"world_points": points, "world_points_conf": confidence}
            if query_points is not None:
                predictions |= self._track(tokens, size, patch_start_idx, query_points)
        return predictions

    def _needs_last_only(self, query_points: Tensor | None) -> bool:
        return self.depth_head is None and self.point_head is None and query_points is None

    def _track(
        self, tokens: list[Tensor], size: tuple[int, int], patch_start_idx: int, query_points: Tensor
    ) -> dict[str, Tensor]:
        if query_points.ndim == 2:
            query_points = query_points[None]
        query_points = query_points.to(tokens[-1].dtype)
        tracks, visibility, confidence = self.track_head(tokens, size, patch_start_idx, query_points)
        predictions = {"track": tracks[-1], "vis": visibility}
        return predictions if confidence is None else predictions | {"conf": confidence}


def _build_head(
    kind: type[nn.Module], defaults: Mapping[str, Any], overrides: Mapping[str, Any] | None
) -> nn.Module | None:
    return None if overrides is None else kind(**{**defaults, **overrides})
