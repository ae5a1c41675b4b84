"""Fill the texels that nothing was observed for."""

from __future__ import annotations

from itertools import product

import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from trellis_modules.representations.mesh.grid_tensors import near_points

_BORDER_TEXELS = 4  # around charts: what bilinear filtering and the first mipmap levels reach


def spread_over_surface(values: Tensor, known: Tensor, positions: Tensor) -> Tensor:
    """Give unknown surface points the value of the nearest known one in space.

    Args:
        values: (T, C).
        known: (T,) bool, at least one.
        positions: (T, 3).

    Returns:
        (T, C); known values are unchanged.
    """
    if bool(known.all()):
        return values
    tree = cKDTree(positions[known].detach().cpu().numpy())
    nearest = tree.query(positions[~known].detach().cpu().numpy(), workers=-1)[1]
    filled = values.clone()
    filled[~known] = values[known][torch.as_tensor(nearest, device=values.device)]
    return filled


def fill_outside_charts(texture: Tensor, covered: Tensor) -> Tensor:
    """Continue the charts of a texture into the space between them.

    The nearest texels are repeated outward a few times, so that filtering at the border of a chart sees the
    chart's own colours; the rest gets averages of ever larger neighbourhoods, which mipmaps can use.

    Args:
        texture: (S, S, C) float, read where covered.
        covered: (S, S) bool.

    Returns:
        (S, S, C); covered texels are unchanged, and all are 0 where nothing is covered.
    """
    colour, known = _with_borders(texture * covered[..., None], covered)
    weight = known[None, None].to(texture.dtype)
    return _pull_push(colour.permute(2, 0, 1)[None], weight)[0].permute(1, 2, 0)


def _with_borders(colour: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (S, S, C), 0 where not ``known`` (S, S), and which are known, with borders around charts.

    A texel of a border gets the mean of the known texels beside it. Only these texels are worked on.
    """
    height, width = known.shape
    colour, known = pad(colour, (0, 0, 1, 1, 1, 1)).flatten(0, 1), pad(known, (1, 1, 1, 1))
    steps = torch.tensor([row * (width + 2) + column for row, column in product((-1, 0, 1), repeat=2)])
    for _ in range(_BORDER_TEXELS):
        beside = near_points(known[None])[0] & ~known
        beside[[0, -1]] = beside[:, [0, -1]] = False  # beyond the texture
        places = beside.flatten().nonzero()[:, 0]
        around = places[:, None] + steps.to(places)
        count = known.flatten()[around].sum(dim=1, keepdim=True)
        colour[places] = colour[around].sum(dim=1) / count
        known = known | beside
    return colour.view(height + 2, width + 2, -1)[1:-1, 1:-1], known[1:-1, 1:-1]


def _pull_push(colour: Tensor, weight: Tensor) -> Tensor:
    """Colours (1, C, H, W) where ``weight`` (1, 1, H, W) is 0, from the mean of what is known around.

    ``colour`` is 0 where the weight is; the other weights are 1.

    Source: Gortler et al., "The Lumigraph", SIGGRAPH 1996, sec. 3.4 (with box filters).
    """
    height, width = colour.shape[-2:]
    if max(height, width) == 1 or bool((weight > 0).all()):
        return colour
    mean_weight = avg_pool2d(weight, 2, ceil_mode=True)
    mean = avg_pool2d(colour, 2, ceil_mode=True) / mean_weight.clamp_min(1e-9)
    coarse = _pull_push(mean, (mean_weight > 0).to(weight.dtype))
    fine = interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return torch.where(weight > 0, colour, fine)
