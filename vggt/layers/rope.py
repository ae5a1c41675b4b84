"""Two-dimensional rotary position embedding.

The first half of a head's channels turns with the token's y, the second half with its x. Tables are built
once per forward pass from the known grid, so that no block waits for the device to read positions back.

Source: RoFormer, arXiv:2104.09864; RoPE-ViT, arXiv:2403.13298.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class RotaryTable(NamedTuple):
    """Cosines and sines that broadcast against (B, H, N, head_dim) queries and keys."""

    cos: Tensor
    sin: Tensor


def grid_positions(height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """Return the (height * width, 2) int64 positions (y, x) of a grid in row-major order."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack((y, x), dim=-1).flatten(0, 1)


def rotary_table(positions: Tensor, head_dim: int, frequency: float = 100.0) -> RotaryTable:
    """Compute the rotary table of token positions.

    Args:
        positions: (..., N, 2) integer positions (y, x).
        head_dim: channels of one head, a multiple of 4.
        frequency: base of the geometric series of angular frequencies.

    Returns:
        float32 table of shape (..., N, head_dim).

    Raises:
        ValueError: positions do not end in (y, x) or ``head_dim`` is not a multiple of 4.
    """
    if positions.ndim < 2 or positions.shape[-1] != 2:
        raise ValueError(f"rotary_table: positions must be (..., N, 2), got {tuple(positions.shape)}")
    if head_dim % 4:
        raise ValueError(
            f"rotary_table: head_dim must be a multiple of 4 (two axes, two parts), got {head_dim}"
        )
    axis_dim = head_dim // 2
    exponents = torch.arange(0, axis_dim, 2, device=positions.device, dtype=torch.float32) / axis_dim
    angles = positions[..., None].float() * frequency**-exponents  # (..., N, 2, axis_dim / 2)
    angles = torch.cat((angles, angles), dim=-1).flatten(-2)  # (..., N, head_dim)
    return RotaryTable(angles.cos(), angles.sin())


def apply_rotary(tokens: Tensor, table: RotaryTable) -> Tensor:
    """Rotate the channels of queries or keys by their positions.

    Args:
        tokens: (B, H, N, head_dim).
        table: from ``rotary_table``, broadcastable against the tokens.

    Returns:
        Rotated tokens, same shape; the wider of the two dtypes.
    """
    first, second = tokens.unflatten(-1, (2, 2, -1)).unbind(-2)  # two parts of each axis, (B, H, N, 2, d / 4)
    turned = torch.stack((-second, first), dim=-2).flatten(-3)
    return tokens * table.cos + turned * table.sin
