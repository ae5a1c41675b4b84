"""The geometry encoder's objective: no loss for a perfect encoder, gradients for a real one."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from scenegen.synthesis.sources.batch import PhotoBatch, ScenePairBatch
from scenegen.trainers.objectives.geometry_encoder import GeometryEncoderConfig, GeometryEncoderObjective
from vggt.models.vggt import VGGT

SIZE, FOCAL = 28, 0.8
FOV = 2 * math.atan(0.5 / FOCAL)


@pytest.fixture
def batch():
    """Two scenes at a mean depth of 2 metres; the second camera is a quarter turn and 3 metres away."""
    first = torch.eye(4).repeat(2, 1, 1)
    first[:, :3, 3] = torch.tensor([[1.0, 0.5, 2.0], [0.0, -1.0, 4.0]])
    motion = torch.eye(4)
    motion[:3] = torch.tensor([[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 3]])
    depth = torch.full((2, SIZE, SIZE), 2.0)
    depth[:, 0] = torch.inf  # nothing there
    picture = PhotoBatch(torch.rand(2, 3, SIZE, SIZE), depth, first, torch.full((2,), FOCAL))
    return ScenePairBatch(picture, replace(picture, depth=3 * depth, extrinsics=motion @ first))


class PerfectVggt(nn.Module):
    """Knows the scenes of the fixture above, in units of the first view's mean depth."""

    def aggregator(self, images):
        assert images.shape[0] == 2 and images.shape[2:] == (3, SIZE, SIZE)
        return [images], 5

    def depth_head(self, tokens, size, first_patch, frames_chunk_size):
        frames = tokens[-1].shape[1]
        depth = torch.tensor([1.0, 3.0])[:frames].view(1, -1, 1, 1, 1).expand(2, -1, SIZE // 2, SIZE // 2, 1)
        return depth, None

    def camera_head(self, tokens):
        half = math.sqrt(0.5)
        cameras = torch.tensor([[0, 0, 0, 0, 0, 0, 1, FOV, FOV], [0, 0, 1.5, 0, half, 0, half, FOV, FOV]])
        return [cameras[: tokens.shape[1]].expand(2, -1, 9)] * 2


def loss(vggt, batch, frames):
    """Loss and logs of a step with ``frames`` views."""
    objective = GeometryEncoderObjective(vggt, GeometryEncoderConfig())
    return objective(batch, torch.Generator().manual_seed(0), frames)


def test_about_every_second_batch_has_two_views():
    objective = GeometryEncoderObjective(PerfectVggt(), GeometryEncoderConfig())
    decisions = [objective.decide(torch.Generator().manual_seed(seed)) for seed in range(40)]
    assert set(decisions) == {(1,), (2,)} and 10 < decisions.count((2,)) < 30


@pytest.mark.parametrize("frames", [1, 2])
def test_true_depths_and_cameras_have_no_loss(batch, frames):
    value, logs = loss(PerfectVggt(), batch, frames)
    assert float(value) == pytest.approx(0, abs=1e-5)
    assert logs.keys() == {"depth", "edges", "camera", "fov_error_deg"}


def test_wrong_depths_and_fields_of_view_are_measured(batch):
    batch.first.depth[:, :, : SIZE // 2] = 6.0  # the mean is now 4: ratios 1.5 and 0.5 where 1 is predicted
    batch.first.focal[:] = 0.5
    _, logs = loss(PerfectVggt(), batch, frames=1)
    expected = (math.log(1.5) + math.log(2)) / 2
    assert float(logs["depth"]) == pytest.approx(expected, rel=1e-4)
    step = math.log(3) / (SIZE // 2 - 1)  # one column of differences along x, none along y
    assert float(logs["edges"]) == pytest.approx(step, rel=1e-4)
    assert float(logs["fov_error_deg"]) == pytest.approx(90 - math.degrees(FOV), rel=1e-4)


def test_gradients_reach_the_aggregator_and_both_heads(batch):
    torch.manual_seed(0)
    vggt = VGGT(
        SIZE, 14, 32,
        aggregator={"depth": 2, "num_heads": 2, "patch_embed": "conv"},
        camera_head={"trunk_depth": 1, "num_heads": 2},
        depth_head={"features": 16, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1],
                    "down_ratio": 2},
        point_head=None, track_head=None,
    )  # fmt: skip
    value, _ = loss(vggt, batch, frames=2)
    value.backward()
    for part in (vggt.aggregator, vggt.camera_head, vggt.depth_head):
        gradients = [p.grad for p in part.parameters() if p.grad is not None]
        assert any(gradient.any() for gradient in gradients)
        assert all(gradient.isfinite().all() for gradient in gradients)
