"""Vertex colours from the photo."""

import numpy as np
import pytest
import trimesh
from PIL import Image

from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.photo.colouring import GREY, colour_by_height, colour_from_photo

SIZE = 64
RED, GREEN = (200, 10, 10), (10, 200, 10)


@pytest.fixture
def box() -> trimesh.Trimesh:
    return trimesh.creation.box((1.0, 0.6, 0.4)).subdivide_to_size(0.06)


@pytest.fixture
def front_view() -> PhotoCamera:
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(0.0, 0.0)
    extrinsics[2, 3] = 4.0
    return PhotoCamera(extrinsics, 2.0, 1.0)


def _photo() -> tuple[np.ndarray, np.ndarray]:
    """The front of the box: red on the left, green on the right; blue around it."""
    mask = np.zeros((SIZE, SIZE), bool)
    mask[22:42, 15:49] = True
    photo = np.full((SIZE, SIZE, 3), (0, 0, 255), np.uint8)
    photo[mask] = RED
    photo[:, SIZE // 2 :][mask[:, SIZE // 2 :]] = GREEN
    return photo, mask


def _colours(mesh: trimesh.Trimesh, chosen: np.ndarray) -> np.ndarray:
    return mesh.visual.vertex_colors[chosen, :3].astype(float)


def test_seen_and_hidden_sides_take_the_photos_colours(box, front_view):
    assert colour_from_photo(box, np.eye(4), front_view, *_photo())
    inner = (np.abs(box.vertices) < [0.45, 0.25, np.inf]).all(axis=1) & (np.abs(box.vertices[:, 0]) > 0.1)
    left, front = box.vertices[:, 0] < 0, box.vertices[:, 2] > 0.19
    assert (_colours(box, inner & front & left) == RED).all()
    assert (_colours(box, inner & front & ~left) == GREEN).all()
    assert _colours(box, np.ones(len(box.vertices), bool))[:, 2].max() <= 10  # no background anywhere


def test_wrong_pose_is_moved_onto_the_mask(box, front_view):
    shifted = np.eye(4)
    shifted[:3, 3] = 0.5, 0.2, 0.0
    assert colour_from_photo(box, shifted, front_view, *_photo())
    left = (box.vertices[:, 0] < -0.1) & (box.vertices[:, 2] > 0.19)
    assert np.median(_colours(box, left)[:, 0]) == RED[0]


def test_object_with_too_few_pixels_is_left_alone(box, front_view):
    photo, mask = _photo()
    mask[:] = False
    mask[30, 30] = True
    before = box.visual.kind
    assert not colour_from_photo(box, np.eye(4), front_view, photo, mask)
    assert box.visual.kind == before


def test_height_profile_maps_top_to_top(box):
    rgba = np.zeros((40, 30, 4), np.uint8)
    rgba[5:20, 5:25], rgba[20:35, 5:25] = (*RED, 255), (*GREEN, 255)
    colour_by_height(box, Image.fromarray(rgba))
    np.testing.assert_array_equal(_colours(box, box.vertices[:, 1] > 0.1)[0], RED)
    np.testing.assert_array_equal(_colours(box, box.vertices[:, 1] < -0.1)[0], GREEN)


def test_rows_without_opaque_pixels_are_bridged(box):
    rgba = np.zeros((40, 30, 4), np.uint8)
    rgba[5:8], rgba[32:35] = (*RED, 255), (*GREEN, 255)
    colour_by_height(box, Image.fromarray(rgba))
    middle = _colours(box, np.abs(box.vertices[:, 1]) < 0.03)
    np.testing.assert_allclose(middle, np.tile((105, 105, 10), (len(middle), 1)), atol=25)


def test_transparent_cutout_gives_grey(box):
    colour_by_height(box, Image.new("RGBA", (8, 8)))
    assert (_colours(box, np.ones(len(box.vertices), bool)) == GREY).all()
