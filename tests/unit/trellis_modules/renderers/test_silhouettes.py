"""Pictures that change smoothly as silhouettes move."""

import math

import pytest
import torch
import trimesh

from trellis_modules.renderers import render_mesh
from trellis_modules.renderers.cameras import fov_intrinsics, orbit_extrinsics

SIZE = 48
DISTANCE, FOV = 2.0, math.radians(40)


def picture(vertices, faces, silhouettes=True, yaw=0.0):
    extrinsics = orbit_extrinsics(torch.tensor([yaw]), torch.zeros(1), DISTANCE).to(vertices)
    intrinsics = torch.as_tensor(fov_intrinsics(FOV)).to(vertices)
    return render_mesh(
        vertices, faces, extrinsics, intrinsics, SIZE, silhouettes=silhouettes, backend="torch"
    )


def sphere():
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.4)
    return torch.tensor(mesh.vertices, dtype=torch.float64), torch.tensor(mesh.faces)


def test_covered_area_grows_with_a_sphere_as_geometry_says():
    vertices, faces = sphere()
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    area = picture(vertices * scale, faces).alpha.sum()
    (slope,) = torch.autograd.grad(area, scale)
    # the silhouette of a sphere of radius r at distance d: a circle of radius focal * tan(asin(r / d))
    focal = SIZE * 0.5 / math.tan(FOV / 2)
    square = 0.16
    expected_area = math.pi * focal**2 * square / (DISTANCE**2 - square)
    expected_slope = 2 * math.pi * focal**2 * square * DISTANCE**2 / (DISTANCE**2 - square) ** 2
    assert area.item() == pytest.approx(expected_area, rel=0.02)
    assert slope.item() == pytest.approx(expected_slope, rel=0.1)


def test_without_them_the_covered_area_has_no_gradient():
    vertices, faces = sphere()
    alpha = picture(vertices.requires_grad_(), faces, silhouettes=False).alpha
    assert not alpha.requires_grad or torch.autograd.grad(alpha.sum(), vertices)[0].abs().max() == 0


def test_area_is_continuous_where_an_edge_passes_pixel_centres():
    vertices, faces = sphere()
    sizes = torch.linspace(1.0, 1.05, 21, dtype=torch.float64)
    jumps = {}
    for silhouettes in (False, True):
        areas = torch.stack([picture(vertices * s, faces, silhouettes).alpha.sum() for s in sizes])
        steps = areas.diff()
        jumps[silhouettes] = (steps - steps.mean()).abs().max().item()
    assert jumps[True] < 0.25 * jumps[False]


def test_fitting_a_mask_moves_a_sphere_to_its_place():
    vertices, faces = sphere()
    target = picture(vertices + torch.tensor([0.0, 0.08, -0.05], dtype=torch.float64), faces).alpha.detach()
    shift = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([shift], lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        (picture(vertices + shift, faces).alpha - target).abs().mean().backward()
        optimizer.step()
    assert shift.detach()[1:] == pytest.approx([0.08, -0.05], abs=0.012)


def test_edges_inside_a_surface_change_nothing():
    vertices, faces = sphere()
    plain, smooth = (picture(vertices, faces, flag) for flag in (False, True))
    inside = torch.nn.functional.max_pool2d((1 - plain.alpha)[:, None], 5, 1, 2)[:, 0] == 0
    assert inside.any()
    assert torch.equal(plain.depth[inside], smooth.depth[inside])


def test_faces_behind_the_eye_give_finite_pictures():
    vertices, faces = sphere()
    around = (vertices * 8).requires_grad_()
    result = picture(around, faces)
    result.alpha.sum().backward()
    assert torch.isfinite(result.alpha).all()
    assert torch.isfinite(around.grad).all()
