"""Camera and places found together: where objects stand beside their places, and the camera is off."""

import numpy as np
import pytest
import trimesh

from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.photo.camera_fit import fit_photo_camera
from scenegen.photo.outlines import MaskOutlines, outermost_points
from scenegen.photo.silhouettes import Surface, visible_objects
from scenegen.refinement.settings import RefinementSettings
from scenegen.refinement.together import _Problem, fit_together, moved

CENTRES = np.array([[0.0, 0.0, 0.0], [1.2, 0.0, 0.6], [-0.9, 0.0, 1.1]])
TURNS = (0.0, 1.0, 2.5)
MISTAKES = np.array([[0.0, 0.0, 0.0], [0.2, -0.25, 0.2], [-0.15, -0.3, -0.15]])
QUERY, PIXELS = 0, 160


def chair(turn: float, centre: np.ndarray) -> Surface:
    """A seat with a back, which looks different from every side."""
    seat, back = trimesh.creation.box((0.5, 0.5, 0.5)), trimesh.creation.box((0.5, 0.5, 0.1))
    seat.apply_translation((0, -0.25, 0))
    back.apply_translation((0, 0.25, -0.2))
    mesh = trimesh.util.concatenate([seat, back])
    mesh.apply_transform(trimesh.transformations.rotation_matrix(turn, (0, 1, 0)))
    mesh.apply_translation(centre)
    return Surface(np.asarray(mesh.vertices), np.asarray(mesh.faces))


CHAIRS = [chair(turn, centre) for turn, centre in zip(TURNS, CENTRES, strict=True)]


def displaced(moves: np.ndarray) -> list[Surface]:
    return [
        surface._replace(vertices=moved(surface.vertices[None], centre[None], move[None])[0])
        for surface, centre, move in zip(CHAIRS, CENTRES, moves, strict=True)
    ]


@pytest.fixture
def view() -> PhotoCamera:
    """From a little above the floor."""
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(np.deg2rad(20.0), np.deg2rad(6.0))
    extrinsics[:3, 3] = 0.1, -0.05, 5.0
    return PhotoCamera(extrinsics, 1.1, 1.0)


@pytest.fixture
def masks(view) -> list[np.ndarray]:
    owner = visible_objects(CHAIRS, [view], PIXELS)[0]
    return [owner == index for index in range(len(CHAIRS))]


def test_places_and_camera_come_back_together(view, masks):
    wrong, centres = displaced(MISTAKES), CENTRES.copy()
    centres[:, ::2] += MISTAKES[:, :2]
    start = fit_photo_camera(wrong, masks)
    camera, moves = fit_together(start, wrong, centres, masks, QUERY, RefinementSettings(move_weight=1e-4))

    def off(found: PhotoCamera) -> float:
        return abs(found.direction_deg()[1] - view.direction_deg()[1])

    assert off(camera) < 0.5 * off(start)
    left = np.linalg.norm((MISTAKES + moves)[:, :2], axis=1)
    assert left.sum() < 0.6 * np.linalg.norm(MISTAKES[:, :2], axis=1).sum() and not moves[QUERY].any()


def test_moves_that_cost_much_are_not_made(view, masks):
    wrong = displaced(MISTAKES)
    _, moves = fit_together(view, wrong, CENTRES, masks, QUERY, RefinementSettings(move_weight=1e3))
    assert np.abs(moves).max() < 1e-3


def test_objects_that_stand_where_they_are_seen_stay(view, masks):
    camera, moves = fit_together(view, CHAIRS, CENTRES, masks, QUERY, RefinementSettings())
    assert np.abs(moves).max() < 0.02
    np.testing.assert_allclose(camera.extrinsics, view.extrinsics, atol=0.05)


def test_gradients_are_those_of_small_steps(view, masks):
    points = np.stack([outermost_points(surface.vertices) for surface in CHAIRS])
    problem = _Problem(points, CENTRES, MaskOutlines.of(masks), QUERY, RefinementSettings())
    at = np.concatenate([[0.3, 0.2, 0.0, 0.1, 0.0, 5.0], 0.7 * MISTAKES.ravel()])
    gradient = problem._linearised(at).gradient
    for index in range(6, len(at)):
        steps = np.zeros((2, len(at)))
        steps[:, index] = 1e-5, -1e-5
        after, before = (problem._linearised(at + step).cost for step in steps)
        assert gradient[index] == pytest.approx((after - before) / 2e-5, rel=0.02, abs=1e-5)
