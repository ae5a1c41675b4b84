"""Sparse-structure VAE: levels, dtypes, posterior, refusals."""

from __future__ import annotations

import pytest
import torch

from tests.parity.fill_weights import fill_module
from trellis_modules.config import ConfigError
from trellis_modules.models import SparseStructureDecoder, SparseStructureEncoder, build_model


@pytest.mark.parametrize("channels", [(8,), (8, 4), (16, 8, 8, 4)])
def test_any_number_of_levels_round_trips_the_shape(channels: tuple[int, ...]) -> None:
    edge = 2 ** (len(channels) - 1)
    encoder = SparseStructureEncoder(1, 3, 1, channels[::-1], num_res_blocks_middle=1)
    decoder = SparseStructureDecoder(1, 3, 1, channels, num_res_blocks_middle=0)
    grid = torch.zeros(2, 1, 2 * edge, edge, 3 * edge)
    latent = encoder(grid)
    assert latent.shape == (2, 3, 2, 1, 3)
    assert decoder(latent).shape == grid.shape


@pytest.mark.parametrize(
    "model, x",
    [
        (SparseStructureEncoder(1, 2, 1, (4, 8)), torch.ones(1, 1, 4, 4, 4)),
        (SparseStructureDecoder(1, 2, 1, (8, 4)), torch.randn(1, 2, 2, 2, 2)),
    ],
)
def test_gradient_reaches_every_parameter(model: torch.nn.Module, x: torch.Tensor) -> None:
    fill_module(model)
    model(x).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_posterior_sample_follows_its_generator() -> None:
    encoder = fill_module(SparseStructureEncoder(1, 2, 1, (4, 8)))
    grid = (torch.rand(1, 1, 4, 4, 4) < 0.3).float()
    draws = [encoder.posterior(grid, True, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0].z, draws[1].z) and not torch.equal(draws[0].z, draws[2].z)
    noise = torch.randn(draws[0].mean.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(draws[0].z, draws[0].mean + noise * (0.5 * draws[0].logvar).exp())
    assert torch.equal(encoder(grid), draws[0].mean)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 1e-2), (torch.bfloat16, 8e-2)])
def test_half_torso_on_the_cpu(dtype: torch.dtype, tolerance: float) -> None:
    decoder = fill_module(SparseStructureDecoder(1, 2, 1, (8, 4)))
    z = torch.randn(1, 2, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = decoder(z)
    decoder.convert_torso(dtype)
    assert decoder.blocks[0].conv1.weight.dtype == dtype
    assert decoder.blocks[0].norm1.weight.dtype == decoder.out_layer[2].weight.dtype == torch.float32
    logits = decoder(z)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=tolerance, atol=tolerance)


def test_use_fp16_converts_the_torso() -> None:
    args = {"in_channels": 1, "latent_channels": 2, "num_res_blocks": 1, "channels": [4, 8], "use_fp16": True}
    encoder = build_model({"name": "SparseStructureEncoder", "args": args})
    assert encoder.torso_dtype == encoder.middle_block[0].conv2.weight.dtype == torch.float16
    assert encoder.input_layer.weight.dtype == torch.float32


def test_shapes_that_do_not_fit_are_refused() -> None:
    encoder = SparseStructureEncoder(1, 2, 1, (4, 8))
    with pytest.raises(ValueError, match=r"Encoder: expected \(B, 1, X, Y, Z\) with edges divisible by 2"):
        encoder(torch.zeros(1, 1, 4, 5, 4))
    with pytest.raises(ValueError, match=r"Decoder: expected \(B, 2, X, Y, Z\) .* got \(1, 3, 2, 2, 2\)"):
        SparseStructureDecoder(1, 2, 1, (8, 4))(torch.zeros(1, 3, 2, 2, 2))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"channels": []}, "channels must name at least one level"),
        ({"norm_type": "batch"}, "norm_type: expected one of"),
        ({"channels": [4, "8"]}, r"channels\[1\]: expected int"),
    ],
)
def test_bad_configuration_is_named(change: dict, message: str) -> None:
    args = {"in_channels": 1, "latent_channels": 2, "num_res_blocks": 1, "channels": [4, 8], **change}
    with pytest.raises(ConfigError, match=message):
        build_model({"name": "SparseStructureEncoder", "args": args}, "enc.json")
