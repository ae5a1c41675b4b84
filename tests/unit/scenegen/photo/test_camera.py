"""Camera fitting: recovered from the silhouettes of known objects."""

import numpy as np
import pytest
import trimesh

from scenegen.photo.camera import PhotoCamera, fit_photo_camera, rotation_of

PIXELS = 96


def _chair(rng: np.random.Generator, turn: float, at: tuple[float, float, float]) -> np.ndarray:
    """Surface points of a seat with a back, which looks different from every side."""
    parts = [trimesh.creation.box((0.5, 0.5, 0.5)), trimesh.creation.box((0.5, 0.5, 0.1))]
    parts[0].apply_translation((0, -0.25, 0))
    parts[1].apply_translation((0, 0.25, -0.2))
    mesh = trimesh.util.concatenate(parts)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(turn, (0, 1, 0)))
    mesh.apply_translation(at)
    return trimesh.sample.sample_surface(mesh, 4000, seed=int(rng.integers(1 << 30)))[0]


def _camera(azimuth_deg: float, elevation_deg: float, focal: float, aspect: float) -> PhotoCamera:
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg))
    extrinsics[:3, 3] = 0.1, -0.05, 5 * focal
    return PhotoCamera(extrinsics, focal, aspect)


def _masks(view: PhotoCamera, clouds: list[np.ndarray]) -> list[np.ndarray]:
    """Masks of point clouds; the nearest object owns a pixel."""
    shape = round(PIXELS * view.aspect), PIXELS
    depths = np.full((len(clouds), *shape), np.inf)
    for depth, cloud in zip(depths, clouds, strict=True):
        uv, z = view.project(cloud)
        column, row = np.floor(uv * PIXELS + [shape[1] / 2, shape[0] / 2]).astype(int).T
        inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
        np.minimum.at(depth, (row[inside], column[inside]), z[inside])
    owner = np.where(np.isfinite(depths.min(axis=0)), depths.argmin(axis=0), -1)
    return [owner == index for index in range(len(clouds))]


def _angle_deg(first: PhotoCamera, second: PhotoCamera) -> float:
    turn = first.extrinsics[:3, :3] @ second.extrinsics[:3, :3].T
    return float(np.rad2deg(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))


@pytest.mark.parametrize(
    ("azimuth_deg", "elevation_deg", "focal", "aspect"),
    [(20, 15, 1.2, 1.0), (200, 35, 0.9, 0.75), (-75, 8, 1.6, 1.3)],
)
def test_camera_is_recovered_from_three_objects(azimuth_deg, elevation_deg, focal, aspect):
    rng = np.random.default_rng(0)
    clouds = [_chair(rng, 0.0, (0, 0, 0)), _chair(rng, 1.0, (1.2, 0, 0.6)), _chair(rng, 2.5, (-0.9, 0, 1.1))]
    truth = _camera(azimuth_deg, elevation_deg, focal, aspect)
    found = fit_photo_camera(clouds, _masks(truth, clouds))
    assert _angle_deg(found, truth) < 8
    assert found.overlap > 0.5
    assert found.aspect == pytest.approx(aspect, rel=0.02)


def test_fit_is_deterministic():
    rng = np.random.default_rng(0)
    clouds = [_chair(rng, 0.3, (0, 0, 0)), _chair(rng, 1.0, (1.2, 0, 0.6))]
    masks = _masks(_camera(50, 20, 1.2, 1.0), clouds)
    first, second = fit_photo_camera(clouds, masks), fit_photo_camera(clouds, masks)
    np.testing.assert_array_equal(first.extrinsics, second.extrinsics)
    assert first.focal == second.focal


def test_masks_that_no_camera_explains_have_a_low_overlap():
    rng = np.random.default_rng(0)
    clouds = [_chair(rng, 0.0, (0, 0, 0)), _chair(rng, 0.0, (0, 3, 0)), _chair(rng, 0.0, (0, -3, 0))]
    masks = np.zeros((3, PIXELS, PIXELS), bool)
    masks[0, 5:90, 5:8], masks[1, 80:83, 2:90], masks[2, 10:12, 10:12] = True, True, True
    assert fit_photo_camera(clouds, list(masks)).overlap < 0.25


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
