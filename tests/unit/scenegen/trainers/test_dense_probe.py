"""The probe of image tokens: what it measures, and that its steps stay small beside its errors."""

import math

import pytest
import torch

from scenegen.trainers.dense_probe import DenseProbe
from scenegen.trainers.image_encoder import ImageEncoderConfig, ImageEncoderObjective
from vggt.layers.vision_transformer import VisionTransformer

GRID, WIDTH = 4, 64


@pytest.fixture
def batch():
    """Two crops in one scene 3.5 m away; the first crop shows its object in half of its patches."""
    torch.manual_seed(0)
    points = torch.rand(2, 4, GRID, GRID) - 0.5
    points[:, 3] = 1.0
    points[0, :, :2] = 0.0
    return {"object_points": points, "depth": torch.full((1, 32, 32), 3.5)}


def tokens(count):
    return torch.nn.functional.layer_norm(torch.randn(count, GRID * GRID, WIDTH), (WIDTH,))


def test_patches_without_the_object_do_not_count(batch):
    probe = DenseProbe(WIDTH)
    torch.nn.init.zeros_(probe.points.weight)
    torch.nn.init.zeros_(probe.points.bias)
    shown = batch["object_points"][:, 3] > 0
    expected = batch["object_points"][:, :3].abs().mean(1)[shown].mean()
    with torch.no_grad():
        errors = probe(tokens(2), tokens(1), batch)
    assert float(errors["points"]) == pytest.approx(float(expected), rel=1e-4)


def test_a_constant_depth_needs_the_bias_alone(batch):
    probe = DenseProbe(WIDTH)
    torch.nn.init.zeros_(probe.depth.weight)
    torch.nn.init.zeros_(probe.depth.bias)
    twice = batch | {"depth": 2 * batch["depth"]}
    with torch.no_grad():
        assert float(probe(tokens(2), tokens(1), batch)["depth"]) == pytest.approx(0.0, abs=1e-5)
        assert float(probe(tokens(2), tokens(1), twice)["depth"]) == pytest.approx(math.log(2), abs=1e-5)


def test_one_step_of_adam_moves_the_outputs_by_less_than_their_error(batch):
    """With a gain of 1 it moves them by several times as much as is left to learn."""
    probe = DenseProbe(WIDTH)
    assets, scenes = tokens(2), tokens(1)
    optimizer = torch.optim.Adam(probe.parameters(), 1e-3)
    before = probe(assets, scenes, batch)
    (before["points"] + before["depth"]).backward()
    optimizer.step()
    after = probe(assets, scenes, batch)
    largest = 1e-3 * (1 + 0.05 * WIDTH * float(assets.abs().max()))
    for name, error in before.items():
        assert abs(float(error - after[name])) <= largest, name


def test_the_image_encoder_learns_where_its_patches_lie(batch):
    torch.manual_seed(0)
    encoder = VisionTransformer(32, 8, WIDTH, 1, 2)
    objective = ImageEncoderObjective(encoder, ImageEncoderConfig())
    batch |= {"asset_image": torch.rand(2, 3, 32, 32), "scene_image": torch.rand(1, 3, 32, 32)}
    parameters = [p for module in objective.modules.values() for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, 3e-3)
    history = []
    for _ in range(80):
        loss, logs = objective.loss(batch, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(logs["points"]))
    assert history[-1] < 0.5 * history[0]
