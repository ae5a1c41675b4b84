"""Pre-norm transformer block with layer scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vggt.layers.attention import Attention
from vggt.layers.mlp import Mlp
from vggt.layers.rope import RotaryTable


class LayerScale(nn.Module):
    """Learned per-channel gain of a residual branch. Source: CaiT, arXiv:2103.17239."""

    def __init__(self, dim: int, init_value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(init_value)))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of (..., dim)."""
        return x * self.gamma


class Block(nn.Module):
    """x + ls1(attn(norm1 x)), then x + ls2(mlp(norm2 x))."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        *,
        qk_norm: bool = False,
        init_values: float | None = None,
        norm_eps: float = 1e-5,
    ) -> None:
        """Build the block.

        Args:
            dim: channels of the tokens.
            num_heads: attention heads.
            mlp_ratio: hidden width of the perceptron over ``dim``.
            qk_norm: normalise queries and keys per head.
            init_values: initial layer scale; None leaves layer scale out.
            norm_eps: epsilon of norm1 and norm2.
        """
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, qk_norm=qk_norm)
        self.ls1 = nn.Identity() if init_values is None else LayerScale(dim, init_values)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls2 = nn.Identity() if init_values is None else LayerScale(dim, init_values)

    def forward(self, x: Tensor, rotary: RotaryTable | None = None) -> Tensor:
        """Map (B, N, dim) tokens to (B, N, dim); ``rotary`` as in ``Attention.forward``."""
        x = x + self.ls1(self.attn(self.norm1(x), rotary))
        return x + self.ls2(self.mlp(self.norm2(x)))


def init_linear_weights(module: nn.Module) -> None:
    """Initialise every linear layer below ``module``: truncated normal of std 0.02, zero bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
