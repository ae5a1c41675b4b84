"""Structures are closed along holes that the photo contradicts, where a camera explains the masks."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from scenegen.checkpoints.schema import PipelineConfig
from scenegen.geometry import apply_transform, identity_pose, pose_to_transform
from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.pipelines import hole_closing
from scenegen.pipelines.decoding import occupancy_surface
from scenegen.pipelines.drafts import ObjectDraft
from scenegen.pipelines.hole_closing import close_contradicted_holes, close_tears
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.texturing import TextureSettings

BUNDLED = Path(__file__).resolve().parents[4] / "checkpoints" / "scenegen-small"
RESOLUTION, SIZE = 24, 96
CHECK = Mock()
HOLE = (slice(9, 14), slice(0, 24), slice(9, 14))  # right through along y of the object z-up frame
VIEW = PhotoCamera(
    np.block(
        [[rotation_of(0.3, 0.35), np.array([[0.0], [0.0], [5.0]])], [np.zeros((1, 3)), np.ones((1, 1))]]
    ),
    focal=1.35,
    aspect=1.0,
)


def block(depth: int, hole: bool = False) -> torch.Tensor:
    """Logits of a block so many voxels deep."""
    logits = torch.full((RESOLUTION,) * 3, -4.0)
    logits[2:22, 12 - depth // 2 : 12 + depth // 2, 2:22] = 4.0
    if hole:
        logits[HOLE] = -4.0
    return logits


def mask_of(logits: torch.Tensor, pose: torch.Tensor) -> np.ndarray:
    """The box of the block's surface in the photo, filled: (SIZE, SIZE) bool."""
    vertices, faces = occupancy_surface(logits.numpy())
    triangles = apply_transform(pose_to_transform(pose.double()).numpy(), vertices)[faces]
    steps = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]) / [[1], [1], [1], [3]]
    uv, _ = VIEW.project((steps @ triangles).reshape(-1, 3))
    columns, rows = np.floor((uv + 0.5) * SIZE).astype(int).T
    mask = np.zeros((SIZE, SIZE), bool)
    mask[rows, columns] = True
    return mask


@pytest.fixture
def poses() -> torch.Tensor:
    """Two blocks beside each other."""
    poses = identity_pose(2)
    poses[:, 0] = torch.tensor([-0.6, 0.6])
    return poses


def test_contradicted_hole_is_closed_and_other_objects_stay(poses):
    logits = [block(4, hole=True), block(12)]
    masks = [mask_of(block(4), poses[0]), mask_of(block(12), poses[1])]
    drafts = [ObjectDraft(each.clone(), pose) for each, pose in zip(logits, poses, strict=True)]
    check = Mock()
    close_contradicted_holes(drafts, masks, check)
    assert check.call_count == 2  # so that a run stops between objects
    added = (drafts[0].logits > 0) & (logits[0] <= 0)
    assert added[HOLE].any() and not added[2:22, :8].any() and not added[2:22, 16:].any()
    assert torch.equal(drafts[1].logits, logits[1])


def test_tears_are_closed_without_a_photo(poses):
    torn = block(4)
    torn[11, 10:14, 11] = -0.5
    broken = torch.full((4, 4, 4), torch.nan)
    drafts = [ObjectDraft(torn.clone(), poses[0]), ObjectDraft(broken, poses[1], problem="not finite")]
    check = Mock()
    close_tears(drafts, check)
    assert check.call_count == 1  # so that a run stops between objects
    assert (drafts[0].logits[11, 10:14, 11] > 0).any() and drafts[1].logits is broken
    drafts[0].logits[11, 10:14, 11] = torn[11, 10:14, 11]
    assert torch.equal(drafts[0].logits, torn)


def test_opening_of_the_photo_stays(poses):
    logits = [block(4, hole=True), block(12)]
    drafts = [ObjectDraft(each.clone(), pose) for each, pose in zip(logits, poses, strict=True)]
    close_contradicted_holes(drafts, [mask_of(*each) for each in zip(logits, poses, strict=True)], CHECK)
    assert all(torch.equal(draft.logits, each) for draft, each in zip(drafts, logits, strict=True))


@pytest.mark.parametrize("overlap", [0.1, 0.5])
def test_camera_that_does_not_explain_the_masks_closes_nothing(poses, monkeypatch, overlap):
    logits, mask = block(4, hole=True), mask_of(block(4), poses[0])
    monkeypatch.setattr(hole_closing, "fit_photo_camera", lambda *_: replace(VIEW, modal_overlap=overlap))
    draft = ObjectDraft(logits.clone(), poses[0])
    close_contradicted_holes([draft], [mask], CHECK)
    assert torch.equal(draft.logits, logits) == (overlap == 0.1)


def test_objects_that_are_empty_or_have_a_problem_are_left_out(poses):
    empty, broken = torch.full((4, 4, 4), -1.0), torch.full((4, 4, 4), torch.nan)
    drafts = [
        ObjectDraft(empty, poses[0]),
        ObjectDraft(broken, poses[1], problem="its logits are not finite"),
    ]
    close_contradicted_holes(drafts, [np.ones((8, 8), bool)] * 2, CHECK)
    assert drafts[0].logits is empty and drafts[1].logits is broken


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (RunSettings(), True),
        (RunSettings(appearance=False), True),
        (RunSettings(close_holes=False), False),
        (RunSettings(structure=torch.zeros(1, 4, 4, 4)), False),
        (RunSettings(texture=TextureSettings(surface="released")), False),
    ],
)
def test_holes_of_given_structures_and_released_surfaces_stay(settings, expected):
    config = PipelineConfig.load(BUNDLED)
    resolved = settings.resolve(config, config.models)
    assert resolved.close_holes == resolved.record()["close_holes"] == expected
