"""Standing upright, the floor, and what stands on what."""

import math

import pytest
import torch
import trimesh

from scenegen.refinement.solid import scene_box, solid_of
from scenegen.refinement.support import find_floor, find_rests, put_down, stand_upright
from trellis_modules.quaternions import quaternion_from_axis_angle, quaternion_to_matrix

BOX = solid_of(trimesh.creation.box((1, 1, 1)), 32)
BOARD = solid_of(trimesh.creation.box((1, 0.4, 1)), 32)


def pose(x=0.0, y=0.0, z=0.0, scale=1.0) -> torch.Tensor:
    return torch.tensor([x, y, z, 1, 0, 0, 0, scale])


def leaning(angle_deg: float) -> torch.Tensor:
    lean = quaternion_from_axis_angle(torch.tensor([0.6, 0.0, 0.8]), torch.tensor(math.radians(angle_deg)))
    return torch.cat((torch.tensor([1.0, 2, 3]), 2 * lean, torch.tensor([0.7])))  # any length will do


def test_a_small_lean_is_taken_out():
    upright = stand_upright(leaning(10))
    up = quaternion_to_matrix(upright[3:7])[:, 1]
    torch.testing.assert_close(up, torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(upright[[0, 1, 2, 7]], leaning(10)[[0, 1, 2, 7]])


def test_a_large_lean_is_kept():
    torch.testing.assert_close(stand_upright(leaning(40)), leaning(40))


def test_the_floor_is_where_most_objects_stand_and_the_query_is_exact():
    poses = torch.stack([pose(), pose(3, 0.05), pose(6, -0.04), pose(0, 0.7, scale=0.4)])
    assert find_floor([BOX] * 4, poses, query=0) == pytest.approx(-0.5)


def test_many_small_things_on_a_table_do_not_make_a_floor_of_it():
    poses = torch.stack([pose(), *(pose(0.2 * k, 0.6, scale=0.2) for k in range(4))])
    assert find_floor([BOX] * 5, poses, query=1) == pytest.approx(-0.5)


def test_objects_rest_on_the_floor_or_on_each_other_and_may_hang():
    poses = torch.stack(
        [
            pose(),  # the query, a board from -0.2 to 0.2
            pose(0.1, 0.32, scale=0.3),  # a box that sinks 0.03 into it
            pose(0.1, 0.66, scale=0.3),  # a box 0.04 above that one
            pose(2, 0.33),  # a box 0.03 above the floor
            pose(-2, 1.5, scale=0.3),  # far above everything
        ]
    )
    rests = find_rests([BOARD, BOX, BOX, BOX, BOX], poses, query=0, floor=-0.2)
    assert [rest and rest.carrier for rest in rests] == [None, 0, 1, None, None]
    assert rests[0] is None and rests[4] is None
    assert rests[1].height == pytest.approx(0.2, abs=0.03)
    assert rests[2].height == pytest.approx(0.47, abs=0.03)
    assert rests[3].height == pytest.approx(-0.2)


def test_what_is_below_the_floor_comes_up():
    poses = torch.stack([pose(), pose(2, -0.9)])
    assert find_rests([BOX, BOX], poses, query=0, floor=-0.5)[1].height == pytest.approx(-0.5)


def test_put_down_moves_the_lowest_point_of_each_pose():
    poses = torch.stack([pose(1, 5, 2, 0.5), pose(y=-3, scale=2)])
    placed = put_down(BOX, poses, height=0.25)
    assert [float(scene_box(BOX, each)[0][1]) for each in placed] == pytest.approx([0.25, 0.25])
    torch.testing.assert_close(placed[:, [0, 2, 3, 4, 5, 6, 7]], poses[:, [0, 2, 3, 4, 5, 6, 7]])
