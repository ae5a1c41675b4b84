"""Voxel solids: volumes, what counts as inside, and the volume that two objects share."""

import numpy as np
import pytest
import torch
import trimesh

from scenegen.refinement.solid import scene_box, shared_volume, solid_of
from trellis_modules.quaternions import quaternion_from_axis_angle

RESOLUTION = 48


def pose(x=0.0, y=0.0, z=0.0, scale=1.0, yaw=0.0) -> torch.Tensor:
    turn = quaternion_from_axis_angle(torch.tensor([0.0, 1, 0]), torch.tensor(yaw))
    return torch.cat((torch.tensor([x, y, z]), turn, torch.tensor([scale])))


def table() -> trimesh.Trimesh:
    """A top of 1 x 0.1 x 1 on four legs; y up."""
    top = trimesh.creation.box((1, 0.1, 1))
    top.apply_translation((0, 0.25, 0))
    legs = []
    for x in (-0.45, 0.45):
        for z in (-0.45, 0.45):
            leg = trimesh.creation.box((0.1, 0.6, 0.1))
            leg.apply_translation((x, -0.05, z))
            legs.append(leg)
    return trimesh.util.concatenate([top, *legs])


def test_volume_of_a_box_is_right_without_bias():
    solid = solid_of(trimesh.creation.box((1, 0.5, 0.52)), RESOLUTION)
    assert solid.volume == pytest.approx(0.26, rel=0.05)


def test_open_underside_and_a_crack_count_as_closed():
    box = trimesh.creation.box((1, 0.5, 0.5))
    open_below = box.copy()
    open_below.update_faces(open_below.face_normals[:, 1] > -0.5)
    assert solid_of(open_below, RESOLUTION).volume > 0.9 * solid_of(box, RESOLUTION).volume


def test_space_below_a_table_is_empty():
    solid = solid_of(table(), RESOLUTION)
    points = torch.tensor([[0.0, 0.25, 0.0], [0.0, 0.0, 0.0], [0.45, 0.0, 0.45], [0.0, 0.45, 0.0]])
    np.testing.assert_allclose(solid.fill_at(points), [1, 0, 1, 0], atol=0.55)
    assert solid.fill_at(points)[1] == 0 == solid.fill_at(points)[3]


def test_fill_is_read_along_the_right_axes():
    corner = trimesh.creation.box((0.2, 0.3, 0.4))
    corner.apply_translation((0.4, 0.35, 0.3))
    solid = solid_of(corner, RESOLUTION)
    assert solid.fill_at(torch.tensor([0.4, 0.35, 0.3])) == 1
    assert solid.fill_at(torch.tensor([[0.2, 0.35, 0.4], [-0.4, -0.35, -0.3], [0.4, 0.1, 0.3]])).max() == 0


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_shared_volume_of_two_cubes(scale):
    cube = solid_of(trimesh.creation.box((1, 1, 1)), RESOLUTION)
    other = pose(x=0.5 + scale / 2 - 0.2, scale=scale)  # 0.2 deep
    expected = 0.2 * min(scale, 1) ** 2
    assert shared_volume(cube, pose(), cube, other) == pytest.approx(expected, rel=0.1)
    assert shared_volume(cube, other, cube, pose()) == pytest.approx(expected, rel=0.1)


def test_chair_under_a_table_shares_nothing_though_their_boxes_do():
    cube, under = solid_of(trimesh.creation.box((1, 1, 1)), RESOLUTION), pose(y=-0.1, scale=0.4)
    assert shared_volume(solid_of(table(), RESOLUTION), pose(), cube, under) == 0


def test_touching_shares_almost_nothing():
    cube = solid_of(trimesh.creation.box((1, 1, 1)), RESOLUTION)
    assert shared_volume(cube, pose(), cube, pose(y=1.0)) < 0.01


def test_box_of_a_turned_object():
    plank = solid_of(trimesh.creation.box((1, 0.2, 0.1)), RESOLUTION)
    low, high = scene_box(plank, pose(x=1.0, scale=2.0, yaw=np.pi / 2))
    np.testing.assert_allclose(low, [0.9, -0.2, -1.0], atol=1e-5)
    np.testing.assert_allclose(high, [1.1, 0.2, 1.0], atol=1e-5)


def test_flat_and_tiny_meshes_have_solids():
    square = trimesh.Trimesh([[0, 0, 0], [0.5, 0, 0], [0, 0, 0.5]], [[0, 1, 2]], process=False)
    assert solid_of(square, RESOLUTION).volume > 0
    flat = trimesh.creation.box((1, 0, 1))
    assert len(solid_of(flat, RESOLUTION).corners) >= 4
