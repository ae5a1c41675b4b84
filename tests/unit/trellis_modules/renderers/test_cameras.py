"""Where cameras stand and where they see known points."""

import math

import pytest
import torch

from trellis_modules.renderers.cameras import (
    Cameras,
    camera_rays,
    centred_intrinsics,
    eye_positions,
    fov_intrinsics,
    look_at,
    multiview_cameras,
    orbit_extrinsics,
    project,
    snapshot_cameras,
    to_camera,
    to_pixels,
    turntable_cameras,
)


def test_orbit_camera_is_the_one_that_looks_at_the_origin():
    yaw, pitch, radius = torch.tensor([0.3, 2.5, -1.0]), torch.tensor([0.0, 0.9, -1.2]), 2.5
    extrinsics = orbit_extrinsics(yaw, pitch, radius)
    eye = radius * torch.stack([yaw.sin() * pitch.cos(), yaw.cos() * pitch.cos(), pitch.sin()], dim=-1)
    torch.testing.assert_close(eye_positions(extrinsics), eye)
    torch.testing.assert_close(extrinsics, look_at(eye, torch.zeros(3), torch.tensor([0.0, 0, 1])))


@pytest.mark.parametrize("pitch", [math.pi / 2, -math.pi / 2])
def test_orbit_camera_at_a_pole_is_a_rigid_motion(pitch):
    rotation = orbit_extrinsics(torch.tensor([0.7]), torch.tensor([pitch]), 2.0)[0, :3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3))
    assert torch.linalg.det(rotation) == pytest.approx(1, abs=1e-6)


def test_up_is_up_and_left_is_left():
    extrinsics, lens = orbit_extrinsics(torch.zeros(1), torch.zeros(1), 2.0), fov_intrinsics(0.7)
    above, towards_x = torch.tensor([[[0.0, 0, 0.3]], [[0.3, 0, 0]]])
    for point, expected in ((above, (32, 0)), (towards_x, (0, 32))):  # from +y, +x is on the left
        x, y, depth = to_pixels(to_camera(point, extrinsics), lens, 64)[0, 0].tolist()
        assert depth == pytest.approx(2)
        assert (x, y) == pytest.approx((expected[0] or x, expected[1] or y)) and min(x, y) < 31


def test_rays_pass_through_the_pixels_they_belong_to():
    lens = torch.tensor([[1.1, 0, 0.4], [0, 1.3, 0.55], [0, 0, 1]])
    pixels = to_pixels(3 * camera_rays(lens, 5).view(-1, 3), lens, 5)
    row, column = torch.meshgrid(torch.arange(5) + 0.5, torch.arange(5) + 0.5, indexing="ij")
    torch.testing.assert_close(pixels[:, :2], torch.stack([column, row], dim=-1).view(-1, 2))


def test_project_is_the_centred_case():
    points, extrinsics = torch.rand(6, 3) - 0.5, orbit_extrinsics(torch.ones(1), torch.ones(1), 2.0)[0]
    focal = torch.tensor(1.4)
    expected = to_pixels(to_camera(points, extrinsics), centred_intrinsics(focal), 50)
    torch.testing.assert_close(project(points, extrinsics, focal, 50), expected)


def test_field_of_view_reaches_the_border():
    lens = fov_intrinsics(math.radians(40))
    border = torch.tensor([[math.tan(math.radians(20)), 0, 1.0]])
    assert to_pixels(border, lens, 100)[0, :2].tolist() == pytest.approx([100, 50])


def test_sets_of_cameras():
    extrinsics, lens = multiview_cameras(20)
    eyes = eye_positions(extrinsics)
    torch.testing.assert_close(eyes.norm(dim=1), torch.full((20,), 2.0))
    assert eyes.mean(0).norm() < 0.3 and lens[0, 0] == pytest.approx(0.5 / math.tan(math.radians(20)))
    heights = eye_positions(turntable_cameras(9)[0])[:, 2] / 2
    assert heights.max() == pytest.approx(math.sin(0.75)) and heights.min() == pytest.approx(math.sin(-0.25))
    eyes = eye_positions(snapshot_cameras()[0])
    torch.testing.assert_close(eyes[0, :2], -eyes[2, :2])
    assert eyes[0, 2] / 10 == pytest.approx(math.sin(math.radians(20)))
    assert math.degrees(math.atan2(*eyes[0, :2].tolist())) == pytest.approx(-16)


@pytest.mark.parametrize("make", [multiview_cameras, turntable_cameras])
def test_no_camera_at_all_is_refused(make):
    with pytest.raises(ValueError, match="num_views >= 1, got 0"):
        make(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extrinsics": torch.eye(4)}, "add a leading axis"),
        ({"intrinsics": torch.eye(3).expand(3, 3, 3)}, r"got \(2, 4, 4\) and \(3, 3, 3\)"),
        ({"size": 0}, "size 0"),
        ({"near": 0.0}, "0 < near < far, got near 0.0"),
    ],
)
def test_cameras_are_checked(change, message):
    arguments = {
        "extrinsics": torch.eye(4).expand(2, 4, 4),
        "intrinsics": torch.eye(3),
        "size": 8,
        "near": 1.0,
        "far": 2.0,
    }
    with pytest.raises(ValueError, match=f"draw: .*{message}"):
        Cameras.of("draw", **{**arguments, **change}, like=torch.zeros(1))


def test_cameras_split_into_runs():
    cameras = Cameras.of("draw", torch.eye(4).expand(5, 4, 4), torch.eye(3), 8, 1.0, 2.0, torch.zeros(1))
    assert [len(part) for part in cameras.split(2)] == [2, 2, 1]
    assert [len(part) for part in cameras.split(0)] == [1] * 5
