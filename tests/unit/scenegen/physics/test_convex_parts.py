"""Solids cut into convex parts, where the answer is known."""

import numpy as np
import pytest
import trimesh

from tests.furniture_shapes import shell, table

manifold3d = pytest.importorskip("manifold3d")

from scenegen.physics.convex_parts import convex_parts, few_corners, hull_of, joined_parts  # noqa: E402


def solid_of(mesh: trimesh.Trimesh):
    return manifold3d.Manifold(
        manifold3d.Mesh64(np.asarray(mesh.vertices, float), np.asarray(mesh.faces, np.uint64))
    )


def hull_volumes(parts) -> list[float]:
    return [hull_of(part).volume() for part in parts]


def test_a_convex_solid_is_one_part():
    (part,) = convex_parts(solid_of(trimesh.creation.icosphere(2, 0.5)), 24, 64)
    assert len(part) <= 64


def test_a_table_is_its_top_and_its_legs():
    solid = solid_of(table())
    parts = convex_parts(solid, 24, 64)
    assert sum(hull_volumes(parts)) == pytest.approx(solid.volume(), rel=0.1)
    assert 5 <= len(parts) <= 24
    few = convex_parts(solid, 5, 64)
    assert len(few) == 5 and sum(hull_volumes(few)) == pytest.approx(solid.volume(), rel=0.25)


def test_a_box_without_a_front_stays_hollow():
    solid = solid_of(shell(0.6, 1.0, 0.6, 0.03))
    parts = convex_parts(solid, 24, 64)
    assert sum(hull_volumes(parts)) < 1.3 * solid.volume()
    inside = trimesh.creation.box((0.4, 0.8, 0.4)).vertices
    assert max((hull_of(part) ^ hull_of(inside)).volume() for part in parts) < 0.01


def test_pieces_far_apart_stay_apart_though_they_are_many():
    balls = [trimesh.creation.icosphere(1, 0.05) for _ in range(6)]
    for ball, x in zip(balls, np.linspace(-0.45, 0.45, 6)):
        ball.apply_translation((x, 0, 0))
    assert len(convex_parts(solid_of(trimesh.util.concatenate(balls)), 3, 64)) == 6


def test_an_uneven_solid_is_cut_within_the_limits():
    ball = trimesh.creation.icosphere(4, 0.4)
    ball.vertices *= 1 + 0.2 * np.random.default_rng(0).standard_normal((len(ball.vertices), 1)).clip(-1, 1)
    parts = convex_parts(solid_of(ball), 24, 64)
    assert len(parts) <= 24 and max(map(len, parts)) <= 64
    corners = np.concatenate(parts)
    np.testing.assert_allclose([corners.min(0), corners.max(0)], ball.bounds, atol=0.02)


def test_parts_are_joined_where_that_adds_the_least_space():
    cube = trimesh.creation.box((0.1, 0.1, 0.1)).vertices
    row = [cube + [0.1 * place, 0.0, 0.0] for place in range(4)]
    above, far = cube + [0.05, 0.1, 0.0], cube + [0.0, 0.8, 0.0]
    left = joined_parts([hull_of(points) for points in (*row, above, far)], 3)
    assert [round(part.volume(), 6) for part in left] == [0.004, 0.001, 0.001]
    assert len(joined_parts([hull_of(cube), hull_of(far)], 1)) == 2  # too far apart to be one


def test_corners_become_few():
    rng = np.random.default_rng(0)
    ball = hull_of(trimesh.creation.icosphere(3, 0.1).vertices + rng.uniform(0, 0.002, 3))
    found = few_corners(ball, 64)
    assert len(found) <= 64 and hull_of(found).volume() == pytest.approx(ball.volume(), rel=0.2)
