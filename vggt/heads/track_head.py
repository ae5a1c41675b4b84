"""Point tracks from aggregated tokens.

Source: VGGT, arXiv:2503.11651, sec. 3.3. Attribute names are the released weights' keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vggt.heads.dpt_head import DPTHead
from vggt.heads.tracker import Tracker


class TrackHead(nn.Module):
    """Dense features for tracking, and the tracker that uses them."""

    def __init__(
        self,
        dim_in: int = 2048,
        patch_size: int = 14,
        features: int = 128,
        iters: int = 4,
        predict_conf: bool = True,
        stride: int = 2,
        corr_levels: int = 7,
        corr_radius: int = 4,
        hidden_size: int = 384,
        out_channels: Sequence[int] = (256, 512, 1024, 1024),
        intermediate_layer_idx: Sequence[int] = (4, 11, 17, 23),
    ) -> None:
        """Build the head; ``features`` to ``hidden_size`` as in ``Tracker``, the rest as in ``DPTHead``.

        Args:
            dim_in: channels of the aggregated tokens.
            patch_size: pixels per edge of a patch.
            features: channels of the tracked feature maps.
            iters: corrections of the tracks.
            predict_conf: predict a confidence besides the visibility.
            stride: image pixels per feature pixel.
            corr_levels: levels of the correlation pyramid.
            corr_radius: half width of the correlation window.
            hidden_size: channels of the tracker's transformer.
            out_channels: channels of the four feature levels.
            intermediate_layer_idx: aggregator outputs of the four feature levels.
        """
        super().__init__()
        self.iters = iters
        self.feature_extractor = DPTHead(
            dim_in,
            patch_size,
            features=features,
            out_channels=out_channels,
            intermediate_layer_idx=intermediate_layer_idx,
            pos_embed=False,
            feature_only=True,
            down_ratio=stride,
        )
        self.tracker = Tracker(features, stride, corr_levels, corr_radius, hidden_size, predict_conf)

    def forward(
        self,
        aggregated_tokens: Sequence[Tensor],
        image_size: tuple[int, int],
        patch_start_idx: int,
        query_points: Tensor,
    ) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """Track points of frame 0; tokens as in ``DPTHead.forward``, the rest as in ``Tracker.forward``.

        Args:
            aggregated_tokens: the aggregator's outputs of all rounds, each (B, S, P, dim_in).
            image_size: height and width of the images, in pixels.
            patch_start_idx: index of the first patch token.
            query_points: (B, N, 2), x and y in pixels of frame 0.

        Returns:
            Tracks after each correction (B, S, N, 2) in pixels, visibility (B, S, N), confidence (B, S, N) or
            None.
        """
        features = self.feature_extractor(aggregated_tokens, image_size, patch_start_idx)
        return self.tracker(query_points, features, self.iters)
