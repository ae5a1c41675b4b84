"""The scene flow transformer: grouping, roles, context, precision, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scenegen.models import IDENTITY_POSES, SceneFlowModel, SceneFlowModelConfig
from tests.parity.fill_weights import fill_module

SIZES = {
    "resolution": 4,
    "in_channels": 2,
    "out_channels": 3,
    "model_channels": 16,
    "cond_channels": 12,
    "num_blocks": 2,
    "num_heads": 2,
    "patch_size": 2,
    "qk_rms_norm": True,
    "trunk_depth": 1,
    "num_register_tokens": 2,
    "num_iteration": 2,
}
OBJECT_TOKENS = 4
IDENTITY = torch.tensor(IDENTITY_POSES["absT_quatR_S"])


def make(**changes: Any) -> SceneFlowModel:
    return fill_module(SceneFlowModel(SceneFlowModelConfig(**{**SIZES, **changes}))).eval()


def inputs(batch: int, cond_length: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(batch, 2, 4, 4, 4, generator=generator),
        torch.rand(batch, generator=generator) * 1000,
        torch.randn(batch, cond_length, 12, generator=generator),
    )


def run(model: SceneFlowModel, *arguments: Any, **options: Any) -> dict[str, Tensor]:
    output = model(*arguments, **{"num_object_tokens": OBJECT_TOKENS, **options})
    return {"velocity": output.velocity, **output.extras}


@pytest.mark.parametrize("scene_size", [None, 1, 2])
def test_poses_can_be_made_of_their_tokens_later(scene_size: int | None) -> None:
    model, (x, t, cond) = make(), inputs(4)
    whole = run(model, x, t, cond, scene_size=scene_size)
    parts = run(model, x, t, cond, scene_size=scene_size, regress_poses=False)
    assert "positions" not in parts and torch.equal(parts["velocity"], whole["velocity"])
    assert torch.equal(model.poses(parts["position_tokens"], scene_size=scene_size), whole["positions"])


def test_numbers_without_gradients_are_those_with_gradients() -> None:
    model, (x, t, cond) = make(), inputs(3)
    with torch.no_grad():
        fast, empty = run(model, x, t, cond), run(model, x, t, cond[:, :1] * 0, num_object_tokens=1)
    torch.testing.assert_close(fast, run(model, x, t, cond))
    torch.testing.assert_close(empty, run(model, x, t, cond[:, :1] * 0, num_object_tokens=1))


@pytest.mark.parametrize("num_assets", [1, 2, 12])
def test_number_of_assets_is_free(num_assets: int) -> None:
    output = run(make(), *inputs(num_assets))
    assert output["velocity"].shape == (num_assets, 3, 4, 4, 4)
    assert output["positions"].shape == (num_assets, 8)
    assert torch.equal(output["positions"][0], IDENTITY)
    assert not (output["positions"][1:] == IDENTITY).all(1).any()


def test_assets_of_a_scene_see_each_other_and_no_other_scene() -> None:
    model = make()
    x, t, cond = inputs(4)
    moved = x.clone()
    moved[3] += 1
    before, after = (run(model, state, t, cond, scene_size=2)["velocity"] for state in (x, moved))
    torch.testing.assert_close(after[:2], before[:2])
    assert (after[2] - before[2]).abs().max() > 1e-4


@pytest.mark.parametrize("scene_size", [1, 2, 3])
def test_batched_scenes_equal_scenes_one_by_one(scene_size: int) -> None:
    model = make(qk_rms_norm_cross=True, share_mod=True)
    x, t, cond = inputs(6)
    together = run(model, x, t, cond, scene_size=scene_size)
    for first in range(0, 6, scene_size):
        rows = slice(first, first + scene_size)
        alone = run(model, x[rows], t[rows], cond[rows])
        torch.testing.assert_close({key: value[rows] for key, value in together.items()}, alone)


def test_roles_are_free_when_assets_are_alone() -> None:
    model = make()
    x, t, cond = inputs(3)
    is_query = torch.tensor([False, True, False])
    output = run(model, x, t, cond, scene_size=1, is_query=is_query)
    assert torch.equal((output["positions"] == IDENTITY).all(1), is_query)
    # A query alone is a scene of one; a target alone is another input.
    alone = run(model, x, t, cond, scene_size=1)
    torch.testing.assert_close(output["velocity"][1], alone["velocity"][1])
    assert (output["velocity"][0] - alone["velocity"][0]).abs().max() > 1e-4


def test_query_need_not_come_first() -> None:
    model = make()
    x, t, cond = inputs(3)
    order = torch.tensor([1, 2, 0])
    first = run(model, x, t, cond)
    reordered = run(model, x[order], t[order], cond[order], is_query=torch.tensor([False, False, True]))
    torch.testing.assert_close(reordered, {key: value[order] for key, value in first.items()})


def test_training_mode_predicts_the_query_pose_too() -> None:
    model = make()
    arguments = inputs(2)
    evaluated, trained = run(model, *arguments), run(model.train(), *arguments)
    assert not torch.equal(trained["positions"][0], IDENTITY)
    torch.testing.assert_close(trained["positions"][1], evaluated["positions"][1])


@pytest.mark.parametrize("share_mod", [False, True])
@pytest.mark.parametrize("cond_length, num_object_tokens", [(7, 4), (30, 11), (5, 5)])
def test_prepared_context_gives_the_same_numbers(
    share_mod: bool,
    cond_length: int,
    num_object_tokens: int,
) -> None:
    model = make(share_mod=share_mod)
    x, t, cond = inputs(4, cond_length)
    prepared = model.precompute_context(cond, num_object_tokens)
    direct = model(x, t, cond, num_object_tokens=num_object_tokens, scene_size=2)
    cached = model(x, t, prepared, scene_size=2)
    assert torch.equal(cached.velocity, direct.velocity)
    assert torch.equal(cached.extras["positions"], direct.extras["positions"])


@pytest.mark.parametrize("share_mod", [False, True])
def test_prepared_times_stand_for_equal_times_of_all_assets(share_mod: bool) -> None:
    model = make(share_mod=share_mod)
    x, times, cond = inputs(4)
    for t, prepared in zip(times, model.precompute_times(times), strict=True):
        direct = run(model, x, t.expand(4), cond, scene_size=2)
        for name, value in run(model, x, prepared, cond, scene_size=2).items():
            torch.testing.assert_close(value, direct[name], msg=name)


def test_groups_change_nothing_until_a_scene_has_more_assets() -> None:
    model, (x, t, cond) = make(), inputs(4)
    whole = run(model, x, t, cond)
    for group_size in (4, 9):
        grouped = run(model, x, t, cond, group_size=group_size)
        assert all(torch.equal(grouped[name], whole[name]) for name in whole)
    assert all(
        torch.equal(run(model, x, t, cond, group_size=2, scene_size=2)[name], value)
        for name, value in run(model, x, t, cond, scene_size=2).items()
    )


def test_assets_of_other_groups_are_seen_by_their_scene_tokens() -> None:
    model, (x, t, cond) = make(num_blocks=1), inputs(5)
    for group_size, differs in ((5, True), (2, False)):
        before = run(model, x, t, cond, group_size=group_size)["velocity"]
        changed = x.clone()
        changed[4] += 1.0  # its scene tokens do not depend on its voxels before the first scene attention
        after = run(model, changed, t, cond, group_size=group_size)["velocity"]
        assert torch.equal(before[1], after[1]) is not differs
        assert not torch.equal(before[4], after[4])
        elsewhere = cond.clone()
        elsewhere[0] += 1.0
        assert not torch.equal(run(model, x, t, elsewhere, group_size=group_size)["velocity"][4], before[4])


def test_one_condition_serves_several_states_of_the_same_scenes() -> None:
    model = make()
    x, t, cond = inputs(4)
    states, options = torch.cat([x, 2 * x]), {"num_object_tokens": 3, "scene_size": 2}
    both = model(states, torch.cat([t, t]), cond, cond_repeats=2, **options)
    prepared = model.precompute_context(cond, 3)
    again = model(states, torch.cat([t, t]), prepared, scene_size=2, cond_repeats=2)
    assert torch.equal(again.velocity, both.velocity)
    for part, state in enumerate((x, 2 * x)):
        one = model(state, t, cond, **options)
        rows = slice(4 * part, 4 * part + 4)
        torch.testing.assert_close(both.velocity[rows], one.velocity)
        torch.testing.assert_close(both.extras["positions"][rows], one.extras["positions"])


class Sealed(nn.Module):
    """Lets nothing be used of a block but its forward, as wrappers for recomputation and sharding do."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.call = block.__call__

    def forward(self, *arguments: Any) -> Tensor:
        return self.call(*arguments)


