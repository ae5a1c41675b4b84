"""Structured-latent flow and encoder: equivalences, precision, gradients, empty objects, checks."""

from __future__ import annotations

import pytest
import torch

from trellis_modules.checkpoint import load_checkpoint, save_checkpoint
from trellis_modules.config import ConfigError
from trellis_modules.models import SLatEncoder, SLatFlowModel, SparseResBlock3d, build_model
from trellis_modules.sparse import SparseTensor
from trellis_modules.transformer import attention_patterns

FLOW = {
    "resolution": 8,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "cond_channels": 12,
    "num_blocks": 2,
    "num_heads": 2,
    "patch_size": 2,
    "io_block_channels": [16],
    "qk_rms_norm": True,
}
ENCODER = {
    "resolution": 8,
    "in_channels": 6,
    "model_channels": 16,
    "latent_channels": 4,
    "num_blocks": 2,
    "num_heads": 2,
    "window_size": 4,
}


def built(name: str, **args) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build_model({"name": name, "args": args})
    for parameter in model.parameters():  # zero initial weights would hide everything
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def voxels(channels: int, lengths: tuple[int, ...] = (20, 0, 12)) -> SparseTensor:
    generator = torch.Generator().manual_seed(1)
    coords = []
    for batch, length in enumerate(lengths):
        places = torch.randperm(512, generator=generator)[:length]
        xyz = torch.stack([places // 64, places // 8 % 8, places % 8], 1)
        coords.append(torch.cat([torch.full((length, 1), batch), xyz], 1))
    coords = torch.cat(coords)
    return SparseTensor(torch.randn(len(coords), channels, generator=generator), coords, len(lengths))


@pytest.fixture
def flow() -> SLatFlowModel:
    return built("SLatFlowModel", **FLOW)


@torch.no_grad()
def test_objects_do_not_influence_each_other(flow: SLatFlowModel) -> None:
    x, t, cond = voxels(4), torch.tensor([100.0, 500.0, 900.0]), torch.randn(3, 5, 12)
    together = flow(x, t, cond).velocity
    assert together.lengths == x.lengths
    for index in (0, 2):
        alone = flow(x[index], t[[index]], cond[[index]]).velocity
        torch.testing.assert_close(alone.feats, together[index].feats, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_precomputed_context_gives_the_same_velocity(flow: SLatFlowModel) -> None:
    x, t, cond = voxels(4), torch.full((3,), 500.0), torch.randn(3, 5, 12)
    prepared = flow(x, t, flow.precompute_context(cond)).velocity
    torch.testing.assert_close(prepared.feats, flow(x, t, cond).velocity.feats)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(20, 0, 12), (16, 16, 16), (9,)])
@pytest.mark.parametrize("changes", [{}, {"share_mod": True}, {"input_skip": True}], ids=str)
def test_prepared_times_stand_for_equal_times_of_all_objects(changes: dict, lengths: tuple[int, ...]) -> None:
    flow, count = built("SLatFlowModel", **{**FLOW, **changes}), len(lengths)
    x, cond, times = voxels(4, lengths), torch.randn(count, 5, 12), torch.tensor([20.0, 900.0])
    for t, prepared in zip(times, flow.precompute_times(times), strict=True):
        expected = flow(x, t.expand(count), cond).velocity.feats
        torch.testing.assert_close(flow(x, prepared, cond).velocity.feats, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_features_are_the_voxels_between_two_blocks(flow: SLatFlowModel) -> None:
    x, t, cond = voxels(4), torch.full((3,), 500.0), torch.randn(3, 5, 12)
    seen = []
    flow.blocks[-1].register_forward_pre_hook(lambda _block, inputs: seen.append(inputs[0]))
    output = flow(x, t, cond, features_before=len(flow.blocks) - 1)
    assert output.features is seen[0] and output.features.batch_size == 3
    assert flow(x, t, cond).features is None


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(0,), (1,), (0, 0)])
def test_no_voxel_and_a_single_voxel_have_a_velocity(flow: SLatFlowModel, lengths: tuple[int, ...]) -> None:
    x = voxels(4, lengths)
    velocity = flow(x, torch.full((len(lengths),), 500.0), torch.randn(len(lengths), 5, 12)).velocity
    assert velocity.shape == x.shape and velocity.feats.isfinite().all()


