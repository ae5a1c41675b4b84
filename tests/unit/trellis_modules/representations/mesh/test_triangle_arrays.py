"""Areas and welding of small meshes whose answers are known."""

import numpy as np
import pytest
import trimesh

from trellis_modules.representations.mesh.triangle_arrays import (
    drop_unreferenced,
    row_groups,
    triangle_areas,
    unique_rows,
    weld,
)

SOUP = trimesh.creation.box(extents=(2.0, 1.0, 0.5)).triangles.reshape(-1, 3)  # each corner on its own
FACES = np.arange(36).reshape(-1, 3)


def test_areas_of_a_box():
    areas = triangle_areas(SOUP.astype(np.float32), FACES)
    assert areas.dtype == np.float64 and areas.sum() == pytest.approx(2 * (2 * 1 + 2 * 0.5 + 1 * 0.5))


def test_weld_joins_equal_places_and_drops_collapsed_faces():
    stray = np.concatenate([SOUP, SOUP[:1], SOUP[:1], [[9, 9, 9]]])
    vertices, faces, kept = weld(stray, np.concatenate([[[36, 37, 1]], FACES]))
    assert len(vertices) == 8
    np.testing.assert_array_equal(kept, np.arange(1, 13))
    np.testing.assert_array_equal(vertices[faces], SOUP[FACES])
    assert trimesh.Trimesh(vertices, faces, process=False).is_watertight


def test_weld_takes_zeros_of_both_signs_for_one_place():
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    assert len(weld(corners, np.arange(6).reshape(2, 3))[0]) == 4


def test_weld_joins_near_places_within_its_tolerance_only():
    moved = SOUP + np.random.default_rng(0).uniform(-1e-7, 1e-7, SOUP.shape)
    assert len(weld(moved, FACES)[0]) == 36
    vertices, faces, kept = weld(moved, FACES, tolerance=1e-3)
    assert len(vertices) == 8 and len(kept) == 12
    np.testing.assert_allclose(vertices[faces], SOUP[FACES], atol=2e-7)


def test_weld_of_no_face_is_empty():
    vertices, faces, kept = weld(SOUP, FACES[:0])
    assert vertices.shape == (0, 3) and faces.shape == (0, 3) and kept.shape == (0,)


def test_drop_unreferenced_keeps_the_order():
    vertices, faces = drop_unreferenced(np.arange(15.0).reshape(5, 3), np.array([[4, 1, 2]]))
    np.testing.assert_array_equal(vertices[:, 0], [3, 6, 12])
    np.testing.assert_array_equal(faces, [[2, 0, 1]])


def test_different_rows_and_which_of_them_each_row_is():
    rows = np.random.default_rng(0).integers(-1, 2, size=(50, 3))
    different, groups = np.unique(rows, axis=0, return_inverse=True)
    np.testing.assert_array_equal(unique_rows(rows), different)
    np.testing.assert_array_equal(row_groups(rows), groups.ravel())
    assert len(row_groups(rows[:0])) == 0
