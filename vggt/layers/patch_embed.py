"""Image to patch tokens."""

from __future__ import annotations

from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """Project non-overlapping square patches with one strided convolution."""

    def __init__(self, patch_size: int, embed_dim: int, in_channels: int = 3) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def grid_size(self, images: Tensor) -> tuple[int, int]:
        """Return the (rows, columns) of patches in (..., H, W) images.

        Raises:
            ValueError: height or width is not a positive multiple of the patch size.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.patch_size or height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"PatchEmbed: image height and width must be multiples of the patch size {self.patch_size}, "
                f"got {height}x{width}; resize or pad the images"
            )
        return height // self.patch_size, width // self.patch_size

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) images to (B, H/p * W/p, embed_dim) row-major tokens; raises as ``grid_size``."""
        self.grid_size(images)
        return self.proj(images.to(self.proj.weight.dtype)).flatten(2).mT  # (B, P, C)
