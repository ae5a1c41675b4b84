"""Convex parts and mass of objects, where the answer is known."""

import numpy as np
import pytest
import trimesh

from scenegen.physics import colliders, packages
from scenegen.physics.colliders import (
    MAX_PART_VERTICES,
    MAX_PARTS,
    NoVolume,
    collider_of,
)
from tests.furniture_shapes import table

pytest.importorskip("manifold3d")


def test_a_box_has_its_mass_and_one_part():
    mesh = trimesh.creation.box((1.0, 0.5, 0.25))
    mesh.apply_translation((0.1, 0.2, 0.3))
    found = collider_of(mesh)
    assert found.volume == pytest.approx(0.125)
    np.testing.assert_allclose(found.centre, (0.1, 0.2, 0.3), atol=1e-6)
    sides = np.array([1.0, 0.5, 0.25])
    expected = 0.125 / 12 * (np.square(sides).sum() - np.square(sides))
    np.testing.assert_allclose(found.inertia, np.diag(expected), atol=1e-7)
    np.testing.assert_allclose(np.concatenate(found.parts).min(axis=0), mesh.bounds[0], atol=1e-6)


def test_each_leg_of_a_table_has_a_pad_below():
    found = collider_of(table())
    lowest = min(part[:, 1].min() for part in found.parts)
    pads = [part for part in found.parts if part[:, 1].min() < lowest + 1e-6 and np.ptp(part[:, 1]) < 0.03]
    middles = {tuple(np.sign(part.mean(axis=0)[[0, 2]])) for part in pads}
    assert middles == {(-1, -1), (-1, 1), (1, -1), (1, 1)}
    assert len(found.parts) <= MAX_PARTS and max(map(len, found.parts)) <= MAX_PART_VERTICES


def test_the_pad_of_an_open_vase_is_as_flat_and_wide_as_its_bottom(monkeypatch):
    monkeypatch.setattr(colliders, "_OPEN_RESOLUTION", 40)  # quick, and the solid is the more uneven
    mesh = trimesh.creation.revolve([[0, 0], [0.06, 0], [0.08, 0.05], [0.12, 1.0], [0, 1.0]], sections=80)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, (1, 0, 0)))
    mesh = trimesh.Trimesh(mesh.vertices, mesh.faces[:-1], process=False)
    assert not mesh.is_watertight
    corners = np.concatenate(collider_of(mesh).parts)
    low = corners[corners[:, 1] < corners[:, 1].min() + 1e-9][:, [0, 2]]
    assert corners[:, 1].min() == pytest.approx(mesh.bounds[0][1], abs=1e-9)
    rim = [(low @ (np.cos(angle), np.sin(angle))).max() for angle in np.linspace(0, 2 * np.pi, 12)]
    assert min(rim) > 0.97 * 0.06 and max(rim) < 1.1 * 0.06


def test_the_space_below_a_table_stays_free():
    below = np.array([[0.0, -0.1, 0.0]])
    for part in collider_of(table()).parts:
        hull = trimesh.convex.convex_hull(part)
        assert not hull.contains(below).any()


def test_sizes_do_not_change_the_parts():
    small, large = collider_of(table()), collider_of(table().apply_scale(10.0))
    assert len(small.parts) == len(large.parts)
    assert large.volume == pytest.approx(1000 * small.volume, rel=1e-4)
    np.testing.assert_allclose(large.inertia, 1e5 * small.inertia, rtol=1e-3, atol=1e-3)


def test_an_open_mesh_counts_as_the_solid_that_its_shell_encloses():
    mesh = trimesh.creation.box((1.0, 0.5, 0.25)).subdivide().subdivide().subdivide()
    mesh.update_faces(np.arange(len(mesh.faces)) > 0)
    assert not mesh.is_watertight
    assert collider_of(mesh).volume == pytest.approx(0.125, rel=0.1)


@pytest.mark.parametrize("vertices", [np.zeros((0, 3)), np.zeros((3, 3))])
def test_a_mesh_without_volume_is_named(vertices):
    mesh = trimesh.Trimesh(vertices, np.arange(len(vertices)).reshape(-1, 3), process=False)
    with pytest.raises(NoVolume, match="obj_7: expected a mesh that encloses a volume"):
        collider_of(mesh, "obj_7")


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(packages.PhysicsUnavailable, match="bash setup.sh --sim"):
        collider_of(table())
