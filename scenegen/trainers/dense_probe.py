"""Dense targets of an image encoder that starts from nothing: where the patches of its pictures lie."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_DEPTH_UNIT_M = 3.5  # typical distance of what a patch shows, so that the target is 0 on average
_FAR_M = 20.0
_TOKEN_GAIN = 0.05


class DenseProbe(nn.Module):
    """Linear maps from image tokens to the object points of a crop's patches and the depth of a scene's.

    Small transformers learn to see much sooner from such targets than through a model that is conditioned on
    them. The probe is not needed afterwards. Tokens enter with a small gain: of layer-normalised tokens,
    whose 256 channels are near 1, one step of Adam at a rate of 1e-3 would move every output by up to 0.2,
    more than the errors to be told apart, and the encoder would learn to undo that instead of to see.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.points = nn.Linear(width, 3)
        self.depth = nn.Linear(width, 1)

    def forward(self, assets: Tensor, scenes: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean absolute errors: "points" in longest sides of the object, "depth" in its logarithm.

        Args:
            assets: (B, G * G, C) patch tokens of the crops.
            scenes: (S, G * G, C) patch tokens of the scenes.
            batch: object_points (B, 4, G, G), see `SceneSource`; depth (S, I, I) metres.
        """
        points, share = batch["object_points"].flatten(2).mT.split((3, 1), dim=-1)  # (B, G*G, 3), (B, G*G, 1)
        error = (self.points(_TOKEN_GAIN * assets).float() * share - points).abs().mean(-1, keepdim=True)
        grid = math.isqrt(share.shape[1])
        log_depth = torch.log(batch["depth"].clamp(max=_FAR_M) / _DEPTH_UNIT_M)[:, None]
        depth = F.adaptive_avg_pool2d(log_depth, grid).flatten(1)
        return {
            "points": error.sum() / share.sum().clamp(min=1e-6),
            "depth": (self.depth(_TOKEN_GAIN * scenes)[..., 0].float() - depth).abs().mean(),
        }
