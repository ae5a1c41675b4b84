"""Time, memory and error of texture baking on a shape whose colour is known everywhere.

    python benchmarks/texture_baking.py [--device cuda] [--simplify 0.95 0] [--methods gaussians views]

The shape is a bumpy sphere, closed, of about the asked number of faces; its Gaussians lie on the surface,
with random sizes and turns. Prints one JSON line for each measurement and a Markdown table, and exits with
status 1 over ``--max-seconds`` or where the result is wrong: mean colour error from 0.03, or a hole of 1 % of
the surface.

Methods: "vertices" reads the colours of the fine mesh, "gaussians" those of the Gaussians at the surface,
"views" (fast mode) and "opt" (refined) those of rendered pictures. Stage "total" is all of it. Two of its
parts, "clean" (simplification, hidden faces, holes) and "unwrap" (xatlas), are also measured by themselves,
and "observe" (the rendering of pictures) inside. CPU seconds are summed over threads. The peak memory is that
of the process up to then; on a GPU it is that of tensors in the stage.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from skimage.measure import marching_cubes
from torch import Tensor

from scenegen.cli.parser import CommandParser
from trellis_modules.postprocess import (
    CleaningConfig,
    TexturedMesh,
    bake_gaussians,
    bake_vertex_colours,
    clean_mesh,
    observe,
    to_textured_mesh,
)
from trellis_modules.postprocess.topology import boundary_loops
from trellis_modules.postprocess.unwrap import unwrap
from trellis_modules.renderers.spherical_harmonics import rgb_to_sh
from trellis_modules.representations.gaussian import Gaussian, GaussianConfig
from trellis_modules.representations.mesh.triangle_arrays import triangle_areas, weld

METHODS = ("vertices", "gaussians", "views", "opt")
MAX_COLOUR_ERROR, MAX_HOLE = 0.03, 0.01
KIB_PER_UNIT = 1 if sys.platform == "linux" else 1 / 1024  # ru_maxrss is in bytes on macOS
FACES_PER_CELL = 5.2  # of this shape's marching cubes, times the square of the grid's edge
SAMPLES = 200_000


@dataclass
class Recorder:
    """Figures of one method at one setting, by stage."""

    device: torch.device
    settings: dict[str, object]
    rows: list[dict[str, object]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is done inside, and print it as a JSON line."""
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        start, cpu_start = time.perf_counter(), time.process_time()
        yield
        if on_gpu:
            torch.cuda.synchronize(self.device)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        self._add(name, seconds, cpu_seconds)

    def _add(self, name: str, seconds: float, cpu_seconds: float) -> None:
        """Keep and print one row."""
        if self.device.type == "cuda":
            gib = torch.cuda.max_memory_allocated(self.device) / 2**30
        else:
            gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB_PER_UNIT / 2**20
        row = {
            **self.settings, "stage": name, "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu_seconds, 2), "peak_gib": round(gib, 2),
        }  # fmt: skip
        self.rows.append(row)
        print(json.dumps(row), flush=True)


@dataclass(frozen=True)
class Shape:
    """A closed mesh in the object z-up frame, and Gaussians on it."""

    vertices: Tensor
    faces: Tensor
    gaussian: Gaussian

    @staticmethod
    def colour(points: Tensor) -> Tensor:
        """True colour (N, 3) in [0.15, 0.85] at points (N, 3)."""
        return 0.5 + 0.35 * torch.sin(12 * points + torch.tensor([0.0, 1, 2], device=points.device))


