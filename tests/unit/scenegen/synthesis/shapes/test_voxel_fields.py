"""Fields at surface voxels: against analytic distances, and what happens at their limits."""

import pytest
import torch
import trimesh

from scenegen.geometry import yup_to_zup
from scenegen.synthesis.shapes.shape_bank import ShapeBank, Triangles
from scenegen.synthesis.shapes.voxel_fields import MAX_DISTANCE, FieldGrid, closest_points, voxel_fields

GRID = FieldGrid(resolution=16, subdivision=2, anchors=4, samples=20000)
CPU = torch.device("cpu")


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.fixture
def bank(make_pack):
    """A coarse sphere of radius 0.4 and a box."""
    meshes = [trimesh.creation.icosphere(2, 0.4), trimesh.creation.box((1, 0.5, 0.7))]
    return ShapeBank(make_pack(meshes), CPU)


@pytest.fixture
def fields(bank):
    return voxel_fields(bank.gather(torch.tensor([0, 1])), 2, GRID, seed())


def corner_places(fields) -> torch.Tensor:
    """(T, C, 3) in the object z-up frame."""
    corners = fields.coords[:, None, 1:] * GRID.subdivision + GRID.corner_steps(CPU)
    return corners / GRID.cells - 0.5


def test_distances_and_normals_are_those_of_the_mesh(bank, fields):
    rows = (fields.coords[:, 0] == 0).nonzero()[::10, 0]
    places = corner_places(fields)[rows].flatten(0, 1)
    triangles = yup_to_zup(bank.gather(torch.tensor([0])).corners)
    pairs = (len(places), len(triangles))
    every = places[:, None].expand(*pairs, 3).flatten(0, 1), triangles.expand(*pairs, 3, 3).flatten(0, 1)
    closest = closest_points(*every).unflatten(0, pairs)
    distance = (closest - places[:, None]).norm(dim=-1).amin(1) * GRID.cells
    found = fields.distance[rows].flatten()
    near = distance < 1  # up to here the nearest triangle is always among those looked at
    assert near.float().mean() > 0.4 and found.max() <= MAX_DISTANCE
    torch.testing.assert_close(found[near], distance[near], rtol=0, atol=0.02)
    assert (found - distance)[distance < 1.7].quantile(0.95) < 0.02
    radius = places.norm(dim=-1, keepdim=True)
    outward = torch.where(radius > 0.4, 1.0, -1.0) * places / radius
    agreement = (fields.normal[rows].flatten(0, 1) * outward).sum(-1)
    assert agreement[near & (distance > 0.3)].min() > 0.9


def test_painted_fields_have_the_colours_of_the_triangles(bank, fields):
    painted = fields.painted(bank.gather(torch.tensor([0, 1])).colours)
    assert painted.coords is fields.coords and painted.distance is fields.distance
    for model in (0, 1):
        own = fields.coords[:, 0] == model
        near = own[:, None] & (fields.distance < MAX_DISTANCE)
        expected = torch.tensor([model, 2 * model, 3 * model]) / 255
        torch.testing.assert_close(painted.colour[near], expected.expand(int(near.sum()), 3))
        of_anchors = painted.anchor_colour[own].flatten(0, 1)
        torch.testing.assert_close(of_anchors, expected.expand(len(of_anchors), 3))
    assert (painted.colour[fields.face < 0] == 0.5).all()


def test_anchor_points_lie_on_the_surface_in_or_near_their_voxel(fields):
    sphere = fields.coords[:, 0] == 0
    places = (fields.coords[sphere, None, 1:] + 0.5 + fields.anchor_offset[sphere]) / GRID.resolution - 0.5
    assert (places.norm(dim=-1) - 0.4).abs().max() * GRID.cells < 0.3  # facets lie a little inside the sphere
    assert fields.anchor_offset.abs().max() < 1.5
    assert len(places.flatten(0, 1).unique(dim=0)) > 0.9 * places.shape[0] * GRID.anchors


def test_voxels_come_sorted_and_hold_surface(fields):
    keys = (fields.coords.long() * torch.tensor([16**3, 256, 16, 1])).sum(1)
    assert (keys.diff() > 0).all() and fields.coords.dtype == torch.int32
    assert fields.distance.amin(1).max() < 1


def test_closest_points_of_triangles_and_of_lines():
    generator = seed()
    triangles = torch.rand(50, 3, 3, generator=generator)
    triangles[-5:, 2] = triangles[-5:, 1]  # no area
    points = torch.rand(50, 3, generator=generator) * 2 - 0.5
    found = closest_points(points, triangles)
    weights = torch.rand(50, 20000, 3, generator=generator).pow(4)
    samples = (weights / weights.sum(-1, keepdim=True)) @ triangles
    best = (samples - points[:, None]).norm(dim=-1).amin(1)
    distance = (found - points).norm(dim=-1)
    assert (distance <= best + 1e-5).all() and (best - distance).max() < 0.05
    expected = trimesh.triangles.closest_point(triangles[:-5].numpy(), points[:-5].numpy())
    torch.testing.assert_close(found[:-5], torch.from_numpy(expected).float(), rtol=0, atol=1e-4)


def test_extra_and_missing_voxels(bank):
    triangles = bank.gather(torch.tensor([0]))

    def voxels(**shares):
        coords = voxel_fields(triangles, 1, GRID, seed(), **shares).coords
        return {tuple(row) for row in coords.tolist()}

    exact = voxels()
    fewer, more = voxels(missing_voxels=0.3), voxels(extra_voxels=0.3)
    assert fewer < exact < more
    assert 0.6 < len(fewer) / len(exact) < 0.8
    far = voxel_fields(triangles, 1, GRID, seed(), extra_voxels=1.0)
    assert (far.distance.amin(1) > 0.75).any()  # voxels that must stay empty


def test_an_object_without_area_has_no_voxels():
    corners = torch.zeros(2, 3, 3)
    corners[1] = torch.tensor([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.5, 0]])
    triangles = Triangles(corners, torch.tensor([0, 1]), torch.full((2, 3), 0.25))
    fields = voxel_fields(triangles, 2, GRID, seed())
    assert set(fields.coords[:, 0].tolist()) == {1}
    flat = corner_places(fields)[fields.distance < 0.01]
    assert flat[:, 1].abs().max() < 1e-3  # y-up z = 0 is z-up y = 0
    assert yup_to_zup(corners[1])[:, 1].abs().max() == 0
