"""Layer norms that compute in float32 and return the dtype of their input."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm32(nn.LayerNorm):
    """Layer norm over the last axis, in float32 whatever the input is."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C) in the dtype of x."""
        if self.weight is None:  # the kernels compute in float32 whatever the dtype: no copy is needed
            return F.layer_norm(x, self.normalized_shape, None, None, self.eps).to(x.dtype)
        weight = None if self.weight is None else self.weight.float()
        bias = None if self.bias is None else self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class ChannelLayerNorm32(LayerNorm32):
    """Layer norm over the channel axis of a volume, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> the same shape and dtype."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class GroupNorm32(nn.GroupNorm):
    """Group norm in float32 whatever the input is."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape and dtype."""
        return super().forward(x.float()).to(x.dtype)
