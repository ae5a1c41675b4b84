"""Holes right through objects are closed where the photo shows a closed surface, and nowhere else."""

import numpy as np
import pytest
from scipy import ndimage

from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.photo.through_holes import membranes_of_holes
from scenegen.pipelines.decoding import occupancy_surface, with_voxels_at

RESOLUTION, SIZE = 32, 128
HOLE = (slice(12, 18), slice(14, 19), slice(13, 20))  # x, y and z of the object z-up frame
NOTHING = np.zeros((SIZE, SIZE), bool)


@pytest.fixture
def view() -> PhotoCamera:
    """From the front, a little above and beside it."""
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(0.2, 0.15)
    extrinsics[2, 3] = 4.0
    return PhotoCamera(extrinsics, 2.5, 1.0)


def board(*holes: tuple[slice, slice, slice]) -> np.ndarray:
    """Logits of an upright board of three voxels' thickness."""
    logits = np.full((RESOLUTION,) * 3, -4.0, np.float32)
    logits[4:28, 15:18, 4:28] = 4.0
    for hole in holes:
        logits[hole] = -4.0
    return logits


def mask_of(logits: np.ndarray, view: PhotoCamera) -> np.ndarray:
    """What the camera sees of voxels, (SIZE, SIZE) bool."""
    steps = np.stack(np.meshgrid(*[[0.1, 0.5, 0.9]] * 3), axis=-1).reshape(-1, 3)
    x, y, z = (((np.argwhere(logits > 0)[:, None] + steps).reshape(-1, 3)) / RESOLUTION - 0.5).T
    uv, _ = view.project(np.stack([x, z, -y], axis=1))
    columns, rows = np.floor((uv + 0.5) * SIZE).astype(int).T
    mask = np.zeros((SIZE, SIZE), bool)
    mask[rows, columns] = True
    return ndimage.binary_closing(mask)


def closed(logits, view, mask, others=NOTHING, to_query=None):
    """The logits after holes are closed that the mask contradicts."""
    to_query = np.eye(4) if to_query is None else to_query
    points = membranes_of_holes(
        *occupancy_surface(logits), to_query, view, mask, others, voxel=1 / RESOLUTION
    )
    return with_voxels_at(logits, points)


def holes_of(mask: np.ndarray) -> int:
    return ndimage.label(ndimage.binary_fill_holes(mask) & ~mask)[1]


def test_hole_that_the_mask_does_not_have_is_closed(view):
    torn = board(HOLE)
    mended = closed(torn, view, mask_of(board(), view))
    assert holes_of(mask_of(torn, view)) == 1 and holes_of(mask_of(mended, view)) == 0
    added = (mended > 0) & (torn <= 0)
    assert 0 < added.sum() < 2 * torn[HOLE].size  # a membrane, and nothing in front of or behind the board
    assert not added[:, :13].any() and not added[:, 20:].any()
    assert (mended[~added] == torn[~added]).all()


def test_closed_hole_leaves_no_gap_in_the_surface(view):
    mended = closed(board(HOLE), view, mask_of(board(), view))
    vertices, faces = occupancy_surface(mended)
    edges = len(np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0))
    assert len(vertices) - edges + len(faces) == 2  # a ball; a ring has 0


@pytest.mark.parametrize("shift", [-3, 3])
def test_opening_that_the_mask_has_stays_although_the_pose_is_wrong(view, shift):
    logits = board(HOLE)
    moved = np.eye(4)
    moved[0, 3] = shift / RESOLUTION
    assert (closed(logits, view, mask_of(logits, view), to_query=moved) == logits).all()


def test_only_the_hole_that_the_mask_lacks_is_closed(view):
    other = (slice(20, 25), *HOLE[1:])
    logits = board(HOLE, other)
    mended = closed(logits, view, mask_of(board(other), view))
    assert holes_of(mask_of(mended, view)) == 1
    assert (mended[other] <= 0).sum() > 0.9 * mended[other].size


def test_hole_behind_another_object_stays(view):
    logits, mask = board(HOLE), mask_of(board(), view)
    others = NOTHING.copy()
    others[SIZE // 2 - 20 : SIZE // 2 + 20, SIZE // 2 - 20 : SIZE // 2 + 20] = True
    assert (closed(logits, view, mask & ~others, others) == logits).all()


def test_notch_in_the_outline_stays(view):
    logits = board((HOLE[0], HOLE[1], slice(13, 28)))
    assert (closed(logits, view, mask_of(board(), view)) == logits).all()


def test_mask_of_another_shape_tells_nothing(view):
    logits = board(HOLE)
    mask = NOTHING.copy()
    mask[np.arange(20, 110), np.arange(20, 110)] = True
    assert (closed(logits, view, ndimage.binary_dilation(mask, iterations=2)) == logits).all()


def test_object_around_the_camera_is_left_alone(view):
    near = np.eye(4)
    near[:3, 3] = np.linalg.inv(view.extrinsics)[:3, 3]
    logits = board(HOLE)
    assert (closed(logits, view, mask_of(board(), view), to_query=near) == logits).all()


def test_voxels_beyond_the_grid_do_not_count():
    logits = board()
    filled = with_voxels_at(logits, np.array([[0.6, 0, 0], [-0.49, 0.49, 0.49]]))
    assert np.argwhere(filled != logits).tolist() == [[0, 0, RESOLUTION - 1]]