@torch.no_grad()
def test_spoilt_latents_stay_in_their_object(flow: SLatFlowModel) -> None:
    x, t, cond = voxels(4), torch.full((3,), 500.0), torch.randn(3, 5, 12)
    expected = flow(x, t, cond).velocity
    spoilt = SparseTensor(x.feats.clone(), x.coords, 3)
    spoilt.feats[-1] = torch.nan
    velocity = flow(spoilt, t, cond).velocity
    torch.testing.assert_close(velocity[0].feats, expected[0].feats)
    assert velocity[2].feats.isnan().any()


@torch.no_grad()
@pytest.mark.parametrize("mode", ["full", "swin", "shift_window", "shift_sequence", "shift_order"])
def test_encoder_of_spoilt_single_and_missing_voxels(mode: str) -> None:
    model = built("SLatEncoder", **ENCODER, attn_mode=mode)
    x = voxels(6, (20, 0, 12, 1))
    expected = model(x, sample_posterior=False)
    assert expected.lengths == x.lengths and expected.feats.isfinite().all()
    spoilt = x.replace(x.feats.clone())
    spoilt.feats[20:32] = torch.nan
    actual = model(spoilt, sample_posterior=False)
    assert actual[2].feats.isnan().all()
    for index in (0, 3):
        torch.testing.assert_close(actual[index].feats, expected[index].feats)
    nothing = model(voxels(6, (0, 0)), sample_posterior=False)
    assert nothing.shape == (2, 4)


def test_every_parameter_learns_also_with_checkpointing() -> None:
    gradients = []
    for use_checkpoint in (False, True):
        model = built("SLatFlowModel", **FLOW, use_checkpoint=use_checkpoint).train()
        torch.manual_seed(2)
        output = model(voxels(4), torch.full((3,), 500.0), torch.randn(3, 5, 12)).velocity
        output.feats.square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients[0].values())
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_first_velocity_of_a_new_model_is_zero() -> None:
    model = build_model({"name": "ElasticSLatFlowModel", "args": FLOW})
    assert model(voxels(4), torch.ones(3), torch.randn(3, 5, 12)).velocity.feats.abs().max() == 0


@torch.no_grad()
def test_input_skip_adds_the_linear_guess_of_the_velocity() -> None:
    x, t, cond = voxels(4), torch.tensor([1000.0, 300.0, 0.0]), torch.randn(3, 5, 12)
    plain, skipping = (built("SLatFlowModel", **FLOW, input_skip=skip) for skip in (False, True))
    difference = skipping(x, t, cond).velocity.feats - plain(x, t, cond).velocity.feats
    of_first = x.coords[:, :1] == 0  # pure noise, the others data
    torch.testing.assert_close(difference, torch.where(of_first, x.feats, -x.feats), atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="as many out_channels as in_channels, got 6 and 4"):
        build_model({"name": "SLatFlowModel", "args": FLOW | {"out_channels": 6, "input_skip": True}})


def test_the_linear_guess_is_the_best_one_for_latents_of_unit_variance() -> None:
    model = build_model({"name": "SLatFlowModel", "args": FLOW | {"input_skip": True}})  # the rest is zero
    x_0 = voxels(4, (300,))
    noise = torch.randn(x_0.feats.shape, generator=torch.Generator().manual_seed(2))
    for t in (0.2, 0.5, 0.9):
        state = x_0.replace((1 - t) * x_0.feats + t * noise)
        guess = model(state, torch.tensor([1000 * t]), torch.zeros(1, 5, 12)).velocity.feats
        velocity = noise - x_0.feats
        best = (velocity * state.feats).sum() / state.feats.square().sum()
        torch.testing.assert_close(guess, best * state.feats, atol=0.4, rtol=0)


def test_low_precision_torso_stays_close(flow: SLatFlowModel) -> None:
    x, t, cond = voxels(4), torch.full((3,), 500.0), torch.randn(3, 5, 12)
    expected = flow(x, t, cond).velocity.feats
    flow.convert_torso(torch.bfloat16)
    assert flow.input_blocks[0].conv1.conv.weight.dtype == torch.bfloat16
    actual = flow(x, t, cond).velocity.feats
    assert actual.dtype == torch.float32
    assert (actual - expected).abs().mean() < 0.05 * expected.abs().mean()  # bf16 resolves 2^-8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@torch.no_grad()
