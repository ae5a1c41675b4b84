"""Cubic patches of a volume as channels, and back."""

from __future__ import annotations

from torch import Tensor


def patchify(x: Tensor, patch_size: int) -> Tensor:
    """Fold cubic patches into channels.

    Args:
        x: (B, C, X, Y, Z), edges divisible by patch_size.
        patch_size: edge p of a patch in voxels.

    Returns:
        (B, C p^3, X/p, Y/p, Z/p); channel index c p^3 + row-major offset inside the patch.
    """
    p = patch_size
    batch, channels, *size = x.shape
    grid = [n // p for n in size]
    x = x.reshape(batch, channels, grid[0], p, grid[1], p, grid[2], p)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch, channels * p**3, *grid)


def unpatchify(x: Tensor, patch_size: int) -> Tensor:
    """The inverse of ``patchify``: (B, C p^3, X, Y, Z) -> (B, C, p X, p Y, p Z), a 3D pixel shuffle."""
    p = patch_size
    batch, channels, *grid = x.shape
    x = x.reshape(batch, channels // p**3, p, p, p, *grid)
    x = x.permute(0, 1, 5, 2, 6, 3, 7, 4)  # (B, C, X, p, Y, p, Z, p)
    return x.reshape(batch, channels // p**3, *(n * p for n in grid))
