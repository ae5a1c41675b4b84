"""Iterative tracking of query points through feature maps.

Source: VGGT, arXiv:2503.11651, sec. 3.3, after CoTracker, arXiv:2307.07635. Attribute names are the released
weights' keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vggt.heads.position_embedding import sine_cosine
from vggt.heads.update_former import UpdateFormer
from vggt.layers.mlp import Mlp

FLOW_SCALE = 518.0  # pixels that a displacement of 1 stands for
FLOW_FREQUENCY_RANGE = 1000.0


class Tracker(nn.Module):
    """Refine the positions of query points in every frame from local correlations."""

    def __init__(
        self,
        latent_dim: int = 128,
        stride: int = 2,
        corr_levels: int = 7,
        corr_radius: int = 4,
        hidden_size: int = 384,
        predict_conf: bool = True,
    ) -> None:
        """Build the tracker.

        Args:
            latent_dim: channels C of the feature maps.
            stride: image pixels per feature pixel.
            corr_levels: levels of the feature pyramid, each half the size of the one before.
            corr_radius: correlations cover (2 * corr_radius + 1)^2 positions at each level.
            hidden_size: channels of the transformer.
            predict_conf: predict a confidence besides the visibility.
        """
        super().__init__()
        self.latent_dim = latent_dim
        self.stride = stride
        self.corr_levels = corr_levels
        self.corr_radius = corr_radius
        # Flow embedding and raw flow, correlation, feature.
        self.transformer_dim = (latent_dim + 4) + latent_dim + latent_dim

        self.corr_mlp = Mlp(corr_levels * (2 * corr_radius + 1) ** 2, hidden_size, latent_dim)
        self.query_ref_token = nn.Parameter(torch.randn(1, 2, self.transformer_dim))
        self.updateformer = UpdateFormer(self.transformer_dim, hidden_size, latent_dim + 2)
        self.fmap_norm = nn.LayerNorm(latent_dim)
        self.ffeat_norm = nn.GroupNorm(1, latent_dim)
        self.ffeat_updater = nn.Sequential(nn.Linear(latent_dim, latent_dim), nn.GELU())
        self.vis_predictor = nn.Sequential(nn.Linear(latent_dim, 1))
        self.conf_predictor = nn.Sequential(nn.Linear(latent_dim, 1)) if predict_conf else None

    def forward(
        self, query_points: Tensor, feature_maps: Tensor, iters: int = 4
    ) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """Track points of frame 0 through all frames.

        Args:
            query_points: (B, N, 2), x and y in image pixels of frame 0.
            feature_maps: (B, S, C, H, W).
            iters: corrections; gradients do not flow through the positions between them.

        Returns:
            ``iters`` tracks (B, S, N, 2) in image pixels; visibility (B, S, N) in [0, 1]; confidence
            likewise, or None if it is not predicted.

        Raises:
            ValueError: shapes do not fit, or the feature maps are too small for the pyramid.
        """
        self._check_inputs(query_points, feature_maps)
        frames = feature_maps.shape[1]
        feature_maps = self.fmap_norm(feature_maps.movedim(2, -1)).movedim(-1, 2)
        pyramid = _pyramid(feature_maps, self.corr_levels)

        query_coords = query_points / self.stride
        features = sample_maps(feature_maps[:, 0], query_coords)[:, None].expand(
            -1, frames, -1, -1
        )  # (B, S, N, C)
        coords = query_coords[:, None].expand(-1, frames, -1, -1)
        constant = self._frame_tokens(feature_maps, query_coords)

        tracks = []
        for _ in range(iters):
            coords = coords.detach()
            correlation = self.corr_mlp(self._correlate(pyramid, features, coords))
            tokens = torch.cat((self._embed_flow(coords), correlation, features), dim=-1).transpose(1, 2)
            delta = self.updateformer(tokens + constant).transpose(1, 2)  # (B, S, N, 2 + C)
            features = features + self.ffeat_updater(self._norm_features(delta[..., 2:]))
            moved = coords + delta[..., :2]
            coords = torch.cat((query_coords[:, None], moved[:, 1:]), dim=1)  # the query does not move
            tracks.append(coords * self.stride)

        visibility = self.vis_predictor(features).squeeze(-1).sigmoid()
        if self.conf_predictor is None:
            return tracks, visibility, None
        return tracks, visibility, self.conf_predictor(features).squeeze(-1).sigmoid()

    def _check_inputs(self, query_points: Tensor, feature_maps: Tensor) -> None:
        if query_points.ndim != 3 or query_points.shape[-1] != 2 or len(query_points) != len(feature_maps):
            raise ValueError(
                f"Tracker: query_points must be ({len(feature_maps)}, N, 2), got {tuple(query_points.shape)}"
            )
        smallest = 2 ** (self.corr_levels - 1)
        if min(feature_maps.shape[-2:]) < smallest:
            raise ValueError(
                f"Tracker: {self.corr_levels} pyramid levels need feature maps of at least "
                f"{smallest}x{smallest}, got {tuple(feature_maps.shape[-2:])}; use larger images"
            )

    def _frame_tokens(self, feature_maps: Tensor, query_coords: Tensor) -> Tensor:
        """What each track's tokens keep in every iteration: (B, N, S, D) query position and frame role."""
        frames, (height, width) = feature_maps.shape[1], feature_maps.shape[-2:]
        position_map = _position_map(self.transformer_dim, height, width, feature_maps.device)
        batch = len(query_coords)
        positions = sample_maps(position_map.to(feature_maps.dtype).expand(batch, -1, -1, -1), query_coords)
        role = torch.cat(
            (self.query_ref_token[:, :1], self.query_ref_token[:, 1:].expand(-1, frames - 1, -1)), dim=1
        )
        return positions[:, :, None] + role[:, None]

    def _norm_features(self, delta: Tensor) -> Tensor:
        return self.ffeat_norm(delta.flatten(0, -2)).view_as(delta)

    def _embed_flow(self, coords: Tensor) -> Tensor:
        """Describe the displacement from frame 0, (B, S, N, 2), by (B, S, N, C + 4)."""
        flow = coords - coords[:, :1]
        axis_dim = self.latent_dim // 2
        steps = torch.arange(0, axis_dim, 2, dtype=flow.dtype, device=flow.device)
        angles = flow[..., None] * (steps * (FLOW_FREQUENCY_RANGE / axis_dim))
        waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(
            -3
        )  # x, then y; sin and cos alternate
        scaled = flow / FLOW_SCALE
        return torch.cat((waves, scaled, scaled), dim=-1)

    def _correlate(self, pyramid: Sequence[Tensor], features: Tensor, coords: Tensor) -> Tensor:
        """Correlate features (B, S, N, C) with their surroundings: (B, S, N, levels * (2 r + 1)^2).

        Maps are sampled before the product with the feature: both are linear, and no map of correlations is
        kept for every point.
        """
        radius = torch.arange(
            -self.corr_radius, self.corr_radius + 1, device=coords.device, dtype=coords.dtype
        )
        # The slower index moves x, as in the released weights.
        offsets = torch.stack(torch.meshgrid(radius, radius, indexing="ij"), dim=-1).flatten(0, 1)
        correlations = []
        for level, maps in enumerate(pyramid):
            windows = coords[..., None, :] / 2**level + offsets  # (B, S, N, K, 2)
            sampled = _grid_sample(maps.flatten(0, 1), windows.flatten(0, 1), "zeros")  # (B * S, C, N, K)
            correlations.append(torch.einsum("fnc,fcnk->fnk", features.flatten(0, 1), sampled))
        correlation = torch.cat(correlations, dim=-1) / self.latent_dim**0.5
        return correlation.unflatten(0, coords.shape[:2])


