"""The structure stage with a real scene flow model at toy size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scenegen.conditioning.scene_conditioner import SceneCond
from scenegen.geometry import ROTATION, identity_pose
from scenegen.models.scene_flow import SceneFlowModel, SceneFlowModelConfig
from scenegen.pipelines.sampling import (
    HeldAssets,
    InGroups,
    WithoutSceneAttention,
    noise_generator,
    occupied_coords,
    sample_structure,
    structure_noise,
    told_poses,
)
from trellis_modules.flow_output import FlowOutput
from trellis_modules.samplers import FlowEulerSampler, MultiViewCond, SamplingParams

CHANNELS, RESOLUTION, WIDTH, OBJECT_TOKENS, LENGTH = 2, 4, 8, 3, 11
PARAMS = SamplingParams(steps=3, cfg_strength=2.0, cfg_interval=(0.5, 1.0))


@pytest.fixture(scope="module")
def model() -> SceneFlowModel:
    torch.manual_seed(0)
    config = SceneFlowModelConfig(
        resolution=RESOLUTION, in_channels=CHANNELS, out_channels=CHANNELS, model_channels=24,
        cond_channels=WIDTH, num_blocks=2, num_heads=2, patch_size=2, trunk_depth=1, qk_rms_norm=True,
    )  # fmt: skip
    model = SceneFlowModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def _cond(num_assets: int, seed: int = 0) -> Tensor:
    return torch.randn(num_assets, LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed))


def _scene(num_assets: int) -> SceneCond:
    cond = _cond(num_assets)
    return SceneCond(cond, torch.zeros_like(cond), OBJECT_TOKENS)


def _noise(num_assets: int, seed: int = 42) -> Tensor:
    return structure_noise(num_assets, CHANNELS, RESOLUTION, noise_generator(seed))


def test_noise_follows_the_published_seed_rule() -> None:
    torch.manual_seed(42)
    expected = torch.randn(3, CHANNELS, RESOLUTION, RESOLUTION, RESOLUTION), torch.randn(5, 8)
    generator = noise_generator(42)
    assert torch.equal(structure_noise(3, CHANNELS, RESOLUTION, generator), expected[0])
    assert torch.equal(torch.randn(5, 8, generator=generator), expected[1])


@pytest.mark.parametrize("num_assets", [1, 2, 12])
def test_shapes_and_identity_of_the_query(model: SceneFlowModel, num_assets: int) -> None:
    sample = sample_structure(model, FlowEulerSampler(), _scene(num_assets), _noise(num_assets), PARAMS)
    assert sample.latents.shape == (num_assets, CHANNELS, RESOLUTION, RESOLUTION, RESOLUTION)
    assert sample.positions.shape == (num_assets, 8)
    assert torch.equal(sample.positions[:1], identity_pose(1))
    assert torch.isfinite(sample.latents).all() and not sample.latents.requires_grad


def test_same_seed_same_scene(model: SceneFlowModel) -> None:
    first, again, other = (
        sample_structure(model, FlowEulerSampler(), _scene(2), _noise(2, seed), PARAMS).latents
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.allclose(first, other)


def test_precomputed_contexts_change_no_numbers(model: SceneFlowModel) -> None:
    scene, noise = _scene(2), _noise(2)
    fast = sample_structure(model, FlowEulerSampler(), scene, noise, PARAMS)
    plain = sample_structure(model, FlowEulerSampler(), scene, noise, PARAMS, precompute=False)
    torch.testing.assert_close(fast.latents, plain.latents, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fast.positions, plain.positions, rtol=1e-4, atol=1e-4)


def test_without_scene_attention_an_asset_does_not_depend_on_the_others(model: SceneFlowModel) -> None:
    scene, noise = _scene(3), _noise(3)
    kept = SceneCond(scene.cond[:2], scene.neg_cond[:2], OBJECT_TOKENS)
    alone = WithoutSceneAttention(model)
    three = sample_structure(alone, FlowEulerSampler(), scene, noise, PARAMS)
    two = sample_structure(alone, FlowEulerSampler(), kept, noise[:2], PARAMS)
    torch.testing.assert_close(three.latents[:2], two.latents)
    torch.testing.assert_close(three.positions[:2], two.positions)
    assert torch.equal(three.positions[:1], identity_pose(1))
    together = sample_structure(model, FlowEulerSampler(), scene, noise, PARAMS)
    assert not torch.allclose(together.latents[:2], three.latents[:2])


def test_groups_change_scenes_of_more_assets_alone(model: SceneFlowModel) -> None:
    scene, noise = _scene(4), _noise(4)
    whole = sample_structure(model, FlowEulerSampler(), scene, noise, PARAMS)
    for group_size, equal in ((5, True), (4, True), (2, False)):
        grouped = sample_structure(InGroups(model, group_size), FlowEulerSampler(), scene, noise, PARAMS)
        assert torch.equal(grouped.latents, whole.latents) is equal
        assert torch.equal(grouped.positions, whole.positions) is equal


def test_neg_cond_that_is_not_empty_is_used_in_full(model: SceneFlowModel) -> None:
    scene, noise = SceneCond(_cond(2), _cond(2, seed=9), OBJECT_TOKENS), _noise(2)
    fast = sample_structure(model, FlowEulerSampler(), scene, noise, PARAMS)
    plain = sample_structure(model, FlowEulerSampler(), scene, noise, PARAMS, precompute=False)
    torch.testing.assert_close(fast.latents, plain.latents, rtol=1e-4, atol=1e-4)


def test_two_equal_views_are_one_view(model: SceneFlowModel) -> None:
    scene = _scene(2)
    views = SceneCond(MultiViewCond((scene.cond, scene.cond)), scene.neg_cond, OBJECT_TOKENS)
    one = sample_structure(model, FlowEulerSampler(), scene, _noise(2), PARAMS)
    two = sample_structure(model, FlowEulerSampler(), views, _noise(2), PARAMS)
    torch.testing.assert_close(two.latents, one.latents)


def _flipping_model(x_t: Tensor, t: Tensor, cond: Tensor, num_object_tokens: int) -> FlowOutput:
    """One rotation with a quaternion sign that depends on the view."""
    pose = torch.tensor([0.0, 0, 0, 0.6, 0, 0.8, 0, 1]).expand(len(x_t), 8).clone()
    pose[:, ROTATION] *= torch.sign(cond.mean())
    return FlowOutput(torch.zeros_like(x_t), {"positions": pose})


@pytest.mark.parametrize("positions_type", ["last", "avg"])
def test_opposite_quaternions_of_two_views_do_not_cancel(positions_type: str) -> None:
    ones = torch.ones(2, LENGTH, WIDTH)
    views = SceneCond(MultiViewCond((ones, -ones)), torch.zeros_like(ones), OBJECT_TOKENS)

    sample = sample_structure(
        _flipping_model, FlowEulerSampler(), views, _noise(2), PARAMS, positions_type=positions_type
    )
    rotation = sample.positions[0, ROTATION].abs()
    torch.testing.assert_close(rotation, torch.tensor([0.6, 0, 0.8, 0]))


def test_bad_arguments_are_explained(model: SceneFlowModel) -> None:
    def sample(flow: object = model, noise: Tensor | None = None, **options: str) -> None:
        noise = _noise(2) if noise is None else noise
        sample_structure(flow, FlowEulerSampler(), _scene(2), noise, PARAMS, **options)

    with pytest.raises(ValueError, match="positions_type must be 'last' or 'avg', got 'first'"):
        sample(positions_type="first")
    with pytest.raises(ValueError, match="noise for 2 assets"):
        sample(noise=_noise(3))
    with pytest.raises(ValueError, match="use a flow model with a pose head"):
        sample(flow=lambda x_t, t, cond, num_object_tokens: FlowOutput(x_t))


def test_occupied_coords_are_sorted_and_strict() -> None:
    logits = torch.full((2, 1, 3, 3, 3), -1.0)
    logits[1, 0, 2, 0, 1] = logits[0, 0, 1, 2, 0] = logits[0, 0, 0, 2, 2] = 0.5
    logits[0, 0, 0, 0, 0] = 0.0
    assert occupied_coords(logits).tolist() == [[0, 0, 2, 2], [0, 1, 2, 0], [1, 2, 0, 1]]
    assert occupied_coords(torch.full((2, 1, 3, 3, 3), -1.0)).shape == (0, 4)


@pytest.mark.parametrize("precompute", [True, False])
@pytest.mark.parametrize("wrap", [lambda model: model, WithoutSceneAttention])
def test_several_samples_at_once_are_those_of_one_after_the_other(model, precompute, wrap) -> None:
    scene, noises = _scene(2), [_noise(2, seed) for seed in (1, 2, 3)]
    options = {"precompute": precompute}
    together = sample_structure(wrap(model), FlowEulerSampler(), scene, torch.cat(noises), PARAMS, **options)
    for number, noise in enumerate(noises):
        alone = sample_structure(wrap(model), FlowEulerSampler(), scene, noise, PARAMS, **options)
        part = together.of(slice(2 * number, 2 * number + 2))
        torch.testing.assert_close(part.latents, alone.latents)
        torch.testing.assert_close(part.positions, alone.positions)
        torch.testing.assert_close(part.path, alone.path)
    with pytest.raises(ValueError, match="or a multiple of them"):
        sample_structure(model, FlowEulerSampler(), scene, noises[0][:1], PARAMS)


def test_held_assets_end_where_they_are_known_and_are_seen_by_the_others(model: SceneFlowModel) -> None:
    scene, noise = _scene(3), _noise(3)
    free = sample_structure(model, FlowEulerSampler(), scene, noise, PARAMS)

    def held_at(latents: Tensor) -> Tensor:
        held = HeldAssets(latents, (0, 2))
        return sample_structure(model, FlowEulerSampler(), scene, noise, PARAMS, held=held).latents

    known = held_at(free.latents + 1)
    torch.testing.assert_close(known[[0, 2]], free.latents[[0, 2]] + 1, rtol=0, atol=1e-3)
    other = held_at(free.latents - 1)
    assert not torch.allclose(known[1], free.latents[1], atol=1e-3)
    assert not torch.allclose(known[1], other[1], atol=1e-3)


def test_a_held_asset_passes_its_own_path_at_every_step(model: SceneFlowModel) -> None:
    noise, latents = _noise(2), torch.ones(2, CHANNELS, RESOLUTION, RESOLUTION, RESOLUTION)
    sampler = FlowEulerSampler()
    constrain = HeldAssets(latents, (1,)).on_path(torch.cat([noise, noise]), sampler.path)
    state = torch.full((4, *noise.shape[1:]), 7.0)
    for t in (1.0, 0.4, 0.0):
        replaced = constrain(state, t)
        assert (replaced[[0, 2]] == 7).all()
        expected = sampler.path.diffuse(latents[1], noise[1], t)
        torch.testing.assert_close(replaced[1], expected)
        torch.testing.assert_close(replaced[3], expected)


def test_the_pose_head_is_asked_about_finished_latents(model: SceneFlowModel) -> None:
    scene, latents = _scene(2), torch.cat([_noise(2, 1), _noise(2, 2)])
    told = told_poses(model, FlowEulerSampler(), scene, latents, (0.1, 0.3), noise_generator(0))
    assert told.shape == (2, 4, 8) and not torch.allclose(told[0], told[1])
    assert torch.equal(told[:, [0, 2]], identity_pose(1).expand(2, 2, 8))
    again = told_poses(model, FlowEulerSampler(), scene, latents[:2], (0.1,), noise_generator(0))
    assert again.shape == (1, 2, 8)
