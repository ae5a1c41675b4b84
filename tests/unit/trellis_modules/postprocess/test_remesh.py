"""Whatever the triangles are like, remeshing gives a watertight solid close to them."""

import numpy as np
import pytest
import trimesh

from trellis_modules.postprocess import remesh_solid, report_solid


def torn_sphere():
    """Half of the faces turned, a small hole at the top."""
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    faces = sphere.faces[sphere.triangles_center[:, 2] < 0.398].copy()
    faces[::2] = faces[::2, ::-1]
    return sphere.vertices, faces


def test_a_torn_sphere_becomes_a_ball():
    vertices, faces = remesh_solid(*torn_sphere(), resolution=48)
    report = report_solid(vertices, faces)
    assert report.watertight and report.volume == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.03)
    assert np.linalg.norm(vertices, axis=1) == pytest.approx(0.4, abs=0.4 / 48)


def test_a_sheet_gets_a_thickness():
    sheet = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
    vertices, faces = remesh_solid(sheet, np.array([[0, 1, 2], [0, 2, 3]]), resolution=40)
    report = report_solid(vertices, faces)
    assert report.watertight and 0.1 / 40 < report.volume < 0.5 / 40
    assert np.ptp(vertices, axis=0) == pytest.approx([1, 1, 0.2 / 40], abs=0.3 / 40)


def test_number_of_faces():
    _, faces = remesh_solid(*torn_sphere(), resolution=48, num_faces=500)
    assert len(faces) == pytest.approx(500, abs=10)


def test_solids_are_returned_as_they_are():
    box = trimesh.creation.box()
    vertices, faces = remesh_solid(box.vertices, box.faces)
    np.testing.assert_array_equal(vertices, box.vertices)
    np.testing.assert_array_equal(faces, box.faces)


def test_nothing_gives_nothing():
    vertices, faces = remesh_solid(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    assert vertices.shape == faces.shape == (0, 3)


def test_resolution_out_of_range_is_refused():
    with pytest.raises(ValueError, match="expected a resolution of at least 2, got 1"):
        remesh_solid(*torn_sphere(), resolution=1)
