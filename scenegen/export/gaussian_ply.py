"""PLY files of 3D Gaussians, as Gaussian-splatting viewers read them: the scene and each object.

An object generated without Gaussians gets one small ball at each vertex of its surface, in its colour.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import trimesh
from torch import Tensor

from scenegen.export.frames import PLY_TO_GLB, SceneFrame
from scenegen.export.meshes import vertex_colours
from scenegen.export.options import ExportOptions
from scenegen.geometry import ROTATION, SCALE, place, yup_to_zup
from scenegen.pipelines.result import GeneratedObject, SceneResult
from trellis_modules.quaternions import matrix_to_quaternion, quaternion_multiply, quaternion_to_matrix
from trellis_modules.renderers.spherical_harmonics import rgb_to_sh
from trellis_modules.representations.gaussian import Gaussian, GaussianConfig

SCENE_FILE = "scene.ply"

_OPACITY = 0.99
_ZUP_TO_YUP = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))


def write(result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions) -> list[str]:
    """Write ``scene.ply`` and ``obj_<k>.ply``: in place and size those of the GLBs, turned upside down.

    Splat viewers take y as down, as the files of the released pipeline have it. One half turn about x,
    `scenegen.export.frames.PLY_TO_GLB`, takes each file to the GLB of the same name; a comment in the file
    and ``poses.json`` give it.
    """
    frame = SceneFrame.of(result, scene)
    names, placed = [], []
    for item in result.objects:
        if item.mesh is None:
            continue
        gaussian = gaussian_of(item)
        gaussian.save_ply(folder / f"{item.node}.ply", comments=_comments(f"{item.node}.glb"))
        names.append(f"{item.node}.ply")
        placed.append(place_gaussian(gaussian, frame.pose(item.pose.double()).float()))
    join_gaussians(placed).save_ply(folder / SCENE_FILE, comments=_comments("scene.glb"))
    return [SCENE_FILE, *names]


def _comments(glb: str) -> list[str]:
    """Lines of the header that say how the file lies to a GLB."""
    rows = "; ".join(" ".join(f"{value:g}" for value in row) for row in PLY_TO_GLB)
    return [f"frame: y down; ply_to_glb (4 x 4, rows) takes it to {glb}", f"ply_to_glb: {rows}"]


def gaussian_of(item: GeneratedObject) -> Gaussian:
    """The Gaussians of an object that has a mesh, or those of its surface where it was made without."""
    return surface_gaussian(item.mesh) if item.gaussian is None else item.gaussian


def surface_gaussian(mesh: trimesh.Trimesh) -> Gaussian:
    """One round Gaussian at each vertex of a mesh (object y-up frame), sized to cover the surface; z up."""
    count = len(mesh.vertices)
    xyz = yup_to_zup(torch.from_numpy(np.asarray(mesh.vertices, dtype=np.float32)))
    colours = torch.from_numpy(vertex_colours(mesh) / 255.0).float()
    radius = float(np.sqrt(mesh.area / count))
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0])
    return Gaussian.from_values(
        GaussianConfig(),
        xyz=xyz,
        features_dc=rgb_to_sh(colours)[:, None],
        scaling=torch.full((count, 3), max(radius, 1e-6)),
        rotation=identity.repeat(count, 1),
        opacity=torch.full((count, 1), _OPACITY),
    )


def place_gaussian(gaussian: Gaussian, pose: Tensor) -> Gaussian:
    """Move Gaussians of an object (z up) by a pose (8,) to the frame of the pose, turned z-up."""
    to_yup = torch.tensor(_ZUP_TO_YUP)
    turn = to_yup.T @ quaternion_to_matrix(pose[ROTATION].float()) @ to_yup
    rotation = quaternion_multiply(matrix_to_quaternion(turn), gaussian.rotation)
    return Gaussian.from_values(
        GaussianConfig(),
        xyz=yup_to_zup(place(gaussian.xyz, pose)),
        features_dc=gaussian.features_dc,
        scaling=gaussian.scaling * pose[SCALE],
        rotation=rotation,
        opacity=gaussian.opacity.clamp(1e-6, 1 - 1e-6),
    )


def join_gaussians(parts: list[Gaussian]) -> Gaussian:
    """All Gaussians of several sets, which share one configuration."""
    return Gaussian(
        parts[0].config,
        *(
            torch.cat([getattr(part, name) for part in parts])
            for name in ("hidden_xyz", "features_dc", "hidden_scaling", "hidden_rotation", "hidden_opacity")
        ),
    )