@pytest.mark.parametrize("lengths", [(40, 40), (60, 0, 20), (1,), (0,)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gpu_passes_agree_with_the_cpu_also_when_recorded(
    flow: SLatFlowModel, lengths: tuple[int, ...], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(3)
    cond = torch.randn(len(lengths), 5, 12, generator=generator)
    arguments = (voxels(4, lengths), torch.full((len(lengths),), 500.0), cond)
    expected = flow(*arguments).velocity.feats
    flow.to("cuda").convert_torso(dtype)
    on_gpu = tuple(argument.to("cuda") for argument in arguments)
    actual = flow(*on_gpu).velocity.feats
    assert actual.dtype == torch.float32
    tolerance = 16 * torch.finfo(dtype).eps * float(expected.abs().mean()) if len(expected) else 0
    assert not len(expected) or (actual.cpu() - expected).abs().mean() < tolerance
    if len(expected):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # would fail if a later pass still asked the device for numbers
            recorded = flow(*on_gpu).velocity.feats
        graph.replay()
        torch.testing.assert_close(recorded, actual, rtol=1e-2, atol=tolerance)


def test_trains_under_autocast(flow: SLatFlowModel) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        velocity = flow.train()(voxels(4), torch.full((3,), 500.0), torch.randn(3, 5, 12)).velocity
    velocity.feats.sum().backward()
    assert velocity.dtype == torch.float32
    assert flow.input_blocks[0].conv1.conv.weight.grad.isfinite().all()


@torch.no_grad()
def test_checkpoint_round_trip(flow: SLatFlowModel, tmp_path) -> None:
    save_checkpoint(flow, tmp_path / "flow", torch.float32)
    loaded = load_checkpoint(tmp_path / "flow")
    arguments = (voxels(4), torch.full((3,), 500.0), torch.randn(3, 5, 12))
    torch.testing.assert_close(loaded(*arguments).velocity.feats, flow(*arguments).velocity.feats)


def test_wrong_sizes_are_named(flow: SLatFlowModel) -> None:
    with pytest.raises(ConfigError, match="patch_size must be 2.levels for 1 io_block_channels"):
        build_model({"name": "SLatFlowModel", "args": {**FLOW, "patch_size": 4}})
    with pytest.raises(ConfigError, match="num_io_res_blocks"):
        build_model({"name": "SLatFlowModel", "args": {**FLOW, "num_io_res_blocks": 0}})
    with pytest.raises(ConfigError, match="divisible by num_heads"):
        build_model({"name": "SLatEncoder", "args": {**ENCODER, "num_heads": 3}})
    with pytest.raises(ValueError, match=r"expected \(B, 4\) voxels"):
        flow(voxels(5), torch.ones(3), torch.randn(3, 5, 12))
    with pytest.raises(ValueError, match=r"one time for each of 3 batch elements, got \(1,\)"):
        flow(voxels(4), torch.ones(1), torch.randn(3, 5, 12))
    with pytest.raises(ValueError, match="a context for each of 3 batch elements, got 2"):
        flow(voxels(4), torch.ones(3), torch.randn(2, 5, 12))
    with pytest.raises(ValueError, match="cond must be"):
        flow(voxels(4), torch.ones(3), torch.randn(3, 5, 11))
    with pytest.raises(ValueError, match="not both"):
        SparseResBlock3d(4, 4, downsample=True, upsample=True)
    with pytest.raises(ValueError, match="unknown mode 'swim'"):
        attention_patterns("swim", 8, 2)


@torch.no_grad()
def test_voxels_beyond_the_resolution_have_a_defined_result(flow: SLatFlowModel) -> None:
    places = torch.tensor([[0, 1, 2, 3], [0, 9, 1023, 0]])
    x = SparseTensor(torch.ones(2, 4), places)
    assert flow(x, torch.ones(1), torch.randn(1, 5, 12)).velocity.feats.isfinite().all()
    encoder = built("SLatEncoder", **ENCODER)
    assert encoder(SparseTensor(torch.ones(2, 6), places)).feats.isfinite().all()


@pytest.mark.parametrize("mode", ["full", "swin", "shift_window", "shift_sequence", "shift_order"])
def test_encoder_learns_in_every_attention_mode(mode: str) -> None:
    model: SLatEncoder = built("SLatEncoder", **ENCODER, attn_mode=mode, use_checkpoint=True).train()
    x = voxels(6)
    drawn = model(x, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 4)
    drawn.feats.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@torch.no_grad()
def test_posterior_draws_around_its_mean() -> None:
    model = built("SLatEncoder", **ENCODER)
    x = voxels(6)
    z, mean, logvar = model.posterior(x, generator=torch.Generator().manual_seed(0))
    again = model(x, generator=torch.Generator().manual_seed(0))
    assert torch.equal(z.feats, again.feats) and not torch.equal(z.feats, mean.feats)
    assert torch.equal(model(x, sample_posterior=False).feats, mean.feats)
    noise = (z.feats - mean.feats) / (0.5 * logvar.feats).exp()
    assert 0.7 < noise.std() < 1.3
