"""Refinement of textures of one square, seen from above."""

import torch

from trellis_modules.postprocess import Observations, TextureOptimization
from trellis_modules.postprocess.optimization import optimize_texture
from trellis_modules.renderers import render_mesh
from trellis_modules.renderers.cameras import fov_intrinsics, look_at

SIZE = 32
SQUARE = torch.tensor([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])
UVS = SQUARE[:, :2] + 0.5
EVERYWHERE = torch.ones(SIZE, SIZE, dtype=torch.bool)


def picture_from_above():
    """The colour (u, v, 0.5), not quite opaque, over black."""
    extrinsics = look_at(torch.tensor([[0.0, 0, 1]]), torch.zeros(1, 3), torch.tensor([0.0, 1, 0]))
    intrinsics = fov_intrinsics(0.8)
    colours = torch.cat([UVS, torch.full((4, 1), 0.5)], dim=1)
    picture = render_mesh(SQUARE, FACES, extrinsics, intrinsics, 64, vertex_attributes=colours, near=0.1)
    return Observations(0.8 * picture.colour, 0.8 * picture.alpha, extrinsics, intrinsics)


def test_texture_comes_closer_to_what_is_seen():
    start = torch.full((SIZE, SIZE, 3), 0.5)
    config = TextureOptimization(steps=60, learning_rate=2e-2, smoothness=0.0)
    texture = optimize_texture(start, EVERYWHERE, (SQUARE, FACES, UVS), picture_from_above(), config)
    axis = (torch.arange(SIZE) + 0.5) / SIZE
    u, v = axis.expand(SIZE, SIZE), 1 - axis[:, None].expand(SIZE, SIZE)  # row 0 is v = 1
    truth = torch.stack([u, v, start[..., 2]], dim=-1)
    shown = slice(4, -4)  # the camera does not see the border
    before, after = ((values - truth)[shown, shown].abs().mean() for values in (start, texture))
    assert after < 0.1 * before


def test_smoothness_flattens_what_nothing_shows():
    noise = torch.rand(SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0))
    config = TextureOptimization(steps=60, learning_rate=2e-2, smoothness=1.0)
    texture = optimize_texture(noise, EVERYWHERE, (SQUARE, FACES, UVS), picture_from_above(), config)
    assert texture[:3].std() < 0.7 * noise[:3].std()  # rows beyond the edge of the picture


def test_texture_stays_where_the_pictures_show_nothing():
    nothing = picture_from_above()
    nothing = Observations(0 * nothing.colour, 0 * nothing.alpha, nothing.extrinsics, nothing.intrinsics)
    start = torch.rand(SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0))
    mesh = SQUARE, FACES, UVS
    assert optimize_texture(start, EVERYWHERE, mesh, nothing, TextureOptimization()) is start
