"""Colours of objects against the true models: four views of each object alone, without light.

Every object is brought to a box centred at 0 with longest side 1, in its own frame (y up, front +z): neither
its place nor its light counts. Errors are those of sRGB colours in the pixels that show both objects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image
from torch import Tensor

from scenegen.evaluation.comparison import Figures
from scenegen.evaluation.loading import EvaluationError
from scenegen.geometry import yup_to_zup
from trellis_modules.renderers import render_mesh
from trellis_modules.renderers.cameras import fov_intrinsics, orbit_extrinsics

MAX_PSNR = 60.0
VIEW_SIZE = 256
YAWS_DEG, PITCH_DEG, RADIUS, FOV_DEG = (30.0, 120.0, 210.0, 300.0), 20.0, 2.0, 40.0

ColourStatistics = dict[str, Any]
"""What `compare_views` returns, JSON-ready."""


@dataclass(frozen=True)
class Views:
    """Four pictures of one object: colours (4, S, S, 3) sRGB in [0, 1], and where it is seen (4, S, S)."""

    colour: Tensor
    seen: Tensor


def objects_of(path: Path) -> dict[str, trimesh.Trimesh]:
    """The meshes of a scene in their own frames, by the names of their nodes.

    Raises:
        EvaluationError: the file cannot be read.
    """
    try:
        scene = trimesh.load_scene(path, process=False)
        nodes = {node: scene.geometry[scene.graph[node][1]] for node in scene.graph.nodes_geometry}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        raise EvaluationError(
            f"{path}: expected a GLB with meshes, got {type(error).__name__}: {error}; export it again"
        ) from error
    return {node: mesh for node, mesh in nodes.items() if len(getattr(mesh, "faces", ()))}


def draw(mesh: trimesh.Trimesh, size: int) -> Views:
    """Four views of an object (y up), brought to a box centred at 0 with longest side 1."""
    points = torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32)
    low, high = points.amin(dim=0), points.amax(dim=0)
    points = (points - (low + high) / 2) / (high - low).max().clamp_min(1e-12)
    texture, attributes = _colours(mesh)
    yaws = torch.deg2rad(torch.tensor(YAWS_DEG))
    extrinsics = orbit_extrinsics(yaws, torch.full_like(yaws, math.radians(PITCH_DEG)), RADIUS)
    pictures = render_mesh(
        yup_to_zup(points),
        torch.tensor(np.asarray(mesh.faces)),
        extrinsics,
        fov_intrinsics(math.radians(FOV_DEG)),
        size,
        vertex_attributes=attributes,
        near=0.5,
    )
    values = pictures.attributes
    colour = linear_to_srgb(values) if texture is None else sample_texture(texture, values)
    return Views(colour, pictures.alpha > 0.5)


def _colours(mesh: trimesh.Trimesh) -> tuple[Tensor | None, Tensor]:
    """A texture (H, W, 3) sRGB and UVs (V, 2); or None and linear vertex colours (V, 3), as glTF has them."""
    visual = mesh.visual
    if visual.kind != "texture":
        return None, _unit_rgb(visual.vertex_colors)
    if visual.uv is None or visual.material.baseColorTexture is None:  # colours beside a plain material
        return None, _unit_rgb(visual.vertex_attributes.get("color", np.full((len(mesh.vertices), 3), 255)))
    texture = _unit_rgb(visual.material.baseColorTexture.convert("RGB"))
    return texture, torch.tensor(np.asarray(visual.uv), dtype=torch.float32)


def _unit_rgb(colours: np.ndarray | Image.Image) -> Tensor:
    """Colours (..., 3 or 4) in [0, 255] as (..., 3) float32 in [0, 1]."""
    return torch.tensor(np.asarray(colours)[..., :3], dtype=torch.float32) / 255


def sample_texture(texture: Tensor, uv: Tensor) -> Tensor:
    """Colours (..., 3) of a texture (H, W, 3) at UVs (..., 2), whose origin is its lower left corner."""
    grid = torch.stack([uv[..., 0], 1 - uv[..., 1]], dim=-1) * 2 - 1
    colours = torch.nn.functional.grid_sample(
        texture.permute(2, 0, 1)[None],
        grid.reshape(1, 1, -1, 2),
        padding_mode="border",
        align_corners=False,
    )
    return colours[0, :, 0].T.reshape(*uv.shape[:-1], 3)


def linear_to_srgb(colours: Tensor) -> Tensor:
    """Map linear light in [0, 1] to sRGB. Source: IEC 61966-2-1."""
    return torch.where(
        colours <= 0.0031308, colours * 12.92, 1.055 * colours.clamp_min(1e-8) ** (1 / 2.4) - 0.055
    )


def compare_views(views: Views | None, truth: Views) -> ColourStatistics:
    """Errors of one object.

    Args:
        views: as predicted; None for a missing object.
        truth: the same views of the true object.

    Returns:
        Mean squared errors of the predicted colours ("error") and of their mean ("error_flat"), mean ("mean",
        3 numbers) and variance ("variance", over pixels, averaged over channels) of the true colours, all in
        the pixels that show both; and "silhouette_iou". All 0 but "mean", which is of all true pixels, where
        "seen" is false.
    """
    both = truth.seen & views.seen if views is not None else torch.zeros_like(truth.seen)
    if not both.any():
        mean = truth.colour[truth.seen].double().mean(dim=0).tolist() if truth.seen.any() else [0.5] * 3
        nothing = dict.fromkeys(("error", "error_flat", "variance", "silhouette_iou"), 0.0)
        return {"seen": False, "mean": mean, **nothing}
    goal, colour = truth.colour[both].double(), views.colour[both].double()
    return {
        "seen": True,
        "mean": goal.mean(dim=0).tolist(),
        "error": float((colour - goal).square().mean()),
        "error_flat": float((colour.mean(dim=0) - goal).square().mean()),
        "variance": float(goal.var(dim=0, correction=0).mean()),
        "silhouette_iou": float(both.sum() / (truth.seen | views.seen).sum()),
    }


def bounded_psnr(error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error of colours in [0, 1], at most `MAX_PSNR`."""
    return min(-10 * math.log10(max(error, 1e-12)), MAX_PSNR)


def colour_figures(entry: ColourStatistics, mean_colour: np.ndarray) -> Figures:
    """Figures of one object; one that is missing, or shares no pixel with the true one, has 0 in all.

    Args:
        entry: from `compare_views`.
        mean_colour: (3,) of all true objects.

    Returns:
        ``colour_psnr`` of the predicted colours; ``colour_psnr_flat`` of the same mesh in the mean of its own
        colours, with its texture off; ``colour_psnr_true_mean`` in the mean of the true colours, the best
        that one colour can do; ``colour_psnr_mean`` in the mean of all true objects; ``silhouette_iou``.
    """
    names = ("colour_psnr", "colour_psnr_flat", "colour_psnr_true_mean", "colour_psnr_mean", "silhouette_iou")
    if not entry["seen"]:
        return dict.fromkeys(names, 0.0)
    error_of_mean = entry["variance"] + float(np.square(entry["mean"] - mean_colour).mean())
    errors = (entry["error"], entry["error_flat"], entry["variance"], error_of_mean)
    return dict(zip(names, (*map(bounded_psnr, errors), entry["silhouette_iou"]), strict=True))
