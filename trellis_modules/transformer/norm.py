"""Layer norms that compute in float32 and return the dtype of their input."""

from __future__ import annotations

from torch import Tensor, nn

from trellis_modules.norms import layer_norm


class LayerNorm32(nn.LayerNorm):
    """Layer norm over the last axis, in float32 whatever the input is."""

    def forward(self, x: Tensor, shift: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
        """(..., C) to (..., C) in the dtype of x, then ``shift + norm * (1 + scale)`` if given."""
        return layer_norm(x, self.weight, self.bias, self.eps, shift, scale)


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
