"""How well the appearance autoencoder of a training run reproduces furniture it was not trained on.

``python -m benchmarks.structured_latent_vae --pack data/packs/validation.safetensors \\
    --run outputs/structured_latent_vae``

Each model is drawn from four sides as it is and as decoded, both without light. PSNR is that of the pixels
that show both; beside it the same with one colour for everything, the mean of the true pixels.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scenegen.cli.parser import CommandParser
from scenegen.geometry import yup_to_zup
from scenegen.models.registry import load_checkpoint
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.shapes.shape_bank import ShapeBank, Triangles
from scenegen.synthesis.shapes.voxel_fields import FieldGrid, voxel_features, voxel_fields
from trellis_modules.renderers import Rendering, render_mesh
from trellis_modules.renderers.cameras import fov_intrinsics, orbit_extrinsics
from trellis_modules.representations.mesh.mesh_result import MeshExtractResult
from trellis_modules.sparse import SparseTensor

_YAWS_DEG, _PITCH_DEG, _RADIUS, _FOV_DEG = (30.0, 120.0, 210.0, 300.0), 20.0, 2.0, 40.0


@dataclass(frozen=True)
class Score:
    """Of one model: in dB, in dB, in [0, 1]."""

    psnr: float
    psnr_mean_colour: float
    silhouette_iou: float


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--pack", type=Path, required=True, help="mesh pack to reconstruct")
    parser.add_argument("--run", type=Path, required=True, help="output folder of the training")
    parser.add_argument("--size", type=int, default=256, help="pixels per edge of the pictures")
    parser.add_argument("--limit", type=int, help="models to look at; default: all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def draw(vertices: Tensor, faces: Tensor, colours: Tensor, size: int) -> Rendering:
    """Four views of a z-up mesh with vertex colours (V, 3)."""
    yaw = torch.deg2rad(torch.tensor(_YAWS_DEG, device=vertices.device))
    pitch = torch.full_like(yaw, math.radians(_PITCH_DEG))
    intrinsics = fov_intrinsics(math.radians(_FOV_DEG)).to(vertices.device)
    extrinsics = orbit_extrinsics(yaw, pitch, _RADIUS)
    return render_mesh(vertices, faces, extrinsics, intrinsics, size, vertex_attributes=colours)


def compare(triangles: Triangles, mesh: MeshExtractResult, size: int) -> Score:
    """Score a decoded mesh against the true triangles (y up)."""
    corners = yup_to_zup(triangles.corners).flatten(0, 1)
    faces = torch.arange(len(corners), device=corners.device).view(-1, 3)
    true = draw(corners, faces, triangles.colours.repeat_interleave(3, dim=0), size)
    seen = draw(mesh.vertices, mesh.faces, mesh.vertex_attrs[:, :3], size)
    is_true, is_seen = true.alpha > 0.5, seen.alpha > 0.5
    both = is_true & is_seen
    if not both.any():
        return Score(0.0, 0.0, 0.0)
    goal = true.colour[both]
    return Score(
        psnr(seen.colour[both], goal),
        psnr(goal.mean(0).expand_as(goal), goal),
        float(both.sum() / (is_true | is_seen).sum()),
    )


def psnr(picture: Tensor, goal: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of colours in [0, 1]; at most 60, for pictures of one colour."""
    error = float((picture - goal).square().mean())
    return min(-10 * math.log10(max(error, 1e-12)), 60.0)


@torch.no_grad()
def main() -> None:
    """Encode, decode, draw, compare, print."""
    arguments = parse_arguments()
    device = torch.device(arguments.device)
    encoder, decoder = (
        load_checkpoint(arguments.run / "ckpts" / name, device=device).eval()
        for name in ("encoder", "decoder_mesh")
    )
    grid = FieldGrid(resolution=encoder.config.resolution)
    bank = ShapeBank(MeshPack.load(arguments.pack), device)
    generator = torch.Generator(device).manual_seed(0)
    scores = []
    for number in range(min(len(bank.infos), arguments.limit or len(bank.infos))):
        triangles = bank.gather(torch.tensor([number], device=device))
        fields = voxel_fields(triangles, 1, grid, generator)
        x = SparseTensor(voxel_features(fields.painted(triangles.colours)), fields.coords)
        mesh = decoder(encoder(x, sample_posterior=False))[0]
        scores.append(compare(triangles, mesh, arguments.size) if mesh.success else Score(0.0, 0.0, 0.0))
    for name in ("psnr", "psnr_mean_colour", "silhouette_iou"):
        values = torch.tensor([getattr(score, name) for score in scores])
        print(f"{name}: mean {values.mean():.3f}, median {values.median():.3f} of {len(values)} models")


if __name__ == "__main__":
    main()
