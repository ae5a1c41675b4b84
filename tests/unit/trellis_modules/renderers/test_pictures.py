"""What pictures show of renderings, and the files that frames become."""

import sys

import pytest
import torch
from PIL import Image

from trellis_modules.backends import BackendUnavailable
from trellis_modules.renderers import render_mesh, snapshots, turntable, write_video
from trellis_modules.renderers.pictures import normal_pictures, to_uint8
from trellis_modules.renderers.rendering import Rendering

# one pixel without anything, one near, one far
DEPTH = torch.tensor([[[0.0, 1.0, 3.0]]])
NORMAL = torch.tensor([[[[0.0, 0, 0], [0, 0, 1], [-1, 0, 0]]]])
RENDERING = Rendering(None, (DEPTH > 0).float(), DEPTH, NORMAL)


def frames(count=3):
    return torch.arange(count * 16 * 16 * 3).view(count, 16, 16, 3).remainder(251).byte()


def test_what_pictures_show():
    assert normal_pictures(RENDERING)[0, 0].tolist() == [[0, 0, 0], [0.5, 0.5, 1], [0, 0.5, 0.5]]


def test_what_a_rendering_lacks_is_named():
    with pytest.raises(ValueError, match="no normals"):
        normal_pictures(Rendering(None, DEPTH, DEPTH))
    with pytest.raises(ValueError, match="no colour"):
        turntable(lambda extrinsics, intrinsics: RENDERING, 1)


def test_values_outside_are_clipped():
    assert to_uint8(torch.tensor([-0.5, 0.5, 2.0])).tolist() == [0, 128, 255]


def test_turntable_and_snapshots_draw_from_their_cameras():
    vertices = torch.tensor([[0.4, 0, 0], [-0.4, 0, 0], [0, 0, 0.4]])
    faces, colour = torch.tensor([[0, 1, 2]]), torch.eye(3)

    def draw(extrinsics, intrinsics):
        return render_mesh(vertices, faces, extrinsics, intrinsics, 16, vertex_attributes=colour)

    turned = turntable(draw, 9)
    assert turned.shape == (9, 16, 16, 3) and turned.dtype == torch.uint8
    # the turn ends where it started, and half-way the mirror image shows
    assert torch.equal(turned[0], turned[-1]) and not torch.equal(turned[0], turned[4])
    assert (turned.amax((1, 2, 3)) > 0).sum() >= 7
    assert snapshots(draw, normal_pictures).shape == (4, 16, 16, 3)


def test_gif_holds_the_frames(tmp_path):
    write_video(frames(4), tmp_path / "turn.gif", fps=10)
    with Image.open(tmp_path / "turn.gif") as image:
        assert image.n_frames == 4 and image.size == (16, 16) and image.info["duration"] == 100


def test_mp4_holds_the_frames(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="needs the packages imageio and imageio-ffmpeg")
    from imageio.v2 import get_reader

    write_video(frames(5), tmp_path / "turn.mp4", fps=10)
    with get_reader(tmp_path / "turn.mp4") as reader:
        assert sum(1 for _ in reader) == 5 and reader.get_meta_data()["size"] == (16, 16)


def test_mp4_without_its_package_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(BackendUnavailable, match="imageio-ffmpeg .*ends in .gif"):
        write_video(frames(), tmp_path / "turn.mp4")


@pytest.mark.parametrize(
    ("wrong", "name", "message"),
    [
        (frames(), "turn.avi", "ends in .mp4 or .gif, got '.avi'"),
        (frames().float(), "turn.gif", "uint8"),
        (frames(0), "turn.gif", "T >= 1"),
    ],
)
def test_arguments_are_checked(tmp_path, wrong, name, message):
    with pytest.raises(ValueError, match=message):
        write_video(wrong, tmp_path / name)
