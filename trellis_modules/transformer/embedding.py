"""Sinusoidal embeddings of time and of voxel positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def timestep_embedding(t: Tensor, channels: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoids of a scaled time, cosines first; an odd channel count ends with a zero.

    Args:
        t: (B,) time times 1000.
        channels: width of the embedding.
        max_period: period of the slowest sinusoid, divided by 2 pi.

    Returns:
        (B, channels) float32.
    """
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t.float()[:, None] * torch.exp(-math.log(max_period) * exponents)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, channels % 2))


class TimestepEmbedder(nn.Module):
    """Two-layer network on the sinusoids of the scaled time."""

    def __init__(self, hidden_size: int, frequency_embedding_size: int = 256) -> None:
        super().__init__()
        self.frequency_embedding_size = frequency_embedding_size
        self.mlp = nn.Sequential(
            nn.Linear(frequency_embedding_size, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, t: Tensor) -> Tensor:
        """(B,) time times 1000 -> (B, hidden_size)."""
        return self.mlp(timestep_embedding(t, self.frequency_embedding_size).to(self.mlp[0].weight.dtype))


def absolute_position_embedding(coords: Tensor, channels: int) -> Tensor:
    """Sinusoids of integer coordinates: per axis sines then cosines, zeros up to the width.

    Args:
        coords: (N, D) coordinates, in voxels.
        channels: width of the embedding; each axis gets channels // D // 2 frequencies.

    Returns:
        (N, channels) float32.
    """
    num_frequencies = channels // coords.shape[1] // 2
    exponents = torch.arange(num_frequencies, dtype=torch.float32, device=coords.device) / num_frequencies
    angles = coords.float()[..., None] / 10000.0**exponents  # (N, D, F)
    embedding = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return F.pad(embedding, (0, channels - embedding.shape[1]))
