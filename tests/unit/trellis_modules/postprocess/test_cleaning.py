"""Cleaning keeps closed surfaces closed and takes away what is inside."""

import logging

import numpy as np
import pytest
import torch
import trimesh

from trellis_modules.postprocess import CleaningConfig, clean_mesh, report_solid

CPU = torch.device("cpu")


def dented_sphere(subdivisions):
    """A closed surface with deep dents, which few views see into."""
    sphere = trimesh.creation.icosphere(subdivisions, radius=1.0)
    x, y, z = sphere.vertices.T
    radius = 0.35 + 0.12 * np.sin(6 * x) * np.sin(6 * y + 1) * np.sin(6 * z + 2)
    return (sphere.vertices * radius[:, None]).astype(np.float32), sphere.faces


@pytest.mark.parametrize(("simplify", "edges"), [(0.0, 250), (0.95, 55), (0.99, 25)])
def test_longest_hole_that_is_closed(simplify, edges):
    assert CleaningConfig(simplify).max_hole_edges == edges


@pytest.mark.parametrize("simplify", [0.0, 0.9])
def test_fine_closed_surface_keeps_its_faces(simplify):
    vertices, faces = dented_sphere(6)  # 81,920 faces, smaller than the pixels of the views
    cleaned = trimesh.Trimesh(*clean_mesh(vertices, faces, CleaningConfig(simplify), CPU), process=False)
    assert cleaned.is_watertight
    assert len(cleaned.faces) == pytest.approx((1 - simplify) * len(faces), rel=0.01)
    assert cleaned.volume == pytest.approx(trimesh.Trimesh(vertices, faces).volume, rel=0.01)


@pytest.mark.parametrize("fill_holes", [False, True])
def test_number_of_faces_is_reached_after_the_rest(fill_holes):
    outer, inner = trimesh.creation.icosphere(subdivisions=4), trimesh.creation.icosphere(subdivisions=4)
    outer.vertices *= 0.45
    inner.vertices *= 0.3  # hidden: its faces are not those that are counted
    both = trimesh.util.concatenate([outer, inner])
    config = CleaningConfig(simplify=0.0, fill_holes=fill_holes, num_faces=700)
    _, faces = clean_mesh(both.vertices, both.faces, config, torch.device("cpu"))
    assert abs(len(faces) - 700) <= 14


def test_debris_inside_goes():
    vertices, faces = dented_sphere(4)
    inside = trimesh.creation.box(extents=[0.1, 0.1, 0.1])
    both = np.concatenate([vertices, inside.vertices]), np.concatenate([faces, inside.faces + len(vertices)])
    cleaned, _ = clean_mesh(*both, CleaningConfig(0.0), CPU)
    assert len(cleaned) == len(vertices)
    kept, _ = clean_mesh(*both, CleaningConfig(0.0, fill_holes=False), CPU)
    assert len(kept) == len(vertices) + len(inside.vertices)


@pytest.mark.parametrize("simplify", [0.0, 0.9])
def test_solids_are_manifold_without_crumbs(simplify):
    vertices, faces = dented_sphere(5)
    crumb = trimesh.creation.box(extents=[0.01] * 3)
    crumb.apply_translation([0, 0, 0.48])
    both = np.concatenate([vertices, crumb.vertices]), np.concatenate([faces, crumb.faces + len(vertices)])
    solid = clean_mesh(*both, CleaningConfig(simplify, solid=True), CPU)
    report = report_solid(*solid)
    assert report.watertight and report.faces == pytest.approx((1 - simplify) * len(faces), rel=0.01)
    assert report.volume == pytest.approx(trimesh.Trimesh(vertices, faces).volume, rel=0.01)


def test_mesh_that_would_vanish_stays(caplog):
    triangle = np.eye(3, dtype=np.float32) * 0.4, np.array([[0, 1, 2]])
    with caplog.at_level(logging.WARNING):
        _, faces = clean_mesh(*triangle, CleaningConfig(0.95, fill_holes=False), CPU)
    assert len(faces) == 1 and "simplification would leave nothing" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"simplify": 1.0}, r"simplify.*in \[0, 1\), got 1.0"),
        ({"simplify": -0.1}, r"got -0.1"),
        ({"fill_holes_max_size": float("nan")}, "fill_holes_max_size >= 0, got nan"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        CleaningConfig(**change)
