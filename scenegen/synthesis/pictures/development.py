"""From rendered colours to what cameras make of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from scenegen.synthesis.pictures.looks import Draws

_BLOCK = 8  # pixels a side of JPEG's blocks


def develop(colour: Tensor, generator: torch.Generator, photo: float = 0.0) -> Tensor:
    """Exposure, white balance, gamma and noise of a camera, different for every picture.

    Args:
        colour: (S, H, H, 3) rendered.
        photo: part of the pictures with stronger faults, see `looks.Looks`.

    Returns:
        (S, 3, H, H) in [0, 1].
    """
    colour = colour.permute(0, 3, 1, 2)
    draws = Draws(len(colour), generator)
    balance = torch.exp(
        (draws.uniform(0, 1, 3, 1, 1) - 0.5) * 0.24 + (draws.uniform(0, 1, 1, 1, 1) - 0.5) * 0.5
    )
    gamma = torch.exp((draws.uniform(0, 1, 1, 1, 1) - 0.5) * 0.6)
    noise = torch.randn(colour.shape, generator=generator, device=colour.device)
    noise = noise * draws.uniform(0, 1, 1, 1, 1) * 0.03
    exposed = (colour * balance).clamp(min=1e-4) ** gamma
    if photo > 0:
        return _with_faults(exposed, noise, draws, photo)
    return (exposed + noise).clamp(0, 1)


def _with_faults(colour: Tensor, noise: Tensor, draws: Draws, probability: float) -> Tensor:
    """Colour cast, saturation, contrast, vignetting, blur, coarse noise and blocks, each for some."""
    changed = draws.happens(probability, 1, 1, 1).float()

    def strength(low: float, high: float, part: float = 1.0) -> Tensor:
        return draws.uniform(low, high, 1, 1, 1) * draws.happens(part, 1, 1, 1) * changed

    cast = torch.exp(
        strength(-0.25, 0.25) * torch.tensor([1.0, 0.0, -1.0], device=colour.device).view(3, 1, 1)
    )
    colour = colour * cast
    grey = colour.mean(1, keepdim=True)
    colour = grey + (colour - grey) * (1 + strength(-0.5, 0.5))
    colour = 0.5 + (colour - 0.5) * (1 + strength(-0.3, 0.4))
    steps = torch.linspace(-1, 1, colour.shape[-1], device=colour.device)
    colour = colour * (1 - strength(0.0, 0.35, 0.4) * (steps[:, None] ** 2 + steps**2))
    blurred = F.avg_pool2d(colour, 5, 1, 2, count_include_pad=False)
    colour = torch.lerp(colour, blurred, strength(0.0, 1.0, 0.4))
    coarse = F.interpolate(noise[..., ::2, ::2], size=colour.shape[-2:], mode="bilinear", align_corners=False)
    colour = (colour + noise + coarse * strength(0.0, 1.0, 0.4)).clamp(0, 1)
    return _jpeg(colour, strength(0.0, 1.0, 0.5)[..., None, None] ** 2).clamp(0, 1)


def _jpeg(colour: Tensor, strength: Tensor) -> Tensor:
    """Round the cosine components of blocks of 8 x 8 pixels, coarsely where the picture changes fast.

    Args:
        colour: (S, 3, H, W) in [0, 1].
        strength: (S, 1, 1, 1, 1, 1), 0 none, 1 as strong as JPEG of quality 10 or so.
    """
    height, width = colour.shape[-2:]
    padded = F.pad(colour, (0, -width % _BLOCK, 0, -height % _BLOCK), mode="replicate")
    blocks = padded.unfold(2, _BLOCK, _BLOCK).unfold(3, _BLOCK, _BLOCK)  # (S, 3, h, w, 8, 8)
    order = torch.arange(_BLOCK, device=colour.device)
    basis = torch.cos(math.pi / _BLOCK * (order + 0.5) * order[:, None]) * math.sqrt(2 / _BLOCK)
    basis[0] /= math.sqrt(2)
    spectrum = basis @ blocks @ basis.T
    step = strength * 0.05 * (1 + order[:, None] + order) + 1e-4
    rounded = basis.T @ (torch.round(spectrum / step) * step) @ basis
    joined = rounded.permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)
    return joined[..., :height, :width]