def main() -> int:
    """Run the benchmark and return its exit status."""
    options = parse_arguments()
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    shape = bumpy_sphere(options.faces, options.gaussians, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {options.threads} threads"
    print(f"{name}, torch {torch.__version__}, {len(shape.faces)} faces, {len(shape.gaussian)} Gaussians")
    warm_up(shape, options)
    rows, failures = [], []
    for simplify in options.simplify:
        for method in options.methods:
            recorder = Recorder(device, {"method": method, "simplify": simplify})
            mesh, total = measure(shape, method, simplify, options, recorder)
            rows += recorder.rows
            failures += check(mesh, recorder.settings, total, options.max_seconds)
    print("\n| method | simplify | stage | seconds | CPU seconds | peak GiB |\n|---|---|---|---:|---:|---:|")
    for row in rows:
        keys = ("method", "simplify", "stage", "seconds", "cpu_seconds", "peak_gib")
        print("| " + " | ".join(str(row[key]) for key in keys) + " |")
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    return 1 if failures else 0


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--faces", type=int, default=100_000)
    parser.add_argument("--gaussians", type=int, default=100_000)
    parser.add_argument("--texture-size", type=int, default=1024)
    parser.add_argument("--simplify", type=float, nargs="+", default=[0.95, 0.0])
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=["vertices", "gaussians"])
    parser.add_argument("--views", type=int, default=100 if on_gpu else 24)
    parser.add_argument("--view-size", type=int, default=1024 if on_gpu else 512)
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-seconds", type=float, help="for one mesh, pictures included")
    return parser.parse_args()


def bumpy_sphere(num_faces: int, num_gaussians: int, device: torch.device) -> Shape:
    """Make the shape, with about ``num_faces`` faces."""
    edge = round((num_faces / FACES_PER_CELL) ** 0.5)
    grid = np.linspace(-0.55, 0.55, edge, dtype=np.float32)
    x, y, z = np.meshgrid(grid, grid, grid, indexing="ij")
    bumps = 0.06 * np.sin(14 * x) * np.sin(11 * y + 1) * np.sin(13 * z)
    level = 0.4 + bumps - np.sqrt(x * x + y * y + z * z)
    points, corners, _, _ = marching_cubes(level, 0.0, gradient_direction="ascent")
    vertices = torch.from_numpy((points / (edge - 1) * 1.1 - 0.55).astype(np.float32)).to(device)
    faces = torch.from_numpy(corners.astype(np.int64)).to(device)
    return Shape(vertices, faces, surface_gaussians(vertices, faces, num_gaussians))


def surface_gaussians(vertices: Tensor, faces: Tensor, count: int) -> Gaussian:
    """Gaussians at random places of the surface, large enough to close it."""
    generator = torch.Generator().manual_seed(0)
    face = torch.randint(len(faces), (count,), generator=generator)
    weights = torch.rand(count, 3, generator=generator)
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(vertices)
    xyz = (vertices[faces[face.to(faces.device)]] * weights[..., None]).sum(dim=1)
    scaling = 0.003 + 0.006 * torch.rand(count, 3, generator=generator)
    return Gaussian.from_values(
        GaussianConfig(),
        xyz=xyz,
        features_dc=rgb_to_sh(Shape.colour(xyz))[:, None],
        scaling=scaling.to(vertices),
        rotation=torch.randn(count, 4, generator=generator).to(vertices),
        opacity=torch.full((count, 1), 0.9).to(vertices),
    )


def warm_up(shape: Shape, options: argparse.Namespace) -> None:
    """Load kernels and libraries with a coarse mesh; a GPU also gets memory for textures of full size."""
    bake_gaussians(
        shape.vertices,
        shape.faces,
        shape.gaussian,
        cleaning=CleaningConfig(simplify=0.99),
        texture_size=options.texture_size,
    )
    if {"views", "opt"} & set(options.methods):
        observations = observe(shape.gaussian, 1, options.view_size)
        to_textured_mesh(
            shape.vertices, shape.faces, observations, cleaning=CleaningConfig(simplify=0.99), texture_size=64
        )


