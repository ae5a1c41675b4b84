"""The colour of surface points straight from what carries the colour, without pictures."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from trellis_modules.postprocess.texels import SurfaceTexels
from trellis_modules.quaternions import quaternion_to_matrix
from trellis_modules.renderers.spherical_harmonics import sh_to_rgb
from trellis_modules.representations.gaussian import Gaussian

_VERTEX_NEIGHBOURS = 6
_GAUSSIAN_NEIGHBOURS = 16
_MAX_TEXELS_AT_ONCE = {"cuda": 1 << 18, "cpu": 1 << 16}
_MIN_ALPHA = 0.02
_EPSILON = 1e-12


def vertex_colours_at(texels: SurfaceTexels, vertices: Tensor, normals: Tensor, colours: Tensor) -> Tensor:
    """Colour of texels from the nearest vertices of a finer mesh.

    The nearer and the more alike in normal, the more a vertex counts; so the two sides of a thin sheet do not
    mix.

    Args:
        texels: T points.
        vertices, normals: (V, 3) of the mesh with the colours.
        colours: (V, 3).

    Returns:
        (T, 3).
    """
    tree, count = _search_tree(vertices), min(_VERTEX_NEIGHBOURS, len(vertices))
    limit = _at_once(colours)
    parts = []
    for position, normal in zip(texels.position.split(limit), texels.normal.split(limit)):
        distance, index = _nearest(tree, position, count)
        alike = (normals[index] * normal[:, None]).sum(dim=-1).clamp_min(0)
        weight = (alike.square() + 1e-4) / (distance.square() + _EPSILON)
        parts.append((weight[..., None] * colours[index]).sum(dim=1) / weight.sum(dim=1, keepdim=True))
    return torch.cat(parts)


@torch.no_grad()
def gaussian_colours_at(texels: SurfaceTexels, gaussian: Gaussian) -> tuple[Tensor, Tensor]:
    """Colour of texels as a camera right above each of them would see the Gaussians around it.

    The nearest Gaussians are projected along the normal, sorted by height and blended. With no other view
    nothing is hidden, aliased or out of register, and the cost does not depend on the size of a Gaussian.

    Args:
        texels: T points of a surface that the Gaussians lie on.
        gaussian: on the same device.

    Returns:
        colour (T, 3) and alpha (T,); 0 where no Gaussian is near.
    """
    if not len(gaussian):
        return torch.zeros_like(texels.position), torch.zeros_like(texels.position[:, 0])
    matrices = quaternion_to_matrix(gaussian.rotation)
    precision = (matrices / gaussian.scaling.square()[:, None, :]) @ matrices.mT
    colour = sh_to_rgb(gaussian.features_dc[:, 0]).clamp_min(0)
    tree, count = _search_tree(gaussian.xyz), min(_GAUSSIAN_NEIGHBOURS, len(gaussian))
    limit = _at_once(colour)
    parts = []
    for position, normal in zip(texels.position.split(limit), texels.normal.split(limit)):
        _, index = _nearest(tree, position, count)
        alpha, height = _alpha_along_normal(
            gaussian.xyz[index] - position[:, None], precision[index], gaussian.opacity[index, 0], normal
        )
        parts.append(_blend(colour[index], alpha, height))
    blended = torch.cat(parts)
    alpha = blended[:, 3]
    return blended[:, :3] / alpha.clamp_min(_MIN_ALPHA)[:, None], alpha * (alpha > _MIN_ALPHA)


def _alpha_along_normal(
    offset: Tensor, precision: Tensor, opacity: Tensor, normal: Tensor
) -> tuple[Tensor, Tensor]:
    """Opacity of Gaussians on the line through a point along its normal, and where on the line it is largest.

    Args:
        offset: (T, K, 3) from the point to the Gaussians' centres.
        precision: (T, K, 3, 3) inverse covariances.
        opacity: (T, K).
        normal: (T, 3).

    Returns:
        alpha (T, K), height (T, K) above the point.
    """
    along = torch.einsum("tkij,tj->tki", precision, normal)
    across = torch.einsum("tkij,tkj->tki", precision, offset)
    stiffness = (along * normal[:, None]).sum(dim=-1).clamp_min(_EPSILON)
    pull = (along * offset).sum(dim=-1)
    height = pull / stiffness
    exponent = (across * offset).sum(dim=-1) - pull * height
    return opacity * torch.exp(-0.5 * exponent.clamp_min(0)), height


def _blend(colour: Tensor, alpha: Tensor, height: Tensor) -> Tensor:
    """Front-to-back sums (T, 4) of colours (T, K, 3) times alpha (T, K), and of alpha; highest in front."""
    order = height.argsort(dim=1, descending=True)
    alpha = alpha.gather(1, order)
    colour = colour.gather(1, order[..., None].expand_as(colour))
    passed = torch.cumprod(1 - alpha, dim=1)
    weight = alpha * torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], dim=1)
    return torch.cat([(weight[..., None] * colour).sum(dim=1), weight.sum(dim=1, keepdim=True)], dim=1)


def _at_once(colour: Tensor) -> int:
    """How many texels are coloured at once on the device of a tensor."""
    return _MAX_TEXELS_AT_ONCE.get(colour.device.type, _MAX_TEXELS_AT_ONCE["cpu"])


def _search_tree(places: Tensor) -> cKDTree:
    return cKDTree(places.detach().cpu().numpy())


def _nearest(tree: cKDTree, points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances (T, count) and indices (T, count) of the places in the tree nearest to points (T, 3)."""
    distance, index = tree.query(points.detach().cpu().numpy(), k=np.arange(1, count + 1), workers=-1)
    distance = torch.from_numpy(distance).to(points)
    return distance, torch.from_numpy(index).to(points.device)
