"""What becomes of objects that the structure stage leaves unusable."""

import pytest
import torch

from scenegen.pipelines.drafts import draft_objects, latents_problem, usable
from scenegen.pipelines.sampling import StructureSample

POSE = torch.tensor([1.0, 2, 3, 0, 2, 0, 0, 0.5])


@pytest.fixture
def sample() -> StructureSample:
    return StructureSample(torch.zeros(4, 2, 3, 3, 3), POSE.repeat(4, 1))


@pytest.fixture
def logits() -> torch.Tensor:
    """Four objects with 1, 2, 3 and 4 voxels."""
    logits = torch.full((4, 4, 4, 4), -1.0)
    for index in range(4):
        logits[index, 0, 0, : index + 1] = 1.0
    return logits


def test_good_objects_have_clean_poses_and_no_problem(sample, logits):
    drafts = draft_objects(sample, logits)
    assert usable(drafts) == [0, 1, 2, 3]
    torch.testing.assert_close(drafts[0].pose, torch.tensor([1.0, 2, 3, 0, 1, 0, 0, 0.5]))
    item = drafts[1].finished(7)
    assert (item.object_id, item.problem, item.mesh) == (7, None, None)


def test_each_fault_is_named_and_leaves_the_others(sample, logits):
    sample.latents[0, 0, 0, 0, 0] = torch.inf
    sample.positions[1, 4] = torch.nan
    logits[2] = -1.0
    logits[3, 0, 0, 0] = torch.nan
    drafts = draft_objects(sample, logits)
    problems = [draft.problem for draft in drafts]
    assert problems[0].startswith("structure sampling: its latents are not finite")
    assert problems[1].startswith("structure sampling: its pose is not finite")
    assert problems[2] == "the structure decoder left the grid empty"
    assert problems[3].startswith("structure decoder: its logits are not finite")
    assert usable(drafts) == [] and all(draft.pose.isfinite().all() for draft in drafts)


def test_structures_above_the_limit_are_refused(sample, logits):
    drafts = draft_objects(sample, logits, max_voxels=3)
    assert usable(drafts) == [0, 1, 2]
    assert drafts[3].problem.startswith("structure decoder: expected at most 3 voxels, got 4 of 64")


def test_objects_of_a_model_without_poses_stand_at_the_origin(logits):
    drafts = draft_objects(StructureSample(torch.zeros(4, 1, 1, 1, 1), None), logits)
    assert drafts[0].pose.tolist() == [0, 0, 0, 1, 0, 0, 0, 1]


def test_latents_that_are_not_finite_are_a_problem():
    assert latents_problem(torch.zeros(3, 8)) is None and latents_problem(torch.zeros(0, 8)) is None
    assert "not finite" in latents_problem(torch.tensor([[1.0, torch.nan]]))
