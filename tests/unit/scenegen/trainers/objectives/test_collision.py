"""Collisions of objects: the released number on counted scenes, and the overlap that has gradients."""

import pytest
import torch

from scenegen.geometry import identity_pose
from scenegen.trainers.objectives.collision import collision_ratio, soft_overlap, solid_occupancy

EDGE = 8


def box(low, high, count=1):
    """Logits (count, 8, 8, 8) of solid boxes from voxel ``low`` to below ``high`` along every axis."""
    logits = torch.full((count, EDGE, EDGE, EDGE), -20.0)
    logits[:, low:high, low:high, low:high] = 20.0
    return logits


def poses_at(*along_x):
    poses = identity_pose(len(along_x))
    poses[:, 0] = torch.tensor(along_x)
    return poses


def test_the_released_number_leaves_the_query_out():
    full = box(0, EDGE, 3) > 0
    assert collision_ratio(full, poses_at(0.0, 2.0, 4.0), 64) == 0
    assert collision_ratio(full, poses_at(0.0, 0.0, 4.0), 64) == 0, "only the query is inside of another"
    assert collision_ratio(full, poses_at(0.0, 2.0, 2.0), 64) == 1


def test_the_released_number_is_the_share_of_the_cells_that_are_touched():
    """Two cubes, one of them moved by half its side, in cells as large as voxels."""
    full = box(0, EDGE, 3) > 0
    ratio = collision_ratio(full, poses_at(0.0, 1.0, 1.5), 2 * EDGE + EDGE // 2)
    assert float(ratio) == pytest.approx(1 / 3, abs=0.1)


@pytest.mark.parametrize("objects", [0, 1, 2, 3])
def test_empty_objects_touch_nothing(objects):
    occupied = box(0, 0, 3) > 0
    occupied[:objects] = True
    assert collision_ratio(occupied, identity_pose(3), 16) == (1 if objects == 3 else 0)
    overlap = soft_overlap(torch.where(occupied, 20.0, -20.0), identity_pose(3), 4)
    assert overlap.isfinite() and float(overlap) == pytest.approx(
        {2: 1.0, 3: 3.0}.get(objects, 0.0), abs=0.01
    )


def test_the_overlap_is_the_shared_volume_over_that_of_the_union():
    full = box(0, EDGE, 2)
    assert float(soft_overlap(full, poses_at(0.0, 5.0), EDGE)) == pytest.approx(0, abs=1e-6)
    assert float(soft_overlap(full, poses_at(0.0, 0.5), EDGE)) == pytest.approx(0.5 / 1.5, rel=0.05)
    half = poses_at(0.0, 0.0)
    half[1, 7] = 0.5
    assert float(soft_overlap(full, half, EDGE)) == pytest.approx(0.125, rel=0.15)


def test_the_overlap_pushes_objects_apart_and_counts_the_query():
    poses = poses_at(0.0, 0.3)
    poses.requires_grad_()
    logits = box(1, 7, 2).requires_grad_()
    before = soft_overlap(logits, poses, EDGE)
    before.backward()
    assert poses.grad.isfinite().all() and poses.grad[1, 0] < 0, "a step against it moves the object away"
    assert not poses.grad[0].any(), "the query is the frame"
    assert logits.grad.isfinite().all()
    moved = soft_overlap(logits, poses.detach() - 0.1 * poses.grad, EDGE)
    assert moved < before


def test_the_overlap_falls_to_nothing_when_it_is_minimised():
    torch.manual_seed(0)
    logits = box(1, 7, 3)
    poses = torch.nn.Parameter(poses_at(0.0, 0.2, -0.3) + 0.01 * torch.randn(3, 8))
    optimizer = torch.optim.Adam([poses], 0.03)
    first = float(soft_overlap(logits, poses, EDGE).detach())
    for _ in range(60):
        optimizer.zero_grad()
        loss = soft_overlap(logits, poses, EDGE)
        loss.backward()
        optimizer.step()
    assert first > 0.3 and float(loss.detach()) < 0.02 * first


def test_surfaces_are_filled_but_not_the_space_below_a_table():
    shell = torch.zeros(2, EDGE, EDGE, EDGE)
    shell[0, 1:7, 1:7, 1:7] = 1
    shell[0, 2:6, 2:6, 2:6] = 0  # hollow
    shell[1, 1:7, 1:7, 6] = 1  # a board
    shell[1, [1, 1, 6, 6], [1, 6, 1, 6], 1:7] = 1  # on four legs
    solid = solid_occupancy(shell)
    assert int(solid[0].sum()) == 6**3
    assert torch.equal(solid[1], shell[1])


def test_a_resolution_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match="overlap_resolution: expected a divisor of 8, got 3"):
        soft_overlap(box(0, EDGE, 2), identity_pose(2), 3)
