"""Camera fitting: recovered from what is seen of known objects."""

import numpy as np
import pytest
import trimesh

from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.photo.camera_fit import fit_photo_camera
from scenegen.photo.outlines import POSITION, MaskOutlines, outermost_points, outline_differences
from scenegen.photo.silhouettes import Surface, simplified, visible_objects

PIXELS = 128


def chair(turn: float, at: tuple[float, float, float]) -> Surface:
    """A seat with a back, which looks different from every side."""
    parts = [trimesh.creation.box((0.5, 0.5, 0.5)), trimesh.creation.box((0.5, 0.5, 0.1))]
    parts[0].apply_translation((0, -0.25, 0))
    parts[1].apply_translation((0, 0.25, -0.2))
    mesh = trimesh.util.concatenate(parts)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(turn, (0, 1, 0)))
    mesh.apply_translation(at)
    return Surface(np.asarray(mesh.vertices), np.asarray(mesh.faces))


CHAIRS = [chair(0.0, (0, 0, 0)), chair(1.0, (1.2, 0, 0.6)), chair(2.5, (-0.9, 0, 1.1))]


def camera(azimuth_deg: float, elevation_deg: float, focal: float, aspect: float) -> PhotoCamera:
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg))
    extrinsics[:3, 3] = 0.1, -0.05, 5 * focal
    return PhotoCamera(extrinsics, focal, aspect)


def masks(view: PhotoCamera, surfaces: list[Surface]) -> list[np.ndarray]:
    owner = visible_objects(surfaces, [view], PIXELS)[0]
    return [owner == index for index in range(len(surfaces))]


@pytest.mark.parametrize(
    ("azimuth_deg", "elevation_deg", "focal", "aspect"),
    [(20, 15, 1.2, 1.0), (200, 35, 0.9, 0.75), (-75, 3, 1.6, 1.3)],
)
def test_camera_is_recovered_from_three_objects(azimuth_deg, elevation_deg, focal, aspect):
    truth = camera(azimuth_deg, elevation_deg, focal, aspect)
    found = fit_photo_camera(CHAIRS, masks(truth, CHAIRS))
    away = np.array(found.direction_deg()) - truth.direction_deg()
    assert abs((away[0] + 180) % 360 - 180) < 2 and abs(away[1]) < 1.5
    assert found.focal == pytest.approx(focal, rel=0.15)
    assert found.modal_overlap > 0.9
    assert found.aspect == pytest.approx(aspect, rel=0.02)


def test_an_object_that_the_frame_cuts_does_not_mislead():
    truth = camera(20, 15, 1.2, 1.0)
    truth.extrinsics[0, 3] += 1.2  # the chair to the right is cut in half
    shown = masks(truth, CHAIRS)
    assert any(mask[:, -1].any() for mask in shown)
    found = fit_photo_camera(CHAIRS, shown)
    assert abs(found.direction_deg()[1] - 15) < 2 and found.modal_overlap > 0.9


def test_fit_is_deterministic():
    shown = masks(camera(50, 20, 1.2, 1.0), CHAIRS[:2])
    first, second = (fit_photo_camera(CHAIRS[:2], shown) for _ in range(2))
    np.testing.assert_array_equal(first.extrinsics, second.extrinsics)
    assert first.focal == second.focal


def test_masks_that_no_camera_explains_have_a_low_overlap():
    surfaces = [chair(0.0, (0, height, 0)) for height in (0, 3, -3)]
    shown = np.zeros((3, PIXELS, PIXELS), bool)
    shown[0, 5:120, 5:8], shown[1, 110:113, 2:120], shown[2, 10:12, 10:12] = True, True, True
    found = fit_photo_camera(surfaces, list(shown))
    assert found.overlap < 0.25 and found.modal_overlap < 0.25


def test_outermost_points_bound_a_cloud():
    cloud = np.random.default_rng(0).normal(size=(70_000, 3))
    found = outermost_points(cloud)
    directions = np.random.default_rng(1).normal(size=(50, 3))
    reach, bound = (found @ directions.T).max(axis=0), (cloud @ directions.T).max(axis=0)
    assert (reach > 0.9 * bound).all() and (reach <= bound + 1e-9).all()


def test_derivatives_of_outlines_are_those_of_small_steps():
    points = np.stack([outermost_points(surface.vertices) for surface in CHAIRS])
    outlines = MaskOutlines.of(masks(camera(20, 15, 1.2, 1.0), CHAIRS))
    at = np.array([[0.3, 0.2, 0.1, 0.1, 0.0, 5.0]])
    differences, by = outline_differences(at, points, outlines)
    for index in range(6):
        step = np.zeros(6)
        step[index] = 1e-7
        moved, _ = outline_differences(at + step, points, outlines)
        np.testing.assert_allclose((moved - differences) / 1e-7, by[..., index], atol=1e-4)


def test_outlines_of_true_cameras_agree_but_where_objects_may_go_on():
    view = camera(20, 15, 1.2, 1.0)
    points = np.stack([outermost_points(surface.vertices) for surface in CHAIRS])
    at = np.array([[np.deg2rad(20), np.deg2rad(15), np.log(1.2), 0, 0, 0]])
    at[0, POSITION] = view.extrinsics[:3, 3]
    outlines = MaskOutlines.of(masks(view, CHAIRS))
    differences, _ = outline_differences(at, points, outlines)
    assert np.abs(differences[0][~outlines.may_go_on]).max() < 1.5 / PIXELS


def test_simplified_surfaces_keep_their_outline():
    ball = trimesh.creation.icosphere(subdivisions=5)
    few = simplified(Surface(np.asarray(ball.vertices), np.asarray(ball.faces)))
    assert len(few.faces) < 0.6 * len(ball.faces)
    np.testing.assert_allclose(np.linalg.norm(few.vertices, axis=1), 1)
    view = camera(0, 0, 1.0, 1.0)
    whole, coarse = (
        visible_objects([each], [view], PIXELS)[0] >= 0
        for each in (Surface(np.asarray(ball.vertices), np.asarray(ball.faces)), few)
    )
    assert (whole & coarse).sum() > 0.97 * (whole | coarse).sum()
