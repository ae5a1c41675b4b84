"""3D Gaussians of the objects in the scene's GLB, each set in the frame of its object's mesh."""

from __future__ import annotations

import numpy as np
import torch
import trimesh

from scenegen.export.gaussian_ply import gaussian_of
from scenegen.export.meshes import srgb_to_linear
from scenegen.geometry import SCALE, zup_to_yup
from scenegen.pipelines.result import SceneResult
from trellis_modules.gltf import GltfNode, GltfSplats
from trellis_modules.quaternions import matrix_to_quaternion, quaternion_multiply
from trellis_modules.renderers.spherical_harmonics import sh_to_rgb
from trellis_modules.representations.gaussian import Gaussian

MAX_SPLATS = 400_000
"""Of a scene, which are some 21 MB of its file; those that cover least are left out."""

MIN_OPACITY = 1 / 255
"""Gaussians below it are never seen."""

SUFFIX = "_splats"
"""What follows the name of an object's node in that of its Gaussians."""


def splat_nodes(result: SceneResult, scene: trimesh.Scene, limit: int = MAX_SPLATS) -> list[GltfNode]:
    """Nodes ``obj_<k>_splats`` with the Gaussians of the objects, or those of their surfaces.

    Args:
        result: at least one object has a mesh.
        scene: the same scene put together by `scenegen.export.meshes.build_scene`.
        limit: Gaussians of the scene at most.
    """
    shown = [item for item in result.objects if item.mesh is not None]
    sets = [_visible(gaussian_of(item).finite()) for item in shown]
    areas = [_covered(each) * float(item.pose[SCALE]) ** 2 for each, item in zip(sets, shown, strict=True)]
    everything = torch.cat(areas)
    least = float(everything.topk(limit).values[-1]) if len(everything) > limit else 0.0
    kept = [area >= least for area in areas]
    return [
        GltfNode(f"{item.node}{SUFFIX}", splats_of(each, rows), scene.graph[item.node][0])
        for item, each, rows in zip(shown, sets, kept, strict=True)
        if rows.any()
    ]


def splats_of(gaussian: Gaussian, rows: torch.Tensor) -> GltfSplats:
    """Some Gaussians, by rows (N,) bool, turned from their z-up frame to the y-up frame of the mesh."""
    turn = zup_to_yup(torch.eye(3)).T  # columns: where the axes of the z-up frame go
    rotations = quaternion_multiply(matrix_to_quaternion(turn), gaussian.rotation[rows])
    harmonics = gaussian.features_dc[rows, 0]
    colours = sh_to_rgb(harmonics).clamp(0, 1).numpy()
    opacities = gaussian.opacity[rows, 0].numpy()
    rgba = np.column_stack([srgb_to_linear(colours), opacities])
    return GltfSplats(
        centres=zup_to_yup(gaussian.xyz[rows]).numpy(),
        rotations=rotations.roll(-1, dims=1).numpy(),  # wxyz -> xyzw
        scales=gaussian.scaling[rows].numpy(),
        opacities=opacities,
        harmonics=harmonics.numpy(),
        colours=np.rint(rgba * 255).astype(np.uint8),
    )


def _visible(gaussian: Gaussian) -> Gaussian:
    return gaussian.subset(gaussian.opacity[:, 0] >= MIN_OPACITY)


def _covered(gaussian: Gaussian) -> torch.Tensor:
    """Opacity times the area (N,) of the widest section, up to a factor."""
    widest = gaussian.scaling.sort(dim=1).values[:, 1:].prod(dim=1)
    return gaussian.opacity[:, 0] * widest