@pytest.mark.parametrize("share_mod", [False, True])
def test_blocks_compute_everything_in_their_forward(share_mod: bool) -> None:
    model, arguments = make(share_mod=share_mod), inputs(2)
    expected = run(model, *arguments)
    model.blocks = nn.ModuleList(Sealed(block) for block in model.blocks)
    torch.testing.assert_close(run(model, *arguments), expected, rtol=0, atol=0)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_features_are_the_tokens_before_the_block_that_is_named(before: int) -> None:
    model, arguments = make(), inputs(2)
    seen = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _block, inputs: seen.append(inputs[0]))
        block.register_forward_hook(lambda _block, _inputs, output: seen.append(output))
    output = model(*arguments, num_object_tokens=OBJECT_TOKENS, features_before=before)
    assert output.features.shape == (2, 1 + 2 + 8, 16)
    assert torch.equal(output.features, seen[min(2 * before, 3)])
    assert model(*arguments, num_object_tokens=OBJECT_TOKENS).features is None


def test_features_before_a_block_that_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features_before must be in \[0, 2\], got 3"):
        run(make(), *inputs(1), features_before=3)


def test_object_tokens_decide_what_the_object_attention_sees() -> None:
    x, t, cond = inputs(2)
    model = make()
    outputs = [run(model, x, t, cond, num_object_tokens=n)["velocity"] for n in (3, 4)]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4


