"""What the small model's encoder reads at voxels: distance, place and colour of the surface around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataset_toolkits.asset_views import view_generator
from dataset_toolkits.ray_cast_asset import load_normalised
from scenegen.geometry import zup_to_yup
from scenegen.synthesis.pictures.render_mesh import RenderMesh
from scenegen.synthesis.shapes.shape_bank import Triangles
from scenegen.synthesis.shapes.voxel_fields import FieldGrid, voxel_features, voxel_fields

SURFACE_FIELDS = "surface_fields"
"""Name of these features, in the place of that of an image encoder."""

# Points of a triangle at which its texture is read, as weights of the second and the third corner.
_POINTS = np.float32([[3, 3], [1, 1], [4, 1], [1, 4], [3, 1], [3, 3], [1, 3]]) / np.float32(
    [[9], [6], [6], [6], [7], [7], [7]]
)


def surface_features(model: Path, sha256: str, voxels: np.ndarray, device: torch.device) -> Tensor:
    """Fields of an asset at voxels.

    Args:
        model: its file, which has the colours that ``mesh.ply`` lacks.
        sha256: its key, from which the randomness comes.
        voxels: (N, 3) indices in a grid of 64, z up.
        device: where the fields are computed.

    Returns:
        (N, 132) float32 on the CPU; see `voxel_features`.

    Raises:
        ValueError: the model cannot be read.
    """
    mesh, _, _ = load_normalised(model)
    corners = zup_to_yup(torch.from_numpy(mesh.vertices[mesh.faces])).to(device)
    colours = torch.from_numpy(face_colours(mesh)).to(device)
    owner = torch.zeros(len(corners), dtype=torch.long, device=device)
    where = torch.from_numpy(np.pad(voxels, ((0, 0), (1, 0)))).to(device)
    seed = int(view_generator(SURFACE_FIELDS, sha256).integers(2**62))
    generator = torch.Generator(device).manual_seed(seed)
    fields = voxel_fields(Triangles(corners, owner, colours), 1, FieldGrid(), generator, voxels=where)
    return voxel_features(fields.painted(colours)).float().cpu()


def face_colours(mesh: RenderMesh) -> np.ndarray:
    """(F, 3) float32 in [0, 1]: the mean colour of each face, texture included."""
    faces = np.arange(len(mesh.faces))
    drawn = [mesh.point_colours(faces, np.full(len(faces), u), np.full(len(faces), v)) for u, v in _POINTS]
    return np.mean(drawn, axis=0, dtype=np.float32)
