"""Families of the object representations: meshes from cubes, Gaussians, and the sequences around them."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.cube_grids import dense_grid
from tests.parity.golden import GoldenCase, evaluate_input, family, make_input
from trellis_modules.renderers.low_discrepancy import hammersley_set, sphere_hammersley
from trellis_modules.renderers.projection import intrinsics_to_projection
from trellis_modules.renderers.spherical_harmonics import (
    MAX_DEGREE,
    evaluate_spherical_harmonics,
    rgb_to_sh,
    sh_to_rgb,
)
from trellis_modules.representations.gaussian import Gaussian, GaussianConfig
from trellis_modules.representations.mesh.cube_grid import (
    corner_offsets,
    deformed_positions,
    mean_over_cubes,
    point_keys,
    shared_corners,
)
from trellis_modules.representations.mesh.flexicubes import CubeWeights, DualMesh, flexicubes
from trellis_modules.representations.mesh.mesh_result import MeshExtractResult
from trellis_modules.representations.mesh.sparse_features_to_mesh import sparse_features_to_mesh
from trellis_modules.representations.ply import read_ply_vertices

_NUMBER = r"(-?[0-9.]+)"
_CENTRE = re.compile(rf"p ?- ?\({_NUMBER},\s*{_NUMBER},\s*{_NUMBER}\)")
_TORUS = re.compile(rf"sqrt\(qx\^2\+qy\^2\)-{_NUMBER}\)\^2\+qz\^2\)-{_NUMBER}")
_SPHERE = re.compile(rf"\| - {_NUMBER}$")
_WEIGHTS = re.compile(r"([0-9.]+) \* label:(\S+)/beta")
_FEATS_PART = re.compile(r"(?:([0-9.]+)\*)?label:(\S+)/(deform|weights|color) \[n,(\d+)\]")
_SDF_NOISE = re.compile(r"\(([0-9.]+)/res\)\*label:(\S+) \[n,8\]")
_PLY_SOURCE = re.compile(r"representation (\d+) of case (\w+); first (\d+) vertices only")


def _grid_sdf(formula: str, grid: Tensor) -> Tensor:
    """Signed distances (P,) of a sphere, a torus or labelled noise at float32 grid points (P, 3)."""
    if formula.startswith("all ones"):
        return torch.ones(len(grid))
    if formula.startswith("label:"):
        return evaluate_input(formula)
    centre = [float(value) for value in _CENTRE.search(formula).groups()]
    offset = grid - torch.tensor(centre)
    if torus := _TORUS.search(formula):
        ring = offset[:, :2].square().sum(dim=1).sqrt() - float(torus[1])
        return (ring.square() + offset[:, 2].square()).sqrt() - float(torus[2])
    return offset.norm(dim=1) - float(_SPHERE.search(formula)[1])


def _weights(expression: str | None, num_cubes: int) -> CubeWeights | None:
    if expression is None:
        return None
    factor, label = _WEIGHTS.search(expression).groups()
    parts = {"beta": (num_cubes, 12), "alpha": (num_cubes, 8), "gamma": (num_cubes,)}
    raw = {name: torch.from_numpy(make_input(f"{label}/{name}", shape)) for name, shape in parts.items()}
    return CubeWeights(**{name: float(factor) * value for name, value in raw.items()})


def stored_order(vertices: Tensor, expected: Tensor) -> Tensor:
    """For each stored vertex our nearest one; ours are numbered by another, equally good rule in a few cases.

    Raises:
        AssertionError: the meshes differ in vertex count, or two stored vertices have the same partner.
    """
    assert vertices.shape == expected.shape, f"{len(vertices)} vertices, expected {len(expected)}"
    if not len(expected):
        return torch.zeros(0, dtype=torch.int64)
    nearest = torch.cdist(expected, vertices, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
    assert len(nearest.unique()) == len(expected), "stored and computed vertices do not pair one to one"
    return nearest


def renumbered(rows: Tensor, order: Tensor) -> Tensor:
    """Vertex rows after reordering the vertices by ``order``."""
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order))
    return inverse[rows]


def _mesh_tensors(case: GoldenCase, mesh: DualMesh) -> dict[str, Tensor]:
    order = stored_order(mesh.vertices, case.tensors["vertices"])
    deviation_order = renumbered(mesh.deviation_vertex, order).argsort(stable=True)
    computed = {
        "vertices": mesh.vertices[order],
        "faces": renumbered(mesh.faces, order),
        "L_dev": mesh.deviation[deviation_order],
    }
    if mesh.attributes is not None:
        computed["colors"] = mesh.attributes[order]
    return computed


@family("FlexiCubes")
def flexicubes_family(case: GoldenCase) -> dict[str, Tensor]:
    """Extraction from a dense grid."""
    inputs, resolution = case.meta["inputs"], case.config["resolution"]
    vertices, coords, corners = dense_grid(resolution)
    grid = vertices.float() / resolution - 0.5
    positions = grid
    if "deform" in inputs:
        positions = deformed_positions(vertices, case.input("deform"), resolution)
    mesh = flexicubes(
        positions,
        _grid_sdf(inputs["sdf"], grid),
        coords,
        corners,
        resolution=resolution,
        weights=_weights(inputs.get("beta/alpha/gamma"), len(coords)),
        attributes=case.input("colors").sigmoid() if "colors" in inputs else None,
        training=case.config["training"],
    )
    return _mesh_tensors(case, mesh)


def _cube_feats(case: GoldenCase, coords: Tensor) -> Tensor:
    """The features of a sphere's cubes: its distances with noise, and labelled values for the rest."""
    inputs, resolution = case.meta["inputs"], case.config["res"]
    text, count = inputs["feats"], len(coords)
    corner = (coords[:, None].long() + corner_offsets(coords.device)).float()
    radius = (corner / resolution - 0.5 - torch.tensor(inputs["cen"])).norm(dim=-1)
    sdf = radius - inputs["r"] + 1 / resolution
    factor, label = _SDF_NOISE.search(text).groups()
    sdf = sdf + float(factor) / resolution * torch.from_numpy(make_input(label, (count, 8)))
    rest = [
        float(factor or 1) * torch.from_numpy(make_input(f"{label}/{part}", (count, int(channels))))
        for factor, label, part, channels in _FEATS_PART.findall(text)
    ]
    return torch.cat([sdf, *rest], dim=1)


