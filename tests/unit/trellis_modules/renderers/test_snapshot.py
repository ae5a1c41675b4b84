import torch

from trellis_modules.renderers import render_snapshot


def test_snapshot_shows_the_front_and_an_empty_mesh_is_background():
    vertices = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    faces, red = torch.tensor([[0, 1, 2], [0, 2, 3]]), torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    image = render_snapshot(vertices, faces, red, yaw_deg=0, pitch_deg=0, size=32, supersample=1)
    assert image[16, 16, 0] > 100 and image[16, 16, 1] == 0 and image[0, 0].tolist() == [255, 255, 255]
    empty = render_snapshot(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, 3), size=32)
    assert (empty == 255).all()


def test_faces_seen_from_behind_are_dark():
    vertices = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    faces, red = torch.tensor([[0, 1, 2], [0, 2, 3]]), torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    front, back = (
        render_snapshot(vertices, faces, red, yaw_deg=yaw, pitch_deg=0, size=32, supersample=1)[16, 16, 0]
        for yaw in (0, 180)
    )
    assert back < 50 < 100 < front
