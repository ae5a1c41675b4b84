"""Patterns of surfaces, computed at every pixel of a batch from the place that it shows.

All functions take tensors that broadcast against each other, so that every surface has parameters of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


def cell_noise(column: Tensor, row: Tensor, seed: Tensor) -> Tensor:
    """A number in [0, 1) for each cell of a grid, unlike those of its neighbours."""
    return (torch.sin(column * 12.9898 + row * 78.233 + seed * 37.719) * 4375.85453) % 1.0


def waves(u: Tensor, v: Tensor, frequency: Tensor, seed: Tensor) -> Tensor:
    """A wavy field of about [-1, 1] without a visible period: three warped sine waves."""
    x, y = u * frequency, v * frequency
    first = torch.sin(x + 1.7 * torch.sin(0.7 * y + seed))
    second = torch.sin(y + 1.3 * torch.sin(0.9 * x + 2 * seed))
    return (first + second + torch.sin(0.6 * (x - y) + 3 * seed)) / 3


@dataclass(frozen=True)
class SurfaceStyle:
    """Parameters of `surface_colours`, each of one shape (colours with a last axis of 3); lengths in metres.

    Attributes:
        first, second: colours.
        width, height: of a cell: a tile, a plank, a brick, a stripe.
        shift: of a row of cells against the one before, in cell widths.
        joint: half width of the lines between cells; 0 for none.
        joint_shade: what they multiply the colour by.
        tone: how much brighter or darker a cell may be.
        checks: 1 for the second colour in every other cell.
        ornament: how much of the second colour is painted on as blobs ...
        frequency: ... of this size, in radians a metre.
        grain: amplitude of fine lines along the cells.
        seed: any number.
    """

    first: Tensor
    second: Tensor
    width: Tensor
    height: Tensor
    shift: Tensor
    joint: Tensor
    joint_shade: Tensor
    tone: Tensor
    checks: Tensor
    ornament: Tensor
    frequency: Tensor
    grain: Tensor
    seed: Tensor

    def map(self, change) -> SurfaceStyle:
        """The same style with every parameter changed by a function."""
        return SurfaceStyle(*(change(getattr(self, field.name)) for field in fields(self)))


def surface_colours(u: Tensor, v: Tensor, style: SurfaceStyle) -> Tensor:
    """Colours (..., 3) of a surface at places u, v (...) in metres."""
    row = torch.floor(v / style.height)
    along = u / style.width + style.shift * row
    column = torch.floor(along)
    edge_u = (0.5 - (along - column - 0.5).abs()) * style.width
    edge_v = (0.5 - (v / style.height - row - 0.5).abs()) * style.height
    noise = cell_noise(column, row, style.seed)
    blobs = torch.sigmoid(12 * waves(u, v, style.frequency, style.seed))
    odd = (column + row) % 2
    mix = torch.maximum(style.checks * odd, style.ornament * blobs)[..., None]
    colour = style.first * (1 - mix) + style.second * mix
    fine = torch.sin(160 * v + 9 * torch.sin(2.1 * u + 40 * noise)) * torch.sin(23 * v + 3 * u)
    tone = 1 + style.tone * (noise - 0.5) + style.grain * fine
    tone = torch.where(torch.minimum(edge_u, edge_v) < style.joint, style.joint_shade, tone)
    return colour * tone[..., None]
