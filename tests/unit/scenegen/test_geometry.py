"""Placement of objects: frames, rotations, the algebra of poses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scenegen import geometry as g
from trellis_modules.quaternions import (
    canonical_quaternion,
    normalize_quaternion,
    quaternion_from_axis_angle,
    quaternion_multiply,
    quaternion_to_matrix,
)


def _poses(seed: int, count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    poses = torch.randn(count, 8, generator=generator, dtype=torch.float64)
    poses[:, 7] = 0.2 + torch.rand(count, generator=generator, dtype=torch.float64)
    return poses


def _points(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _apply(transform: Tensor, points: Tensor) -> Tensor:
    return points @ transform[..., :3, :3].mT + transform[..., None, :3, 3]


def _assert_same_pose(actual: Tensor, expected: Tensor) -> None:
    points = _points(0, 4)
    torch.testing.assert_close(g.place(points, actual), g.place(points, expected), rtol=1e-9, atol=1e-9)


def test_up_axis_goes_from_z_to_y_and_front_to_plus_z() -> None:
    up, front = torch.tensor([0.0, 0, 1]), torch.tensor([0.0, -1, 0])
    assert g.zup_to_yup(up).tolist() == [0, 1, 0]
    assert g.zup_to_yup(front).tolist() == [0, 0, 1]
    points = _points(1, 5)
    assert torch.equal(g.yup_to_zup(g.zup_to_yup(points)), points)


def test_quaternion_sign_and_length_do_not_matter() -> None:
    poses, points = _poses(3), _points(3, 6, 9)
    other = poses.clone()
    other[:, g.ROTATION] *= -2.5
    torch.testing.assert_close(g.place(points, other), g.place(points, poses))
    assert (canonical_quaternion(other[:, g.ROTATION])[:, 0] >= 0).all()


def test_zero_quaternion_is_the_identity_with_finite_gradient() -> None:
    pose = g.identity_pose(1)[0]
    pose[g.ROTATION] = 0
    pose.requires_grad_()
    points = _points(1, 4).float()
    placed = g.place_yup(points, pose)
    torch.testing.assert_close(placed, points)
    placed.square().sum().backward()
    assert torch.isfinite(pose.grad).all()


@pytest.mark.parametrize("seed", range(5))
def test_place_and_transform_agree(seed: int) -> None:
    poses, points = _poses(seed), _points(seed, 6, 9)
    expected = _apply(g.pose_to_transform(poses), g.zup_to_yup(points))
    torch.testing.assert_close(g.place(points, poses), expected)
    points_yup = g.zup_to_yup(points)
    torch.testing.assert_close(g.transform_points(points_yup, g.pose_to_transform(poses)[:, None]), expected)


@pytest.mark.parametrize("seed", range(5))
def test_compose_and_invert(seed: int) -> None:
    outer, inner, points = _poses(seed), _poses(seed + 50), _points(seed, 6, 9)
    expected = g.place_yup(g.place_yup(points, inner), outer)
    torch.testing.assert_close(g.place_yup(points, g.compose_poses(outer, inner)), expected)
    identity = g.identity_pose(6, dtype=torch.float64)
    _assert_same_pose(g.compose_poses(g.invert_pose(outer), outer), identity)
    _assert_same_pose(g.compose_poses(outer, g.invert_pose(outer)), identity)


@pytest.mark.parametrize("count, query", [(1, 0), (2, 1), (12, 7)])
def test_query_poses_reproduce_the_world(count: int, query: int) -> None:
    world = _poses(count, count)
    relative = g.world_poses_to_query_poses(world, query)
    assert torch.equal(relative[query], g.identity_pose(1, dtype=torch.float64)[0])
    _assert_same_pose(g.compose_poses(world[query].expand(count, 8), relative), world)


def test_query_poses_follow_the_annotation_formula() -> None:
    world = _poses(8, 3)
    rotation = quaternion_to_matrix(world[:, g.ROTATION])
    relative = g.world_poses_to_query_poses(world)
    offset = (world[1, g.TRANSLATION] - world[0, g.TRANSLATION]) / world[0, 7]
    torch.testing.assert_close(relative[1, g.TRANSLATION], rotation[0].mT @ offset)
    torch.testing.assert_close(quaternion_to_matrix(relative[1, g.ROTATION]), rotation[0].mT @ rotation[1])
    torch.testing.assert_close(relative[1, 7], world[1, 7] / world[0, 7])


def test_world_pose_turns_the_front_towards_plus_x() -> None:
    pose = g.world_pose(torch.tensor([1.0, 2, 3]), torch.tensor(math.pi / 2), torch.tensor(4.0))
    placed = g.place_yup(torch.tensor([[0.0, 0, 0.5]]), pose)
    torch.testing.assert_close(placed, torch.tensor([[3.0, 2, 3]]))


def test_average_of_opposite_signs_keeps_the_rotation() -> None:
    pose = g.sanitize_pose(_poses(4, 1))
    flipped = pose.clone()
    flipped[:, g.ROTATION] *= -1
    _assert_same_pose(g.average_poses(torch.stack((pose, flipped, flipped))), pose)


def test_average_lies_halfway() -> None:
    turns = torch.tensor([0.2, 0.6], dtype=torch.float64)
    poses = g.world_pose(torch.tensor([[0.0, 0, 0], [2, 4, 6]], dtype=torch.float64), turns, turns)
    expected = g.world_pose(torch.tensor([1.0, 2, 3], dtype=torch.float64), turns.mean(), turns.mean())
    torch.testing.assert_close(g.average_poses(poses), expected)


def test_sanitize_clamps_scale_and_unit_length() -> None:
    poses = torch.tensor([[1.0, 2, 3, -2, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, -1]])
    clean = g.sanitize_pose(poses)
    assert clean[:, g.ROTATION].tolist() == [[1, 0, 0, 0]] * 2
    assert (clean[:, 7] == g.MIN_SCALE).all() and torch.isfinite(g.invert_pose(clean)).all()
    assert poses[0, 7] == 0, "the input must not change"


@pytest.mark.parametrize("angle", [0.0, 1e-4, 1.0, 179.9, 180.0])
def test_rotation_angle(angle: float) -> None:
    axis = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)
    start = normalize_quaternion(_poses(2, 1)[0, g.ROTATION])
    turn = quaternion_from_axis_angle(axis, torch.tensor(math.radians(angle), dtype=torch.float64))
    measured = g.rotation_angle_deg(start, -quaternion_multiply(start, turn))
    assert float(measured) == pytest.approx(angle, abs=1e-9)


def test_wrong_pose_size_is_named() -> None:
    with pytest.raises(ValueError, match=r"place_yup: expected poses \(\.\.\., 8\).*\(2, 7\)"):
        g.place_yup(torch.zeros(2, 1, 3), torch.zeros(2, 7))


def test_placement_is_differentiable() -> None:
    pose = _poses(6, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: g.place(_points(2, 2, 3), p), (pose,))
    assert torch.autograd.gradcheck(lambda p: g.relative_pose(p, p.flip(0)), (pose,))