@pytest.mark.parametrize("share_mod", [False, True])
def test_gradient_reaches_every_parameter_with_and_without_recomputation(share_mod: bool) -> None:
    arguments = inputs(4)
    gradients = []
    for use_checkpoint in (False, True):
        model = make(share_mod=share_mod, qk_rms_norm_cross=True, use_checkpoint=use_checkpoint).train()
        output = run(model, *arguments, scene_size=2)
        (output["velocity"].square().mean() + output["positions"].square().mean()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0])
    # The position head attends over a sequence of one token, where queries and keys have no effect.
    without_effect = {f"position_head.trunk.0.attn.{side}_rms_norm.gamma" for side in "qk"}
    idle = {
        name for name, gradient in gradients[0].items() if gradient is None or gradient.abs().max() < 1e-9
    }
    assert idle <= without_effect


def test_recomputed_blocks_keep_neither_keys_nor_modulation_for_the_backward_pass() -> None:
    def kept_bytes(cond_length: int, **options: Any) -> int:
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        model, (x, t, cond) = make(**options).train(), inputs(2, cond_length)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            velocity = run(model, x, t, cond)["velocity"]
        assert velocity.requires_grad
        return sum(sizes.values())

    one_context = 2 * 4 * (200 - 50) * SIZES["cond_channels"]  # bytes that 150 more tokens take by themselves
    growth = {
        on: kept_bytes(200, use_checkpoint=on) - kept_bytes(50, use_checkpoint=on) for on in (False, True)
    }
    assert growth[True] <= one_context < growth[False] / 4
    blocks = [kept_bytes(50, use_checkpoint=True, num_blocks=count) for count in (2, 4)]
    tokens = 2 * 4 * (1 + 2 + 8) * SIZES["model_channels"]  # a block keeps its input alone
    assert blocks[1] - blocks[0] <= 2 * tokens


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 2e-2), (torch.bfloat16, 1.5e-1)])
def test_half_torso_on_the_cpu(dtype: torch.dtype, tolerance: float) -> None:
    model, arguments = make(), inputs(2)
    expected = run(model, *arguments)
    model.convert_torso(dtype)
    assert model.blocks[0].global_attn.to_qkv.weight.dtype == dtype
    assert model.position_head.trunk[0].attn.to_qkv.weight.dtype == dtype
    assert model.blocks[0].norm4.weight.dtype == model.position_head.embed_pose.weight.dtype == torch.float32
    actual = run(model, *arguments)
    assert {tensor.dtype for tensor in actual.values()} == {torch.float32}
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_autocast_keeps_poses_and_velocity_in_float32() -> None:
    model, arguments = make().train(), inputs(2)
    expected = run(model, *arguments)
    with torch.autocast("cpu", torch.bfloat16):
        actual = run(model, *arguments)
    assert {tensor.dtype for tensor in actual.values()} == {torch.float32}
    torch.testing.assert_close(actual, expected, rtol=1.5e-1, atol=1.5e-1)
    sum(tensor.mean() for tensor in actual.values()).backward()
    assert model.blocks[0].global_attn.to_qkv.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("autocast", [False, True])
def test_compiles_without_graph_break(autocast: bool) -> None:
    model, arguments = make(share_mod=True).train(), inputs(4)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected, actual = (run(m, *arguments, scene_size=2) for m in (model, compiled))
    torch.testing.assert_close(actual, expected)


def test_fresh_model_predicts_zero_velocity_and_poses_near_the_identity() -> None:
    torch.manual_seed(0)
    model = SceneFlowModel(SceneFlowModelConfig(**SIZES)).train()
    output = run(model, *inputs(3))
    assert not output["velocity"].any()
    assert (output["positions"] - IDENTITY).abs().max() < 0.5
    output["positions"][:, 7].sum().backward()
    assert model.position_head.pose_branch[2].weight.grad[7].any(), (
        "the scale must not start behind a dead ReLU"
    )


def test_unused_batch_encoder_is_allocated_on_request() -> None:
    model = make(use_batch_encoder=True)
    assert model.state_dict()["batch_encoder.batch_embeddings"].shape == (16, 1, 16)
    assert "batch_encoder.batch_embeddings" not in make().state_dict()


def test_groups_that_do_not_fit_are_refused() -> None:
    model, (x, t, cond) = make(), inputs(4)
    with pytest.raises(ValueError, match="4 assets cannot be split into scenes of 3"):
        run(model, x, t, cond, scene_size=3)
    for count in (None, 0, 8):
        with pytest.raises(ValueError, match=rf"num_object_tokens must be in \[1, 7\] .* got {count}"):
            run(model, x, t, cond, num_object_tokens=count)