@family("SparseFeatures2Mesh")
def features_to_mesh(case: GoldenCase) -> dict[str, Tensor]:
    """Extraction from sparse cubes."""
    config, coords = case.config, case.tensors["coords"]
    feats = _cube_feats(case, coords)
    mesh = sparse_features_to_mesh(
        coords, feats, config["res"], use_color=config["use_color"], training=config["training"]
    )
    order = stored_order(mesh.vertices, case.tensors["vertices"])
    computed = {"coords": coords, "feats_first8": feats[:8], **_result_tensors(mesh, order)}
    if mesh.training is not None:
        computed["reg_loss"] = mesh.training.regularization.reshape(1)
        computed["tsdf_v"], computed["tsdf_s"] = mesh.training.grid_positions, mesh.training.grid_sdf
    return computed


def _result_tensors(mesh: MeshExtractResult, order: Tensor) -> dict[str, Tensor]:
    computed = {
        "vertices": mesh.vertices[order],
        "faces": renumbered(mesh.faces, order),
        "face_normal0": mesh.face_normals(),
        "vert_normals": mesh.vertex_normals()[order],
    }
    if mesh.vertex_attrs is not None:
        computed["vertex_attrs"] = mesh.vertex_attrs[order]
    return computed


@family("dense grid / sparse cube -> vertex helpers")
def cube_helpers(case: GoldenCase) -> dict[str, Tensor]:
    """Grid numbering, shared vertices and their means."""
    resolution = 5
    dense_vertices, _, dense_corners = dense_grid(int(case.input("res_dense")))
    coords, value = case.input("coords"), case.input("value")
    vertices, corners = shared_corners(coords, resolution)
    mean = mean_over_cubes(value, corners, len(vertices))
    dense = torch.zeros((resolution + 1) ** 3, mean.shape[1])
    dense[:, 0] = 1
    dense[point_keys(vertices, resolution + 1)] = mean
    return {
        "coords": coords,
        "dense_verts": dense_vertices,
        "dense_cubes": dense_corners,
        "unique_verts": vertices,
        "cubes": corners,
        "mean": mean,
        "dense_attrs": dense,
        "deformed": deformed_positions(vertices, mean, resolution),
    }


