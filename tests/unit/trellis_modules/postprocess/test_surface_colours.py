"""Colours at a flat piece of surface with known things around it."""

import pytest
import torch

from trellis_modules.postprocess.surface_colours import gaussian_colours_at, vertex_colours_at
from trellis_modules.postprocess.texels import surface_texels
from trellis_modules.renderers.spherical_harmonics import rgb_to_sh
from trellis_modules.representations.gaussian import Gaussian, GaussianConfig

RED, BLUE = [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]


@pytest.fixture
def square():
    """Texels of the square [0, 0.1]^2 at z = 0, which faces up."""
    corners = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0], [0, 0.1, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    return surface_texels(corners[faces], 10 * corners[faces][..., :2], 4)


def gaussians(heights, colours, scaling, opacity):
    count = len(heights)
    return Gaussian.from_values(
        GaussianConfig(),
        xyz=torch.tensor([[0.05, 0.05, height] for height in heights]),
        features_dc=rgb_to_sh(torch.tensor(colours))[:, None],
        scaling=torch.tensor(scaling).expand(count, 3),
        rotation=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        opacity=torch.full((count, 1), opacity),
    )


def test_upper_gaussian_hides_the_lower_one(square):
    flat = [1.0, 1.0, 0.001]  # so wide that its opacity is the same all over the square
    colour, alpha = gaussian_colours_at(square, gaussians([-0.01, 0.01], [RED, BLUE], flat, 0.9))
    torch.testing.assert_close(alpha, torch.full((16,), 0.99), atol=1e-3, rtol=0)
    expected = torch.tensor([0.1 * 0.9, 0, 0.9]) / 0.99
    torch.testing.assert_close(colour, expected.expand(16, 3), atol=2e-3, rtol=0)


def test_opacity_falls_across_the_normal_only(square):
    spot = gaussians([0.02], [RED], [0.02, 0.02, 0.02], 0.8)
    _, alpha = gaussian_colours_at(square, spot)
    squared_distance = (square.position[:, :2] - 0.05).square().sum(dim=1)
    torch.testing.assert_close(alpha, 0.8 * torch.exp(-0.5 * squared_distance / 0.02**2))


def test_far_gaussians_show_nothing(square):
    small = gaussians([0.0], [RED], [0.001, 0.001, 0.001], 0.9)  # 17 standard deviations from any texel
    colour, alpha = gaussian_colours_at(square, small)
    assert (alpha == 0).all() and (colour == 0).all()


def test_other_side_of_a_thin_sheet_does_not_shine_through(square):
    top = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0], [0, 0.1, 0], [0.05, 0.05, 0]])
    vertices = torch.cat([top, top - torch.tensor([0, 0, 0.001])])
    up = torch.tensor([0.0, 0, 1]).expand(5, 3)
    colours = torch.tensor([RED] * 5 + [BLUE] * 5)
    colour = vertex_colours_at(square, vertices, torch.cat([up, -up]), colours)
    torch.testing.assert_close(colour, torch.tensor([RED]).expand(16, 3), atol=1e-3, rtol=0)
