"""Probes of tokens: what they are compared with, and that their steps stay small beside their errors."""

import math

import pytest
import torch

from scenegen.geometry import world_pose
from scenegen.synthesis.sources.batch import PhotoBatch, SceneBatch
from scenegen.trainers.objectives.dense_probe import (
    Probe,
    camera_pose_errors,
    camera_poses,
    depth_error,
    points_error,
)
from scenegen.trainers.objectives.image_encoder import ImageEncoderConfig, ImageEncoderObjective
from vggt.layers.vision_transformer import VisionTransformer

GRID, WIDTH = 4, 64


@pytest.fixture
def batch():
    """Two crops in one scene 3.5 m away; the first crop shows its object in half of its patches."""
    torch.manual_seed(0)
    points = torch.rand(2, 4, GRID, GRID) - 0.5
    points[:, 3] = 1.0
    points[0, :, :2] = 0.0
    picture = PhotoBatch(
        torch.rand(1, 3, 32, 32), torch.full((1, 32, 32), 3.5), torch.eye(4)[None], torch.ones(1)
    )
    crops, poses = torch.rand(2, 2, 3, 32, 32), torch.zeros(1, 2, 8)
    return SceneBatch(picture, *crops, points, poses, poses, torch.ones(1, 2, dtype=torch.bool))


def test_patches_without_the_object_do_not_count(batch):
    shown = batch.object_points[:, 3] > 0
    expected = batch.object_points[:, :3].abs().mean(1)[shown].mean()
    predicted = torch.zeros(2, GRID * GRID, 3)
    assert float(points_error(predicted, batch.object_points)) == pytest.approx(float(expected), rel=1e-4)
    predicted[0, : GRID * GRID // 2] = 100.0
    assert float(points_error(predicted, batch.object_points)) == pytest.approx(float(expected), rel=1e-4)


def test_depth_is_compared_by_its_logarithm(batch):
    nothing = torch.zeros(1, GRID * GRID)
    assert float(depth_error(nothing, batch.picture.depth)) == pytest.approx(0.0, abs=1e-5)
    assert float(depth_error(nothing, 2 * batch.picture.depth)) == pytest.approx(math.log(2), abs=1e-5)


def test_one_step_of_adam_moves_the_outputs_by_less_than_their_error(batch):
    """With a gain of 1 it moves them by several times as much as is left to learn."""
    probe, tokens = Probe(WIDTH, 3), torch.randn(2, GRID * GRID, WIDTH)
    optimizer = torch.optim.Adam(probe.parameters(), 1e-3)
    before = probe(tokens)
    points_error(before, batch.object_points).backward()
    optimizer.step()
    with torch.no_grad():
        moved = float((probe(tokens) - before).abs().max())
    assert 0 < moved <= 1e-3 * (1 + 0.05 * WIDTH * 4)


@pytest.fixture
def seen():
    """One scene seen from 3.5 m: an object at the origin, and a metre beside it one turned by 90 degrees."""
    extrinsics = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))  # y down, z forward
    extrinsics[2, 3] = 3.5
    world = world_pose(
        torch.tensor([[0.0, 0, 0], [1.0, 0, 0]]), torch.tensor([0.0, math.pi / 2]), torch.tensor([1.0, 2.0])
    )
    nothing = torch.empty(1, 3, 0, 0)
    return PhotoBatch(nothing, nothing[:, 0], extrinsics[None], torch.tensor([0.875])), world[None]


def test_camera_poses_say_where_objects_are_in_the_picture_how_far_how_large_and_how_they_stand(seen):
    first, second = camera_poses(*seen)[0]
    torch.testing.assert_close(first[:4], torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(second[:4], torch.tensor([0.5, 0.0, 0.0, math.log(2)]), atol=1e-6, rtol=0)
    axes = first[4:].view(3, 3)
    torch.testing.assert_close(axes, torch.diag(torch.tensor([1.0, -1.0, -1.0])), atol=1e-6, rtol=0)
    # the front of the second object shows to the right of the picture
    torch.testing.assert_close(second[4:].view(3, 3)[:, 2], torch.tensor([1.0, 0, 0]), atol=1e-6, rtol=0)


def test_camera_pose_errors_count_what_they_are_told_to(seen):
    target = camera_poses(*seen)
    predicted = target.clone()
    predicted[0, 0] += 1.0
    predicted[0, 1, 4:] += 0.5
    first, second = torch.tensor([[True, False]]), torch.tensor([[False, True]])
    errors = camera_pose_errors(predicted, target, first)
    assert {name: float(error) for name, error in errors.items()} == pytest.approx(
        {"camera_place": 1.0, "camera_size": 1.0, "camera_axes": 1.0}
    )
    errors = camera_pose_errors(predicted, target, second)
    assert float(errors["camera_place"]) == 0 and float(errors["camera_axes"]) == pytest.approx(0.5)


def test_the_image_encoder_learns_where_its_patches_lie(batch):
    torch.manual_seed(0)
    encoder = VisionTransformer(32, 8, WIDTH, 1, 2)
    objective = ImageEncoderObjective(encoder, ImageEncoderConfig())
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    history = []
    for _ in range(80):
        loss, logs = objective(batch, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(logs["points"]))
    assert history[-1] < 0.5 * history[0]