def sample_maps(maps: Tensor, coords: Tensor) -> Tensor:
    """Sample maps bilinearly at pixel coordinates, repeating the border.

    Args:
        maps: (B, C, H, W).
        coords: (B, N, 2), x in [0, W - 1] and y in [0, H - 1].

    Returns:
        (B, N, C).
    """
    return _grid_sample(maps, coords[:, :, None], "border").squeeze(-1).mT


def _grid_sample(maps: Tensor, coords: Tensor, padding_mode: str) -> Tensor:
    height, width = maps.shape[-2:]
    x, y = coords.unbind(-1)
    grid = torch.stack((x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1), dim=-1)
    return F.grid_sample(maps, grid, align_corners=True, padding_mode=padding_mode)


def _pyramid(maps: Tensor, levels: int) -> list[Tensor]:
    """Halve (B, S, C, H, W) maps ``levels - 1`` times by averaging."""
    pyramid = [maps]
    for _ in range(levels - 1):
        pooled = F.avg_pool2d(pyramid[-1].flatten(0, 1), kernel_size=2, stride=2)
        pyramid.append(pooled.unflatten(0, maps.shape[:2]))
    return pyramid


def _position_map(channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """Sine-cosine map of pixel indices, (1, channels, height, width): first half for x, second for y."""
    half = channels // 2
    x = sine_cosine(torch.arange(width, device=device), half, base=10000.0).expand(height, -1, -1)
    y = sine_cosine(torch.arange(height, device=device), half, base=10000.0)[:, None].expand(-1, width, -1)
    return torch.cat((x, y), dim=-1).permute(2, 0, 1)[None]
