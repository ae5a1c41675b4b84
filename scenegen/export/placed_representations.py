"""Drawing the objects of a scene, in place, from what they were generated as beside their meshes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import trimesh
from torch import Tensor

from scenegen.export.frames import SceneFrame, zup_transform
from scenegen.export.gaussian_ply import gaussian_of, join_gaussians, place_gaussian
from scenegen.geometry import SCALE
from scenegen.pipelines.result import GeneratedObject, Representation, SceneResult
from trellis_modules.renderers import Rendering, render_gaussians, render_octree
from trellis_modules.renderers.pictures import Draw
from trellis_modules.renderers.rendering import mean_depth, over_background
from trellis_modules.representations.gaussian import Gaussian
from trellis_modules.representations.moving import to_device
from trellis_modules.representations.strivec import Strivec

Background = tuple[float, float, float]


def draw_placed(
    representation: Representation,
    result: SceneResult,
    scene: trimesh.Scene,
    *,
    zoom: float,
    size: int,
    background: Background,
    device: torch.device | str,
) -> Draw:
    """What draws the Gaussians or the radiance fields of a scene.

    A field cannot be turned, as its leaves lie along the axes: each object is drawn in its own frame, through
    cameras that are placed there, and the pictures are laid over each other, see `lay_over`.

    Args:
        representation: what is drawn. Gaussians stand in for a field that an object lacks, and one at each
            vertex of its mesh for its Gaussians.
        result: at least one object has a mesh; those without are left out.
        scene: the same scene put together by `scenegen.export.meshes.build_scene`.
        zoom: by which the scene is scaled about its centre.
        size: pixels per edge.
        background: colour where nothing is.
        device: where it draws.

    Returns:
        Draws from cameras in the frame of the scene, turned z-up.
    """
    placed = _placed(result, scene, zoom)
    if representation == "gaussian":
        joined = join_gaussians([place_gaussian(gaussian_of(item), pose) for item, pose in placed])
        return partial(render_gaussians, to_device(joined, device), size=size, background=background)
    parts = [
        (to_device(gaussian_of(item) if item.radiance_field is None else item.radiance_field, device), pose)
        for item, pose in placed
    ]
    return partial(_draw_layers, parts, size=size, background=background)


def _draw_layers(
    parts: Sequence[tuple[Gaussian | Strivec, Tensor]],
    extrinsics: Tensor,
    intrinsics: Tensor,
    *,
    size: int,
    background: Background,
) -> Rendering:
    layers = [_draw_object(part, pose, extrinsics, intrinsics, size) for part, pose in parts]
    return lay_over(layers, background)


def _placed(result: SceneResult, scene: trimesh.Scene, zoom: float) -> list[tuple[GeneratedObject, Tensor]]:
    """Objects with a mesh, and their poses (8,) in the frame of the scene after the zoom."""
    frame = SceneFrame.of(result, scene)
    zoomed = SceneFrame(frame.scale * zoom, frame.centre)
    shown = [item for item in result.objects if item.mesh is not None]
    return [(item, zoomed.pose(item.pose.double()).float()) for item in shown]


def _draw_object(
    part: Gaussian | Strivec, pose: Tensor, extrinsics: Tensor, intrinsics: Tensor, size: int
) -> Rendering:
    """One object over black through cameras (V, 4, 4) of the scene, which are moved into its frame.

    The picture does not change when everything is measured in units of the object, but its depths do.
    """
    scale = float(pose[SCALE])
    moved = extrinsics @ zup_transform(pose).to(extrinsics)
    moved[:, :3] /= scale
    render = render_gaussians if isinstance(part, Gaussian) else render_octree
    rendering = render(part, moved, intrinsics, size)
    return Rendering(rendering.colour, rendering.alpha, rendering.depth * scale)


def lay_over(layers: Sequence[Rendering], background: Background) -> Rendering:
    """Pictures of several objects over black as one over a background, the nearer object in front.

    Which one that is, is decided at each pixel by what is seen of them: exact where objects do not reach into
    each other along the ray.

    Args:
        layers: one or more, with colour, alpha and depth of the same shapes (V, H, W).
        background: colour where nothing is.
    """
    alpha = torch.stack([layer.alpha for layer in layers])
    depth = torch.stack([layer.depth for layer in layers])
    colour = torch.stack([layer.colour for layer in layers])
    order = torch.where(alpha > 0, depth, torch.inf).argsort(dim=0)
    alpha, depth = alpha.gather(0, order), depth.gather(0, order)
    colour = colour.gather(0, order[..., None].expand_as(colour))
    passed = (1 - alpha).cumprod(dim=0)
    reaches = torch.cat([torch.ones_like(passed[:1]), passed[:-1]])
    covered = 1 - passed[-1]
    seen = (reaches[..., None] * colour).sum(dim=0)
    weighted = (reaches * alpha * depth).sum(dim=0)
    return Rendering(over_background(seen, covered, background), covered, mean_depth(weighted, covered))
