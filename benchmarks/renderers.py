"""Time a view and peak memory of the renderers, by backend and picture size, on a device.

    python benchmarks/renderers.py [--device cuda] [--views 16] [--sizes 256 512] [--threads 2]

The object is a torus: 105,600 triangles, 50,000 Gaussians (standard deviations 0.003 to 0.009, opacities
0.15 to 0.95), the solid voxels of a grid of 64^3 that its surface crosses, and a radiance field of the
released decoder's sizes (16,032 leaves of that grid near the surface, 16 components of 8 samples) with random
values. Stages:

    faces             which face each pixel sees, search structures included
    mesh              all that a rendering holds, with interpolated colours
    Gaussians         colour, alpha and depth
    voxels            the same
    radiance field    the same
    ..., gradients    the same, and the gradients of all parameters, view by view

Backends that are not installed are left out; where one does not draw a stage, its row says why. The package
diffoctreerast draws radiance fields with its own samples.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from scenegen.cli.parser import CommandParser
from trellis_modules.backends import BackendUnavailable
from trellis_modules.renderers import (
    Rendering,
    render_gaussians,
    render_mesh,
    render_octree,
    visible_faces,
)
from trellis_modules.renderers.backends import GAUSSIAN_BACKENDS, MESH_BACKENDS, OCTREE_BACKENDS
from trellis_modules.renderers.cameras import multiview_cameras
from trellis_modules.renderers.spherical_harmonics import rgb_to_sh
from trellis_modules.representations.gaussian import Gaussian, GaussianConfig
from trellis_modules.representations.octree import OctreeNodes, VoxelOctree
from trellis_modules.representations.strivec import Strivec

MAJOR, MINOR = 0.35, 0.13  # radii of the torus
SECTIONS = 330, 160
NUM_GAUSSIANS = 50_000
RESOLUTION = 64
SOLID = 20.0  # logarithm of a density that hides all within a voxel
RANK, DIM = 16, 8  # components and samples of the radiance field
LAYER = 0.0174  # half its thickness around the surface
PARAMETERS = {  # that are differentiated by, by stage
    "Gaussians": ("hidden_xyz", "features_dc", "hidden_scaling", "hidden_rotation", "hidden_opacity"),
    "voxels": ("features_dc", "hidden_density"),
    "radiance field": ("trivec", "density", "features_dc"),
}


def main() -> None:
    """Measure and print a Markdown table."""
    parser = CommandParser(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="on the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {options.threads} threads"
    print(f"{name}, torch {torch.__version__}, {options.views} views\n")
    print("| stage | backend | pixels | ms a view | peak MiB |\n|---|---|---|---|---|")
    extrinsics, intrinsics = multiview_cameras(options.views)
    extrinsics, intrinsics = extrinsics.to(device), intrinsics.to(device)
    for size in options.sizes:
        for (stage, backend), draw in stages(device, extrinsics, intrinsics, size).items():
            print(f"| {stage} | {backend} | {size} | {figures(draw, device, options.views)} |", flush=True)


def figures(draw: Callable[[], object], device: torch.device, views: int) -> str:
    """The last two cells of a row, time and memory, or why the backend does not draw this."""
    try:
        seconds, peak = measure(draw, device)
    except BackendUnavailable as error:
        return f"{error} | "
    memory = "" if peak is None else f"{peak / 2**20:.0f}"
    return f"{1e3 * seconds / views:.2f} | {memory}"


def stages(
    device: torch.device, extrinsics: Tensor, intrinsics: Tensor, size: int
) -> dict[tuple[str, str], Callable[[], object]]:
    """What to time, by stage and backend."""
    vertices, faces = (tensor.to(device) for tensor in torus())
    views = extrinsics, intrinsics, size
    found: dict[tuple[str, str], Callable[[], object]] = {}
    for name in MESH_BACKENDS.available(device.type):
        found["faces", name] = lambda name=name: visible_faces(vertices, faces, *views, backend=name)
        found["mesh", name] = lambda name=name: render_mesh(
            vertices, faces, *views, vertex_attributes=vertices, backend=name
        )
    blended = (
        ("Gaussians", GAUSSIAN_BACKENDS, render_gaussians, gaussians().to(device)),
        ("voxels", OCTREE_BACKENDS, render_octree, voxels(device)),
        ("radiance field", OCTREE_BACKENDS, render_octree, radiance_field(device)),
    )
    for stage, backends, render, subject in blended:
        for name in backends.available(device.type):
            draw = partial(render, backend=name)
            found[stage, name] = partial(draw, subject, *views)
            found[f"{stage}, gradients", name] = partial(gradients, draw, subject, PARAMETERS[stage], *views)
    return found


def gradients(
    draw: Callable[..., Rendering],
    subject: Gaussian | VoxelOctree | Strivec,
    parameters: tuple[str, ...],
    extrinsics: Tensor,
    intrinsics: Tensor,
    size: int,
) -> None:
    """Render and differentiate view by view, as training does."""
    leaves = {name: getattr(subject, name).detach().requires_grad_() for name in parameters}
    for view in extrinsics.split(1):
        with torch.enable_grad():
            draw(replace(subject, **leaves), view, intrinsics, size).colour.square().mean().backward()


def measure(draw: Callable[[], object], device: torch.device) -> tuple[float, int | None]:
    """Seconds of the second call, and the bytes that it allocated at most on a GPU."""
    gpu = device.type == "cuda"
    for _ in range(2):
        if gpu:
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        with torch.no_grad():
            draw()
        if gpu:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
    return seconds, torch.cuda.max_memory_allocated(device) if gpu else None


def torus() -> tuple[Tensor, Tensor]:
    """Vertices (V, 3) and faces (F, 3) of a torus about the z axis."""
    around, across = SECTIONS
    u, v = torch.meshgrid(torch.arange(around), torch.arange(across), indexing="ij")
    vertices = torus_points(2 * math.pi * u.flatten() / around, 2 * math.pi * v.flatten() / across)
    corner = [
        ((u + i) % around * across + (v + j) % across).flatten() for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))
    ]
    first, second = torch.stack(corner[:3], dim=1), torch.stack([corner[0], *corner[2:]], dim=1)
    return vertices, torch.cat([first, second])


def torus_points(u: Tensor, v: Tensor) -> Tensor:
    """Points (N, 3) at angles around and across the torus."""
    ring = MAJOR + MINOR * v.cos()
    return torch.stack([ring * u.cos(), ring * u.sin(), MINOR * v.sin()], dim=1)


def gaussians() -> Gaussian:
    """Gaussians spread over the torus."""
    generator = torch.Generator().manual_seed(0)
    u, v, opacity, *rest = torch.rand(10, NUM_GAUSSIANS, generator=generator)
    xyz = torus_points(2 * math.pi * u, 2 * math.pi * v)
    return Gaussian.from_values(
        GaussianConfig(scaling_activation="softplus"),
        xyz=xyz,
        features_dc=rgb_to_sh(xyz + 0.5)[:, None],
        scaling=0.003 + 0.006 * torch.stack(rest[:3], dim=1),
        rotation=torch.stack(rest[3:], dim=1) - 0.5,
        opacity=0.15 + 0.8 * opacity[:, None],
    )


def voxels(device: torch.device) -> VoxelOctree:
    """Solid voxels along the surface of the torus."""
    coords = ((torus()[0] + 0.5) * RESOLUTION).long().unique(dim=0)
    nodes = OctreeNodes.from_coords(coords.to(device), RESOLUTION)
    return VoxelOctree(
        nodes,
        rgb_to_sh(nodes.position)[:, None],
        torch.full((len(nodes), 1), SOLID, device=device),
    )


def radiance_field(device: torch.device) -> Strivec:
    """Leaves of a thin layer around the surface of the torus, with random values."""
    generator = torch.Generator().manual_seed(0)
    coords = torch.cartesian_prod(*[torch.arange(RESOLUTION)] * 3)
    x, y, z = ((coords + 0.5) / RESOLUTION - 0.5).unbind(1)
    distance = (((x * x + y * y).sqrt() - MAJOR).square() + z * z).sqrt() - MINOR
    coords = coords[distance.abs() < LAYER]
    shape = len(coords), RANK
    return Strivec(
        OctreeNodes.from_coords(coords.to(device), RESOLUTION),
        (1 + 0.3 * torch.randn(*shape, 3, DIM, generator=generator)).to(device),
        (100 * torch.rand(shape, generator=generator) - 40).to(device),
        (2 * torch.randn(*shape, 1, 3, generator=generator)).to(device),
    )


if __name__ == "__main__":
    main()
