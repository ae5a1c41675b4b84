"""Sampling of structured latents with a real flow at toy size."""

from __future__ import annotations

import pytest
import torch

from scenegen.checkpoints.schema import SlatNormalization
from scenegen.conditioning.scene_conditioner import SceneCond
from scenegen.pipelines.appearance import (
    denormalize,
    latent_noise,
    object_cond,
    sample_structured_latents,
    select_objects,
)
from trellis_modules.models import SLatFlowModel, build_model
from trellis_modules.samplers import FlowEulerSampler, MultiViewCond, SamplingParams
from trellis_modules.sparse import SparseTensor

WIDTH, TOKENS, CHANNELS = 24, 3, 2
PARAMS = SamplingParams(steps=3, cfg_strength=2.0, cfg_interval=(0.5, 1.0))
PLAIN = SlatNormalization((0.0, 0.0), (1.0, 1.0))


@pytest.fixture(scope="module")
def model() -> SLatFlowModel:
    torch.manual_seed(0)
    args = {
        "resolution": 8, "in_channels": CHANNELS, "out_channels": CHANNELS, "model_channels": WIDTH,
        "cond_channels": WIDTH, "num_blocks": 1, "num_heads": 2, "patch_size": 2, "io_block_channels": [8],
    }  # fmt: skip
    model = build_model({"name": "SLatFlowModel", "args": args}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def objects() -> SceneCond:
    cond = torch.randn(3, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    return SceneCond(cond, torch.zeros_like(cond), TOKENS)


@pytest.fixture
def noise() -> SparseTensor:
    """Three objects of 2, 3 and 1 voxels."""
    rows = [(0, 1, 2, 3), (0, 1, 2, 4), (1, 0, 0, 0), (1, 5, 5, 5), (1, 7, 7, 7), (2, 3, 3, 3)]
    return latent_noise(torch.tensor(rows), 3, CHANNELS, torch.Generator().manual_seed(0), "cpu")


def _sample(model, objects, noise, normalization=PLAIN, **options) -> SparseTensor:
    return sample_structured_latents(
        model, FlowEulerSampler(), objects, noise, PARAMS, normalization, **options
    )


@pytest.mark.parametrize("max_voxels", [1, 3, 5])
def test_groups_of_objects_give_the_same_latents(model, objects, noise, max_voxels):
    whole = _sample(model, objects, noise)
    steps = []
    parts = _sample(
        model, objects, noise, max_voxels=max_voxels, on_step=lambda done, total: steps.append((done, total))
    )
    torch.testing.assert_close(parts.feats, whole.feats, rtol=1e-4, atol=1e-4)
    assert torch.equal(parts.coords, whole.coords)
    assert [done for done, _ in steps] == list(range(steps[0][1] + 1))


def test_an_object_depends_on_its_own_condition_only(model, objects, noise):
    changed = SceneCond(objects.cond.clone(), objects.neg_cond, TOKENS)
    changed.cond[1] += 1.0
    before, after = _sample(model, objects, noise), _sample(model, changed, noise)
    torch.testing.assert_close(after[[0, 2]].feats, before[[0, 2]].feats)
    assert not torch.allclose(after[[1]].feats, before[[1]].feats)


def test_two_equal_views_are_one_view(model, objects, noise):
    views = SceneCond(MultiViewCond((objects.cond, objects.cond)), objects.neg_cond, TOKENS)
    torch.testing.assert_close(_sample(model, views, noise).feats, _sample(model, objects, noise).feats)


def test_normalisation_is_undone(model, objects, noise):
    normalization = SlatNormalization((1.0, -2.0), (0.5, 3.0))
    expected = _sample(model, objects, noise).feats * torch.tensor([0.5, 3.0]) + torch.tensor([1.0, -2.0])
    torch.testing.assert_close(_sample(model, objects, noise, normalization).feats, expected)
    with pytest.raises(ValueError, match="expected 2 means like the channels of the flow, got 1"):
        denormalize(noise, SlatNormalization((0.0,), (1.0,)))


def test_condition_of_the_objects_keeps_nothing_of_the_scene(objects):
    whole = torch.cat([objects.cond, torch.ones(3, 50, WIDTH)], dim=1)
    for cond in (whole, MultiViewCond((whole, whole))):
        own = object_cond(SceneCond(cond, torch.zeros_like(whole), TOKENS))
        kept = own.cond.views[1] if isinstance(cond, MultiViewCond) else own.cond
        assert torch.equal(kept, objects.cond)
        assert kept.untyped_storage().nbytes() == objects.cond.untyped_storage().nbytes()
    chosen = select_objects(own, [2, 0])
    assert torch.equal(chosen.cond.views[0], objects.cond[[2, 0]]) and chosen.num_assets == 2


def test_condition_of_the_objects_does_not_say_where_they_lie(objects):
    placed = torch.cat([objects.cond, torch.ones(3, TOKENS, 5)], dim=2)
    own = object_cond(SceneCond(placed, torch.zeros_like(placed), TOKENS, place_channels=5))
    assert torch.equal(own.cond, objects.cond) and own.neg_cond.shape == objects.neg_cond.shape
    assert own.place_channels == 0


def test_noise_for_another_number_of_objects_is_refused(model, objects, noise):
    with pytest.raises(ValueError, match="expected noise for 3 objects, got 2"):
        _sample(model, objects, noise[:2])
