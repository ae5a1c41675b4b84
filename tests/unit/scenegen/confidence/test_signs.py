"""Signs of objects that are right, turned, moved or of another shape, in scenes put together by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scenegen.confidence.signs import StructureCandidate, camera_signs, object_signs
from scenegen.geometry import place_yup, world_pose
from scenegen.photo.camera import PhotoCamera, rotation_of

SIZE = 16


def _camera() -> PhotoCamera:
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(0.4, 0.3)
    extrinsics[:3, 3] = [-0.3, 0.0, 3.0]
    return PhotoCamera(extrinsics, 1.2, 0.75, modal_overlap=0.9)


def _poses() -> torch.Tensor:
    return torch.stack(
        [
            world_pose(torch.zeros(3), torch.tensor(0.0), torch.tensor(1.0)),
            world_pose(torch.tensor([1.0, 0.0, 0.2]), torch.tensor(0.7), torch.tensor(0.6)),
        ]
    )


def _cloud() -> np.ndarray:
    """An object that looks different after a half turn: a low box with a high back."""
    rng = np.random.default_rng(0)
    seat = rng.uniform([-0.3, -0.5, -0.5], [0.3, -0.2, 0.5], (4000, 3))
    back = rng.uniform([-0.3, -0.5, -0.5], [0.3, 0.5, -0.4], (4000, 3))
    return np.concatenate([seat, back])


def _logits() -> torch.Tensor:
    logits = torch.full((SIZE, SIZE, SIZE), -6.0)
    logits[5:11, 2:14, 2:6] = 6.0
    return logits


def _candidate(poses: torch.Tensor | None = None) -> StructureCandidate:
    poses = _poses() if poses is None else poses
    path, told = poses.expand(8, -1, -1), poses.expand(3, -1, -1)
    return StructureCandidate(torch.stack([_logits()] * 2), poses, path, told, [_cloud(), _cloud()])


@pytest.fixture(scope="module")
def masks() -> list[np.ndarray]:
    camera, found = _camera(), []
    for pose in _poses():
        placed = place_yup(torch.from_numpy(_cloud()), pose.double()).numpy()
        cells = camera.silhouette(placed, (48, 64))
        found.append(np.kron(cells, np.ones((4, 4))) > 0)
    return found


def test_an_object_in_its_place_covers_its_mask(masks):
    ((query, target),) = object_signs([_candidate()], [_camera()], masks)
    for signs in (query, target):
        assert signs["overlap"] > 0.8 and signs["outside"] < 0.1 and signs["missed"] < 0.2
        assert signs["turn_told"] == 0 and signs["place_late"] == 0 and signs["half_turn"] < -0.05
    assert "turn_spread" not in query


def test_a_turned_object_shows(masks):
    poses = _poses()
    poses[1] = world_pose(torch.tensor([1.0, 0.0, 0.2]), torch.tensor(0.7 + np.pi), torch.tensor(0.6))
    ((_, target),) = object_signs([_candidate(poses)], [_camera()], masks)
    assert target["half_turn"] > 0.05 and target["overlap"] < 0.8


def test_a_moved_object_shows(masks):
    poses = _poses()
    poses[1, 0] += 0.5
    ((_, target),) = object_signs([_candidate(poses)], [_camera()], masks)
    assert target["overlap"] < 0.5 and target["outside"] > 0.2


def test_a_head_that_wavers_shows(masks):
    candidate = _candidate()
    told = candidate.told.clone()
    told[0, 1] = world_pose(torch.tensor([1.0, 0.0, 0.2]), torch.tensor(0.7 + np.pi), torch.tensor(0.6))
    ((query, target),) = object_signs([replace(candidate, told=told)], [_camera()], masks)
    assert target["turn_told_most"] == pytest.approx(2.0, abs=1e-3) and query["turn_told_most"] == 0


def test_samples_that_disagree_show(masks):
    other = _poses()
    other[1, 0] += 0.3
    samples = [_candidate(), _candidate(), _candidate(other)]
    found = object_signs(samples, [_camera()] * 3, masks)
    assert found[2][1]["place_spread"] == pytest.approx(0.5, abs=0.01)
    assert found[0][1]["place_spread"] < found[2][1]["place_spread"]
    assert found[0][0]["shape_spread"] == 0 and found[0][1]["turn_spread"] == 0


def test_an_object_without_surface_has_signs_too(masks):
    candidate = replace(_candidate(), clouds=[_cloud(), np.zeros((0, 3))])
    ((_, target),) = object_signs([candidate], [_camera()], masks)
    assert (
        target["overlap"] == 0
        and target.keys() == object_signs([_candidate()], [_camera()], masks)[0][1].keys()
    )


def test_camera_signs_are_those_of_the_scene(masks):
    ((query, target),) = object_signs([_candidate()], [_camera()], masks)
    signs = camera_signs([query, target], _camera())
    assert signs["overlap"] == 0.9 and signs["objects"] == 2
    assert signs["least_overlap"] == min(query["overlap"], target["overlap"])
    assert signs["query_overlap"] == query["overlap"]
