import pytest
import torch

from trellis_modules.renderers.backends import torch_rasterizer
from trellis_modules.renderers.backends.torch_rasterizer import rasterize
from trellis_modules.renderers.cameras import focal_length, look_at, project

FLOOR_Z = 4.0


def _draw(screen, size=16, images=None, **options):
    images = torch.zeros(len(screen), dtype=torch.long) if images is None else images
    return rasterize(screen, images, int(images.max()) + 1 if len(images) else 1, size, size, **options)


def _square(depth, low=2.0, high=10.0):
    corner = torch.tensor([[low, low], [high, low], [high, high], [low, high]])
    corner = torch.cat([corner, torch.full((4, 1), depth)], -1)
    return corner[torch.tensor([[0, 1, 2], [0, 2, 3]])]


def test_square_covers_exactly_the_pixels_whose_centres_it_holds():
    hit = _draw(_square(1.0)).face[0] >= 0
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[2:10, 2:10] = True
    assert torch.equal(hit, expected)


@pytest.mark.parametrize("order", [(1.0, 2.0), (2.0, 1.0)])
def test_nearer_triangle_wins_whatever_the_order(order):
    output = _draw(torch.cat([_square(d) for d in order]))
    assert output.depth[0, 5, 5] == 1.0
    assert int(output.face[0, 5, 5]) // 2 == order.index(1.0)


def test_depth_is_interpolated_in_perspective():
    eye, target, up = (
        torch.tensor([0.0, 2.0, 0.0]),
        torch.tensor([0.0, 0.0, -FLOOR_Z]),
        torch.tensor([0.0, 1.0, 0.0]),
    )
    extrinsics, focal = look_at(eye, target, up), focal_length(torch.tensor(1.0))
    floor = torch.tensor([[-3.0, 0, -2], [3, 0, -2], [3, 0, -9], [-3, 0, -9]])[
        torch.tensor([[0, 1, 2], [0, 2, 3]])
    ]
    size = 64
    output = _draw(project(floor, extrinsics, focal[None], size), size)
    row, column = (output.face[0] >= 0).nonzero()[::97].T
    depth = output.depth[0, row, column]
    camera = torch.stack(
        [(column + 0.5) / size - 0.5, (row + 0.5) / size - 0.5, torch.full_like(depth, 1.0) * focal], -1
    )
    world = (camera / focal * depth[:, None] - extrinsics[:3, 3]) @ extrinsics[:3, :3]
    assert len(depth) > 5
    torch.testing.assert_close(world[:, 1], torch.zeros(len(depth)), atol=1e-4, rtol=0)


def test_orthographic_depth_is_linear():
    screen = torch.tensor([[[0.0, 0, 1], [16, 0, 1], [0, 16, 17]]])
    depth = _draw(screen, perspective=False).depth[0]
    torch.testing.assert_close(depth[:8, 0], 1.5 + torch.arange(8.0))


def test_triangles_behind_the_eye_off_screen_or_degenerate_are_left_out():
    behind, outside = _square(-1.0), _square(1.0) + torch.tensor([40.0, 0, 0])
    line = torch.tensor([[[1.0, 1, 1], [5, 5, 1], [9, 9, 1]]])
    assert (_draw(torch.cat([behind, outside, line])).face == -1).all()


def test_images_do_not_mix_and_chunks_do_not_matter(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    screen = torch.rand(60, 3, 3, generator=generator) * torch.tensor([20.0, 20, 3]) + torch.tensor(
        [-2.0, -2, 0.5]
    )
    images = torch.arange(60) % 3
    whole = _draw(screen, images=images)
    monkeypatch.setitem(torch_rasterizer._MAX_FRAGMENTS, "cpu", 50)
    chunked = _draw(screen, images=images)
    assert torch.equal(whole.face, chunked.face)
    for number in range(3):
        alone = _draw(screen[images == number])
        owner = torch.arange(60)[images == number]
        assert torch.equal(torch.where(alone.face[0] >= 0, owner[alone.face[0]], -1), whole.face[number])


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"need screen \(F, 3, 3\)"):
        rasterize(torch.zeros(2, 3, 2), torch.zeros(2, dtype=torch.long), 1, 4, 4)