@family("hammersley sequences (float64)")
def hammersley_sequences(case: GoldenCase) -> dict[str, Tensor]:
    """Point sets of the cube and directions of the sphere, with the sizes named in the tensors."""
    return {name: torch.tensor(_sequence(name), dtype=torch.float64) for name in case.tensors}


def _sequence(name: str) -> list[tuple[float, ...]]:
    """The points that a tensor name asks for: ``h{dim}_{count}`` or ``sphere_{count}[_offset|_remap]``."""
    kind, count, *variant = name.split("_")
    if kind != "sphere":
        return hammersley_set(int(kind[1:]), int(count)).tolist()
    offset = (0.3, 0.6) if variant == ["offset"] else (0.0, 0.0)
    return [sphere_hammersley(i, int(count), offset, remap=variant == ["remap"]) for i in range(int(count))]


@family("spherical harmonics, intrinsics_to_projection")
def render_helpers(case: GoldenCase) -> dict[str, Tensor]:
    """Harmonics of degrees 0 to 3, colour coefficients, a projection matrix."""
    directions = torch.nn.functional.normalize(torch.from_numpy(make_input("sh/dirs", (40, 3))), dim=-1)
    rgb = torch.from_numpy(make_input("sh/rgb", (10, 3)))
    intrinsics = torch.tensor([[1.3, 0, 0.48], [0, 1.25, 0.53], [0, 0, 1]])
    computed = {
        "proj": intrinsics_to_projection(intrinsics, near=0.8, far=1.6),
        "rgb2sh": rgb_to_sh(rgb),
        "sh2rgb": sh_to_rgb(rgb),
    }
    for degree in range(MAX_DEGREE + 1):
        coefficients = torch.from_numpy(make_input(f"sh/c{degree}", (40, 3, (degree + 1) ** 2)))
        computed[f"sh{degree}"] = evaluate_spherical_harmonics(degree, coefficients, directions)
    return computed


def _stored_gaussian(config: dict[str, Any], tensors: dict[str, Tensor], item: int) -> Gaussian:
    """The Gaussians of one batch item from the decoder's stored output: 32 (config) per voxel."""
    count, rates = config["num_gaussians"], config["lr"]
    raw = tensors["raw"][tensors["coords"][:, 0] == item]
    _, colour, scaling, rotation, opacity = raw.split([count * width for width in (3, 3, 3, 4, 1)], dim=1)
    return Gaussian(
        GaussianConfig(
            minimum_kernel_size=config["3d_filter_kernel_size"],
            scaling_bias=config["scaling_bias"],
            opacity_bias=config["opacity_bias"],
            scaling_activation=config["scaling_activation"],
        ),
        tensors[f"{item}.hidden_xyz"],
        colour.reshape(-1, 1, 3) * rates["_features_dc"],
        scaling.reshape(-1, 3) * rates["_scaling"],
        rotation.reshape(-1, 4) * rates["_rotation"],
        opacity.reshape(-1, 1) * rates["_opacity"],
    )


def _same_sign(quaternions: Tensor, expected: Tensor) -> Tensor:
    """Quaternions with the signs of the expected ones: q and -q are one rotation."""
    return torch.where((quaternions * expected).sum(dim=1, keepdim=True) < 0, -quaternions, quaternions)


@family("Gaussian.save_ply")
def gaussian_ply(case: GoldenCase) -> dict[str, Tensor]:
    """Files of decoded Gaussians, with the default transform and without one; the header is exact."""
    item, source, count = _PLY_SOURCE.search(case.meta["inputs"]).groups()
    gaussian = _stored_gaussian(case.config["representation_config"], case.tensors_of(source), int(item))
    computed = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in (("default", {}), ("notransform", {"transform": None})):
            path = Path(folder) / f"{name}.ply"
            gaussian.save_ply(path, **options)
            assert path.read_bytes().startswith(case.meta["header"].encode()), "the PLY header differs"
            vertices = read_ply_vertices(path)[: int(count)]
            table = torch.tensor(vertices.tolist())
            table[:, 13:] = _same_sign(table[:, 13:], case.tensors[name][:, 13:])
            computed[name] = table
    return computed
