"""The photo's camera: its axes, angles, and the silhouettes of points."""

import numpy as np
import pytest

from scenegen.photo.camera import PhotoCamera, mask_cells, rotation_derivatives, rotation_of


def _camera(azimuth_deg: float, elevation_deg: float, focal: float, aspect: float) -> PhotoCamera:
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg))
    extrinsics[:3, 3] = 0.1, -0.05, 5 * focal
    return PhotoCamera(extrinsics, focal, aspect)


@pytest.mark.parametrize(("azimuth_deg", "elevation_deg"), [(0, 0), (30, 25), (-120, 60)])
def test_direction_is_that_of_the_rotation(azimuth_deg, elevation_deg):
    assert _camera(azimuth_deg, elevation_deg, 1.0, 1.0).direction_deg() == pytest.approx(
        (azimuth_deg, elevation_deg), abs=1e-6
    )


def test_camera_axes_are_right_down_forward():
    view = _camera(0, 0, 1.0, 1.0)  # looks along -z
    (right, up, near), depth = view.project(np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]))
    (origin,), (origin_depth,) = view.project(np.zeros((1, 3)))
    assert right[0] > origin[0] and up[1] < origin[1]
    assert depth[2] < origin_depth


def test_camera_knows_where_it_is():
    view = _camera(40, 20, 1.2, 1.0)
    np.testing.assert_allclose(view.extrinsics @ [*view.position(), 1], [0, 0, 0, 1], atol=1e-12)


def test_intrinsics_take_directions_to_shares_of_the_photo():
    view = _camera(0, 0, 1.5, 0.75)
    np.testing.assert_allclose(view.intrinsics() @ [0.5, 0.25, 1.5], [1.5, 1.25, 1.5])  # at (1, 5/6)


def test_derivatives_of_rotations_are_those_of_small_turns():
    azimuth, elevation, step = np.array([0.3, -2.0]), np.array([0.1, 0.9]), 1e-6
    by_azimuth, by_elevation = rotation_derivatives(azimuth, elevation)
    turned = rotation_of(azimuth, elevation)
    np.testing.assert_allclose(
        by_azimuth, (rotation_of(azimuth + step, elevation) - turned) / step, atol=1e-5
    )
    np.testing.assert_allclose(
        by_elevation, (rotation_of(azimuth, elevation + step) - turned) / step, atol=1e-5
    )


def test_silhouette_of_points_closes_small_gaps():
    view = _camera(0, 0, 1.0, 0.5)
    edge = np.linspace(-1, 1, 60)
    sheet = np.stack(np.meshgrid(edge, edge, [0.0]), axis=-1).reshape(-1, 3)
    shown = view.silhouette(sheet, mask_cells(np.zeros((50, 100), bool)).shape)
    assert shown.shape == (24, 48)
    rows, columns = np.nonzero(shown)
    assert shown.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
