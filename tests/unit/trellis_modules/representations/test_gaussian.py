"""Meaning of the parameters, and the PLY round trip."""

import math
from dataclasses import replace

import pytest
import torch

from trellis_modules.quaternions import quaternion_to_matrix
from trellis_modules.representations.gaussian import Z_UP_TO_PLY, Gaussian, GaussianConfig

CONFIGS = [
    GaussianConfig(),
    GaussianConfig(
        aabb=(-1.0, -0.5, 0.0, 2.0, 1.0, 3.0),
        minimum_kernel_size=9e-4,
        scaling_bias=4e-3,
        scaling_activation="softplus",
    ),
]
# Turn by 120 degrees about (1, 1, 1): neither symmetric nor its own inverse.
CYCLE = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def some_gaussians(config, count=20):
    generator = torch.Generator().manual_seed(0)
    shapes = ((3,), (1, 3), (3,), (4,), (1,))
    return Gaussian(config, *(0.5 * torch.randn(count, *shape, generator=generator) for shape in shapes))


def assert_same(actual, expected):
    for name in ("xyz", "features", "scaling", "opacity"):
        torch.testing.assert_close(getattr(actual, name), getattr(expected, name), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(actual.covariance(), expected.covariance(), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("config", CONFIGS)
def test_zero_parameters_mean_the_biases(config):
    zeros = [torch.zeros(1, *shape) for shape in ((3,), (1, 3), (3,), (4,), (1,))]
    gaussian = Gaussian(config, *zeros)
    scale = math.hypot(config.scaling_bias, config.minimum_kernel_size)
    torch.testing.assert_close(gaussian.scaling, torch.full((1, 3), scale))
    torch.testing.assert_close(gaussian.opacity, torch.tensor([[0.1]]))
    torch.testing.assert_close(gaussian.xyz, torch.tensor([config.aabb[:3]]))
    assert gaussian.rotation.tolist() == [[1, 0, 0, 0]]
    expected = torch.tensor([[1.0, 0, 0, 1, 0, 1]]) * scale**2
    torch.testing.assert_close(gaussian.covariance(), expected)


@pytest.mark.parametrize("config", CONFIGS)
def test_values_round_trip(config):
    gaussian = some_gaussians(config)
    names = ("xyz", "features_dc", "scaling", "rotation", "opacity")
    values = {name: getattr(gaussian, name) for name in names}
    assert_same(Gaussian.from_values(config, **values), gaussian)


@pytest.mark.parametrize("transform", [Z_UP_TO_PLY, CYCLE, None])
@pytest.mark.parametrize("config", CONFIGS)
def test_ply_round_trip(tmp_path, config, transform):
    gaussian = some_gaussians(config)
    gaussian.save_ply(tmp_path / "object.ply", transform)
    loaded = Gaussian.load_ply(tmp_path / "object.ply", config, transform)
    assert_same(loaded, gaussian)
    if transform is not None:
        turned = Gaussian.load_ply(tmp_path / "object.ply", config, transform=None)
        matrix = torch.tensor(transform)
        torch.testing.assert_close(turned.xyz, gaussian.xyz @ matrix.mT)
        rotation = matrix @ quaternion_to_matrix(gaussian.rotation)
        torch.testing.assert_close(quaternion_to_matrix(turned.rotation), rotation, rtol=0, atol=1e-5)


def test_no_gaussians_and_opaque_ones_survive_the_file(tmp_path):
    config = CONFIGS[1]
    some_gaussians(config, count=0).save_ply(tmp_path / "empty.ply")
    assert len(Gaussian.load_ply(tmp_path / "empty.ply")) == 0
    opaque = replace(some_gaussians(config, 1), hidden_opacity=torch.tensor([[40.0]]))
    opaque.save_ply(tmp_path / "opaque.ply")
    loaded = Gaussian.load_ply(tmp_path / "opaque.ply", config)
    torch.testing.assert_close(loaded.hidden_opacity, opaque.hidden_opacity)


def test_properties_are_differentiable():
    gaussian = some_gaussians(CONFIGS[1])
    names = ("hidden_xyz", "features_dc", "hidden_scaling", "hidden_rotation", "hidden_opacity")
    leaves = {name: getattr(gaussian, name).requires_grad_() for name in names}
    outputs = (gaussian.covariance(), gaussian.xyz, gaussian.opacity, gaussian.features)
    gradients = torch.autograd.grad(sum(output.sum() for output in outputs), list(leaves.values()))
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)


def test_defined_failures(tmp_path):
    gaussian = some_gaussians(CONFIGS[0])
    path = tmp_path / "bad.ply"
    broken_xyz = gaussian.hidden_xyz.index_fill(0, torch.tensor([2]), torch.nan)
    with pytest.raises(ValueError, match="1 of 20 Gaussians are not finite"):
        replace(gaussian, hidden_xyz=broken_xyz).save_ply(path)
    with pytest.raises(ValueError, match="must be a rotation"):
        gaussian.save_ply(path, ((2.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    with pytest.raises(ValueError, match=r"hidden_rotation \(20, 4\), got \(20, 3\)"):
        replace(gaussian, hidden_rotation=torch.zeros(20, 3))
    with pytest.raises(ValueError, match=r"one dtype, got \['torch.float16', 'torch.float32'\]"):
        replace(gaussian, hidden_xyz=gaussian.hidden_xyz.half())
    with pytest.raises(ValueError, match="'relu'"):
        GaussianConfig(scaling_activation="relu")
    with pytest.raises(ValueError, match="opacity_bias in"):
        GaussianConfig(opacity_bias=1.0)
