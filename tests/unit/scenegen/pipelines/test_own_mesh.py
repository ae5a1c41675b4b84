"""Fitting a mesh of one's own: the turn and the place come from the photo's mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from scenegen.geometry import SCALE, TRANSLATION, place_yup, rotation_angle_deg, world_pose
from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.pipelines.own_mesh import (
    TURNS,
    MaskView,
    best_fit,
    quarter_turned,
    structure_of,
    surface_points,
)


@pytest.fixture(scope="module")
def chair() -> trimesh.Trimesh:
    """Different from every side: a seat, a back and one arm."""
    parts = [trimesh.creation.box(size) for size in ((0.6, 0.1, 0.6), (0.6, 1.0, 0.1), (0.1, 0.5, 0.6))]
    for part, place in zip(parts, ((0, -0.1, 0), (0, 0, -0.25), (0.25, 0, 0)), strict=True):
        part.apply_translation(place)
    return trimesh.util.concatenate(parts)


def _view(points: np.ndarray, pose: torch.Tensor) -> MaskView:
    """The photo of an object that stands at a pose."""
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(0.5, 0.35)
    extrinsics[:3, 3] = [0.1, 0.0, 3.0]
    camera = PhotoCamera(extrinsics, 1.3, 0.75)
    cells = camera.silhouette(place_yup(torch.from_numpy(points), pose.double()).numpy(), (72, 96))
    mask = np.kron(cells, np.ones((4, 4))) > 0
    return MaskView.of(camera, mask, [np.zeros_like(mask)])


def _pose(x: float, yaw: float, size: float) -> torch.Tensor:
    return world_pose(torch.tensor([x, 0.1, 0.0]), torch.tensor(yaw), torch.tensor(size))


@pytest.mark.parametrize("given", range(TURNS))
def test_the_turn_is_found_whichever_way_the_mesh_is_given(chair, given):
    truth = _pose(0.3, 0.8, 0.9)
    view = _view(surface_points(chair), truth)
    clouds = [surface_points(quarter_turned(chair, turn - given)) for turn in range(TURNS)]
    guess = _pose(0.36, 0.85, 0.85)
    turn, pose = best_fit(clouds, [guess] * TURNS, view, lock_pose=False)
    assert turn == given
    assert (pose[TRANSLATION] - truth[TRANSLATION]).norm() < 0.08
    assert float(pose[SCALE] / truth[SCALE]) == pytest.approx(1, abs=0.12)
    assert rotation_angle_deg(pose[3:7], truth[3:7]) < 12


def test_a_locked_pose_and_an_unknown_camera_move_nothing(chair):
    guess = _pose(0.3, 0.8, 0.9)
    cloud = surface_points(chair)
    turn, pose = best_fit(
        [cloud] * TURNS, [guess] * TURNS, _view(cloud, _pose(0.5, 0.8, 0.9)), lock_pose=True
    )
    torch.testing.assert_close(pose, guess)
    assert best_fit([cloud] * TURNS, [guess] * TURNS, None, lock_pose=False)[0] == 0


def test_structures_are_z_up(chair):
    logits = structure_of(chair, 16)
    occupied = torch.argwhere(logits > 0).float() / 15 - 0.5
    assert logits.shape == (16, 16, 16)
    back = occupied[occupied[:, 2] > 0.4]  # the top of the chair is its back, at y-up z = -0.25
    assert len(back) and (back[:, 1] > 0.1).all()
