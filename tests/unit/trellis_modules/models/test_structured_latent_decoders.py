"""Decoders of structured latents: empty objects, where results lie, gradients, checkpoints, checks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trellis_modules.checkpoint import load_checkpoint, save_checkpoint
from trellis_modules.config import ConfigError
from trellis_modules.models import build_model
from trellis_modules.sparse import SparseTensor

SIZES = {
    "resolution": 8,
    "model_channels": 16,
    "latent_channels": 4,
    "num_blocks": 1,
    "num_heads": 2,
    "window_size": 4,
}
GAUSSIANS = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True,
    "voxel_size": 1.5,
    "num_gaussians": 4,
    "2d_filter_kernel_size": 0.1,
    "3d_filter_kernel_size": 0.0009,
    "scaling_bias": 0.004,
    "opacity_bias": 0.1,
    "scaling_activation": "softplus",
}
CONFIGS = {
    "SLatGaussianDecoder": {**SIZES, "representation_config": GAUSSIANS},
    "SLatRadianceFieldDecoder": {**SIZES, "representation_config": {"rank": 2, "dim": 3}},
    # Its group norms have 32 groups in the last level, an eighth of the width.
    "SLatMeshDecoder": {**SIZES, "model_channels": 256, "representation_config": {"use_color": True}},
}


@pytest.fixture
def latents() -> SparseTensor:
    """Three objects, the second without voxels."""
    coords = torch.tensor([(0, 1, 2, 3), (0, 1, 2, 4), (0, 7, 7, 7), (2, 0, 0, 0)])
    return SparseTensor(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)), coords, 3)


def built(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build_model({"name": f"Elastic{name}", "args": CONFIGS[name]})
    torch.nn.init.normal_(model.out_layer.weight, std=0.2)  # zero in a new model
    return model.eval()


@torch.no_grad()
def test_gaussians_stay_around_their_voxel(latents: SparseTensor) -> None:
    gaussians = built("SLatGaussianDecoder")(latents)
    assert [len(gaussian) for gaussian in gaussians] == [12, 0, 4]
    centres = (latents.coords[:3, 1:] + 0.5) / 8 - 0.5
    offset = gaussians[0].xyz.reshape(3, 4, 3) - centres[:, None]
    assert 0 < offset.abs().max() <= 0.5 * 1.5 / 8


@torch.no_grad()
def test_radiance_field_has_a_leaf_per_voxel(latents: SparseTensor) -> None:
    fields = built("SLatRadianceFieldDecoder")(latents)
    assert [field.trivec.shape for field in fields] == [(3, 2, 3, 3), (0, 2, 3, 3), (1, 2, 3, 3)]


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("places", [[], [(0, 0, 0)], [(7, 7, 7)]])
def test_no_voxel_and_a_single_voxel(name: str, places: list[tuple[int, int, int]]) -> None:
    coords = torch.tensor([(0, *place) for place in places], dtype=torch.int32).reshape(-1, 4)
    (result,) = built(name)(SparseTensor(torch.ones(len(places), 4), coords, 1))
    parts = [value for value in vars(result).values() if isinstance(value, torch.Tensor)]
    assert parts and all(part.isfinite().all() for part in parts if part.is_floating_point())
    assert bool(places) or not any(len(part) for part in parts)


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_features_that_are_not_finite_are_refused(name: str, latents: SparseTensor) -> None:
    decoder = built(name)
    latents.feats[3] = torch.nan  # the only voxel of the last object
    with pytest.raises(ValueError, match=rf"^{name}: features of \d+ of \d+ voxels are not finite"):
        decoder(latents)
    decoder.out_layer.weight.fill_(torch.inf)
    with pytest.raises(ValueError, match="not finite"):
        decoder(latents[0])


@pytest.mark.parametrize("name", CONFIGS)
def test_voxels_outside_the_grid_are_refused(name: str) -> None:
    outside = SparseTensor(torch.ones(1, 4), torch.tensor([[0, 0, 8, 0]]))
    with pytest.raises(ValueError, match=rf"{name}: coordinates must be in \[0, 8\), got 8"):
        built(name)(outside)


def test_mesh_lies_in_its_voxels_and_gives_gradients(latents: SparseTensor) -> None:
    decoder = built("SLatMeshDecoder").train()
    full, empty, _ = decoder(latents)
    assert len(full.faces) and not len(empty.faces)
    assert full.vertices.abs().max() <= 0.5 + 1 / 8
    full.vertices.square().sum().backward()
    assert decoder.input_layer.weight.grad.isfinite().all()
    assert decoder.upsample[0].out_layers[0].conv.weight.grad is not None


@torch.no_grad()
@pytest.mark.parametrize("upsample_channels, resolution", [((), 8), ((32,), 16), ((32, 64, 32), 64)])
def test_mesh_decoder_halves_the_voxels_as_often_as_it_is_told(
    upsample_channels: tuple[int, ...], resolution: int, latents: SparseTensor
) -> None:
    args = CONFIGS["SLatMeshDecoder"] | {"model_channels": 32, "upsample_channels": upsample_channels}
    decoder = build_model({"name": "SLatMeshDecoder", "args": args}).eval()
    mesh = decoder(latents)[0]
    assert mesh.resolution == decoder.mesh_resolution == resolution
    assert len(decoder.features(latents).coords) == 4 * (resolution // 8) ** 3


def test_widths_that_the_group_norms_cannot_split_are_refused() -> None:
    args = CONFIGS["SLatMeshDecoder"] | {"model_channels": 128}
    with pytest.raises(ConfigError, match="multiples of 32.*got 16"):
        build_model({"name": "SLatMeshDecoder", "args": args})


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_checkpoint_round_trip(name: str, latents: SparseTensor, tmp_path: Path) -> None:
    decoder = built(name)
    save_checkpoint(decoder, tmp_path / "decoder", torch.float32)
    loaded = load_checkpoint(tmp_path / "decoder")
    torch.testing.assert_close(loaded.features(latents).feats, decoder.features(latents).feats)


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_low_precision_torso_stays_close(name: str, latents: SparseTensor) -> None:
    decoder = built(name)
    expected = decoder.features(latents).feats
    decoder.convert_torso(torch.bfloat16)
    actual = decoder.features(latents).feats
    assert actual.dtype == torch.float32
    assert (actual - expected).abs().mean() < 0.05 * expected.abs().mean()  # bf16 resolves 2^-8


@pytest.mark.parametrize(
    "change, message",
    [
        ({"3d_kernel": 1.0}, "unknown key '3d_kernel'"),
        ({"lr": {"_xyz": 1.0}}, "lr must give a factor"),
        ({"num_gaussians": 0}, "expected 1 to 256, got 0"),
    ],
)
def test_wrong_gaussian_settings_are_named(change: dict, message: str) -> None:
    args = {**SIZES, "representation_config": {**GAUSSIANS, **change}}
    with pytest.raises(ConfigError, match=message):
        build_model({"name": "SLatGaussianDecoder", "args": args})
