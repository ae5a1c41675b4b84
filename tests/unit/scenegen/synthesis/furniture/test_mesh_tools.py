"""Surface voxels, hidden faces, symmetry and simplification on shapes whose answers are known."""

import numpy as np
import pytest

from scenegen.synthesis.furniture.procedural.shapes import Assembly, Shape, box, cushion, prism
from scenegen.synthesis.furniture.records import FurnitureMesh, normalise
from scenegen.synthesis.furniture.simplification import simplify
from scenegen.synthesis.furniture.surface import sample_surface, voxel_iou
from scenegen.synthesis.furniture.symmetry import symmetry_order
from scenegen.synthesis.furniture.visibility import remove_hidden_faces, visible_faces
from trellis_modules.representations.voxels import surface_voxels

GREY, RED = (128, 128, 128), (220, 20, 20)


def assembled(*coloured: tuple[Shape, tuple[int, int, int]]) -> FurnitureMesh:
    assembly = Assembly()
    for shape, colour in coloured:
        assembly.add(shape, colour)
    vertices, faces, colours = assembly.joined()
    return FurnitureMesh(normalise(vertices)[0], faces, colours)


def test_surface_voxels_of_a_cube_are_its_shell():
    cube = assembled((box(1, 1, 1), GREY))
    grid = surface_voxels(cube.vertices, cube.faces, 16)
    assert grid[[0, -1]].all() and grid[:, [0, -1]].all() and grid[:, :, [0, -1]].all()
    assert not grid[1:-1, 1:-1, 1:-1].any()


def test_surface_voxels_need_finite_vertices():
    vertices = np.array([[0, 0, 0], [np.nan, 0, 0], [0, 0.1, 0]])
    with pytest.raises(ValueError, match="surface_voxels: 1 of 3 vertices are not finite"):
        surface_voxels(vertices, np.array([[0, 1, 2]]), 8)


def test_surface_voxels_of_a_wide_triangle_have_no_holes():
    vertices = np.array([[-0.5, 0, -0.5], [0.5, 0, -0.5], [-0.5, 0, 0.5]])
    grid = surface_voxels(vertices, np.array([[0, 1, 2]]), 32)
    columns = grid.any(axis=1)
    inside = np.add.outer(np.arange(32), np.arange(32)) < 31
    assert columns[inside].all()
    assert not columns[np.add.outer(np.arange(32), np.arange(32)) > 32].any()


def test_voxel_iou():
    first, second = np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    assert voxel_iou(first, second) == 1
    first[0], second[:, 0] = True, True
    assert voxel_iou(first, second) == pytest.approx(2 / 6)


def test_samples_lie_on_the_surface_in_proportion_to_area():
    mesh = assembled((box(1, 1, 1), GREY))
    points, index = sample_surface(mesh.vertices, mesh.faces, 1200, np.random.default_rng(0))
    np.testing.assert_allclose(np.abs(points).max(axis=1), 0.5, atol=1e-6)
    assert np.abs(np.bincount(index, minlength=12) - 100).max() <= 1


def test_sampling_refuses_a_mesh_without_area():
    with pytest.raises(ValueError, match="expected a mesh with area"):
        sample_surface(np.zeros((3, 3)), np.array([[0, 1, 2]]), 10, np.random.default_rng(0))


def test_a_box_in_a_box_is_hidden():
    mesh = assembled((box(1, 1, 1), GREY), (box(0.5, 0.5, 0.5), RED))
    np.testing.assert_array_equal(visible_faces(mesh), np.arange(24) < 12)
    outer = remove_hidden_faces(mesh)
    assert len(outer.faces) == 12 and len(outer.vertices) == 8
    assert (outer.face_colours == GREY).all()


def test_what_an_opening_shows_stays_and_its_underside_goes():
    walls = [box(0.02, 1, 1).moved(x=x) for x in (-0.5, 0.5)] + [
        box(1, 1, 0.02).moved(z=z) for z in (-0.5, 0.5)
    ]
    tray = [(wall, GREY) for wall in [*walls, box(1, 0.02, 1).moved(y=-0.5)]]
    mesh = assembled(*tray, (box(0.3, 0.3, 0.3), RED))
    is_inner = (mesh.face_colours == RED).all(axis=1)
    corners = mesh.vertices[mesh.faces[is_inner]]
    looks_down = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 1] < -1e-6
    np.testing.assert_array_equal(visible_faces(mesh)[is_inner], ~looks_down)


@pytest.mark.parametrize(
    ("shapes", "order"),
    [
        ([(prism(0.5, 0.3, 1, segments=48), GREY)], 0),
        ([(box(1, 0.6, 1), GREY)], 4),
        ([(box(1, 0.6, 0.5), GREY)], 2),
        ([(box(1, 0.3, 1), GREY), (box(1, 0.7, 0.1).moved(y=0.5, z=-0.45), GREY)], 1),
        ([(box(1, 1, 0.5).moved(z=0.25), GREY), (box(1, 1, 0.5).moved(z=-0.25), RED)], 1),
    ],
    ids=["cone", "square box", "oblong box", "chair", "two colours"],
)
def test_symmetry_order(shapes, order):
    assert symmetry_order(remove_hidden_faces(assembled(*shapes))) == order


def test_simplify_halves_a_smooth_shape_and_keeps_form_and_colours():
    mesh = assembled((cushion(1, 1, 1, 1.0, segments=64), RED))
    reduced = simplify(mesh, max_faces=len(mesh.faces) // 2)
    assert len(reduced.faces) <= len(mesh.faces) * 0.52
    assert (reduced.face_colours == RED).all()
    grids = [surface_voxels(each.vertices, each.faces, 32) for each in (mesh, reduced)]
    assert voxel_iou(*grids) > 0.9


def test_simplify_keeps_the_original_where_the_shape_would_suffer():
    rng = np.random.default_rng(0)
    loose = [(box(0.04, 0.04, 0.04).moved(*rng.uniform(-0.5, 0.5, 3)), GREY) for _ in range(60)]
    mesh = assembled(*loose)
    assert simplify(mesh, max_faces=200) is mesh