def measure(
    shape: Shape, method: str, simplify: float, options: argparse.Namespace, recorder: Recorder
) -> tuple[TexturedMesh, float]:
    """Measure the first stages by themselves and then all; the mesh and the seconds of all."""
    arrays = shape.vertices.cpu().numpy(), shape.faces.cpu().numpy()
    with recorder.stage("clean"):
        vertices, faces = clean_mesh(*arrays, CleaningConfig(simplify), recorder.device)
    with recorder.stage("unwrap"):
        unwrap(vertices, faces, options.texture_size)
    settings = {"cleaning": CleaningConfig(simplify), "texture_size": options.texture_size}
    with recorder.stage("total"):
        mesh = bake(shape, method, settings, options, recorder)
    return mesh, recorder.rows[-1]["seconds"]


def bake(
    shape: Shape, method: str, settings: dict[str, object], options: argparse.Namespace, recorder: Recorder
) -> TexturedMesh:
    """Texture the shape by one method."""
    mesh = shape.vertices, shape.faces
    if method == "vertices":
        return bake_vertex_colours(*mesh, Shape.colour(shape.vertices), **settings)
    if method == "gaussians":
        return bake_gaussians(*mesh, shape.gaussian, **settings)
    with recorder.stage("observe"):
        observations = observe(shape.gaussian, options.views, options.view_size)
    return to_textured_mesh(*mesh, observations, mode="opt" if method == "opt" else "fast", **settings)


def check(
    mesh: TexturedMesh, settings: dict[str, object], seconds: float, max_seconds: float | None
) -> list[str]:
    """Print how good the result is; messages about what is not as it should be."""
    error, hole, what = colour_error(mesh), largest_hole(mesh), f"{settings}"
    result = {"faces": len(mesh.faces), "colour_error": round(error, 4), "largest_hole": round(hole, 4)}
    print(json.dumps(settings | result), flush=True)
    failures = []
    if error >= MAX_COLOUR_ERROR:
        failures.append(f"{what}: mean colour error {error:.3f}, expected less than {MAX_COLOUR_ERROR}")
    if hole >= MAX_HOLE:
        failures.append(f"{what}: hole of {hole:.1%} of the surface, expected less than {MAX_HOLE:.0%}")
    if max_seconds is not None and seconds > max_seconds:
        failures.append(f"{what}: {seconds:.1f} s, expected at most {max_seconds:g} s")
    return failures


def colour_error(mesh: TexturedMesh) -> float:
    """Mean absolute difference between the texture and the true colour at points spread over the surface."""
    corners = torch.from_numpy(mesh.vertices)[torch.from_numpy(mesh.faces).long()]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    generator = torch.Generator().manual_seed(1)
    face = torch.multinomial(areas, SAMPLES, replacement=True, generator=generator)
    weights = torch.rand(SAMPLES, 3, generator=generator)
    weights = (weights / weights.sum(dim=1, keepdim=True))[..., None]
    x, y, z = (corners[face] * weights).sum(dim=1).unbind(1)
    uvs = (torch.from_numpy(mesh.uvs)[torch.from_numpy(mesh.faces).long()][face] * weights).sum(dim=1)
    texture = torch.from_numpy(mesh.texture).float().permute(2, 0, 1)[None] / 255
    grid = torch.stack([2 * uvs[:, 0] - 1, 1 - 2 * uvs[:, 1]], dim=1)[None, None]
    colour = torch.nn.functional.grid_sample(texture, grid, padding_mode="border", align_corners=False)
    return (colour[0, :, 0].mT - Shape.colour(torch.stack([x, -z, y], dim=1))).abs().mean().item()


def largest_hole(mesh: TexturedMesh) -> float:
    """Area of the largest hole, as a fan around its middle, in shares of the surface."""
    vertices, faces, _ = weld(mesh.vertices, mesh.faces)
    surface = 2 * triangle_areas(vertices, faces).sum()  # twice, as the fans below
    holes = [0.0]
    for loop in boundary_loops(faces):
        spokes = vertices[loop] - vertices[loop].mean(axis=0)
        holes.append(np.linalg.norm(np.cross(spokes, np.roll(spokes, -1, axis=0)), axis=1).sum())
    return float(max(holes) / surface)


if __name__ == "__main__":
    sys.exit(main())
