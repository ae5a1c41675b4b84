"""Sinusoidal embeddings of image positions, without parameters."""

from __future__ import annotations

import torch
from torch import Tensor


def sine_cosine(positions: Tensor, dim: int, base: float) -> Tensor:
    """Embed scalar positions as [sin(p w), cos(p w)] with w_i = base^(-i / (dim / 2)).

    Args:
        positions: (...), any unit.
        dim: even number of output channels.
        base: ratio between the fastest and (nearly) the slowest frequency.

    Returns:
        (..., dim) float32, computed in float64.
    """
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float64, device=positions.device) / half
    angles = positions.double()[..., None] * base**-exponents
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()


def image_plane_grid(
    height: int, width: int, aspect_ratio: float, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """Cell centres of a grid over the image plane whose diagonal runs from -1 to 1.

    Args:
        height: rows.
        width: columns.
        aspect_ratio: image width / height; the grid's cells need not be square.
        device: of the result.

    Returns:
        x of the columns (width,) and y of the rows (height,), float64.
    """
    diagonal = (aspect_ratio**2 + 1) ** 0.5
    edge_x = aspect_ratio / diagonal * (width - 1) / width
    edge_y = 1 / diagonal * (height - 1) / height
    x = torch.linspace(-edge_x, edge_x, width, dtype=torch.float64, device=device)
    y = torch.linspace(-edge_y, edge_y, height, dtype=torch.float64, device=device)
    return x, y


def image_plane_embedding(
    channels: int, height: int, width: int, aspect_ratio: float, device: torch.device | str | None = None
) -> Tensor:
    """Embed an image-plane grid: half of the channels for x, half for y.

    Args:
        channels: multiple of 4.
        height: rows.
        width: columns.
        aspect_ratio: image width / height.
        device: of the result.

    Returns:
        (channels, height, width) float32.
    """
    x, y = image_plane_grid(height, width, aspect_ratio, device)
    half = channels // 2
    x_embedding = sine_cosine(x, half, base=100.0).expand(height, -1, -1)
    y_embedding = sine_cosine(y, half, base=100.0)[:, None].expand(-1, width, -1)
    return torch.cat((x_embedding, y_embedding), dim=-1).permute(2, 0, 1)
