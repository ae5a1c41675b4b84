"""Views from all four sides as one picture."""

import torch

from trellis_modules.renderers.four_views import four_views, gaussian_preview
from trellis_modules.representations.gaussian import Gaussian, GaussianConfig


def ball(colour):
    """A fat Gaussian in the middle, almost opaque."""
    config = GaussianConfig(minimum_kernel_size=0.0, scaling_bias=0.05, opacity_bias=0.95)
    zeros = torch.zeros(1, 3)
    hidden_colour = (torch.tensor(colour)[None, None] - 0.5) / 0.28209479177387814
    return Gaussian(config, zeros + 0.5, hidden_colour, zeros, torch.zeros(1, 4), zeros[:, :1])


def test_every_side_of_a_ball_has_its_colour_in_the_middle_and_black_around_it():
    picture = gaussian_preview(ball([0.9, 0.1, 0.2]), size=32, ssaa=1)
    assert picture.shape == (64, 64, 3) and picture.dtype == torch.uint8
    for row in (16, 48):
        for column in (16, 48):
            red, green, blue = (picture[row, column].float() / 255).tolist()
            assert red > 0.5 and green < 0.2 and blue < 0.3
    assert not picture[::31, ::31].any()


def test_views_go_round_at_angles_that_the_generator_draws():
    seen = []

    def draw(pose, intrinsics):
        seen.append(pose[0])
        return torch.full((2, 2, 3), len(seen) / 4)

    picture = four_views(draw)
    assert [int(picture[row, column, 0]) for row in (0, 2) for column in (0, 2)] == [64, 128, 191, 255]
    eyes = torch.stack([-pose[:3, :3].T @ pose[:3, 3] for pose in seen])
    torch.testing.assert_close(eyes.norm(dim=1), torch.full((4,), 2.0))
    flat = torch.nn.functional.normalize(eyes[:, :2], dim=1)
    torch.testing.assert_close((flat * flat.roll(1, 0)).sum(1), torch.zeros(4), atol=1e-5, rtol=0)
    first = [pose.clone() for pose in seen]
    four_views(draw, torch.Generator().manual_seed(1))
    assert not torch.equal(seen[4], first[0])
