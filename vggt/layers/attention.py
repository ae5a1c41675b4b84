"""Multi-head self-attention with optional query/key norms and rotary positions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from vggt.layers.rope import RotaryTable, apply_rotary


class Attention(nn.Module):
    """Full self-attention over one token axis; the softmax runs in torch's fused kernel."""

    def __init__(self, dim: int, num_heads: int, qk_norm: bool = False) -> None:
        """Build the projections.

        Args:
            dim: channels of the tokens.
            num_heads: attention heads; must divide ``dim``.
            qk_norm: normalise each head's queries and keys (LayerNorm over the head dimension).

        Raises:
            ValueError: ``num_heads`` does not divide ``dim``.
        """
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"Attention: dim must be a multiple of num_heads, got {dim} and {num_heads}")
        self.num_heads = num_heads
        head_dim = dim // num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(head_dim) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head_dim) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rotary: RotaryTable | None = None) -> Tensor:
        """Attend among the N tokens of each batch element.

        Args:
            x: (B, N, C) tokens.
            rotary: table for (N, head_dim) or (B, 1, N, head_dim); None leaves positions out.

        Returns:
            (B, N, C).
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, H, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, d)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = apply_rotary(q, rotary), apply_rotary(k, rotary)
        # Norms under autocast and the float32 rotary table leave q and k wider than a half-precision v.
        q, k = q.to(v.dtype), k.to(v.dtype)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))
