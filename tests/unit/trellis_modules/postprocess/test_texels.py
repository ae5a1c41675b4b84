"""Texels of two triangles in a small texture."""

import torch

from trellis_modules.postprocess.texels import surface_texels

SQUARE = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])


def test_texel_shows_the_point_above_its_centre():
    texels = surface_texels(SQUARE[FACES], SQUARE[FACES][..., :2], 8)
    assert len(texels) == 64
    row, column = texels.index // 8, texels.index % 8
    expected = torch.stack([(column + 0.5) / 8, 1 - (row + 0.5) / 8, torch.zeros(64)], dim=1)  # row 0: v = 1
    torch.testing.assert_close(texels.position, expected)
    torch.testing.assert_close(texels.normal, torch.tensor([0.0, 0, 1]).expand(64, 3))


def test_picture_puts_values_back():
    texels = surface_texels(SQUARE[FACES[:1]], SQUARE[FACES[:1]][..., :2], 8)
    picture = texels.picture(texels.position)
    assert texels.covered().sum() == len(texels) < 64
    torch.testing.assert_close(picture[7, 7], torch.tensor([7.5 / 8, 0.5 / 8, 0]))
    assert (picture[~texels.covered()] == 0).all()


def test_triangle_between_texel_centres_gets_the_texel_at_its_middle():
    uvs = torch.tensor([[[0.51, 0.51], [0.54, 0.51], [0.51, 0.54]]])
    corners = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]])
    texels = surface_texels(corners, uvs, 8)
    assert texels.index.tolist() == [3 * 8 + 4]
    assert texels.barycentric.min() >= 0
    torch.testing.assert_close(texels.barycentric.sum(dim=1), torch.ones(1))


def test_flat_triangle_in_the_texture_is_no_nan():
    uvs = torch.tensor([[[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]])
    corners = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]])
    assert torch.isfinite(surface_texels(corners, uvs, 8).position).all()
