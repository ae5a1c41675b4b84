"""Overlaps with masks: what hides what, what is cut, and what has no pixel."""

import numpy as np
import pytest
import trimesh

from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.photo.mask_overlap import Sight, mask_overlaps
from scenegen.photo.silhouettes import Surface, at_pixels, visible_objects


def box(size: float, at: tuple[float, float, float]) -> Surface:
    mesh = trimesh.creation.box((size,) * 3)
    return Surface(np.asarray(mesh.vertices) + at, np.asarray(mesh.faces))


@pytest.fixture
def view() -> PhotoCamera:
    """Looks along -z from z = 5."""
    extrinsics = np.eye(4)
    extrinsics[:3, :3], extrinsics[2, 3] = rotation_of(0.0, 0.0), 5
    return PhotoCamera(extrinsics, focal=1.0, aspect=0.75)


SCENE = [box(2.0, (0, 0, -1)), box(0.8, (0.3, 0, 1.5))]


def test_what_is_seen_covers_its_masks_and_what_is_hidden_is_no_fault(view):
    owner = visible_objects(SCENE, [view], 192)[0]
    masks = [owner == 0, owner == 1]
    assert masks[0].any() and masks[1].any()
    assert [each.modal for each in mask_overlaps(view, SCENE, masks)] == [1.0, 1.0]
    first, second = (Sight([each], [mask]).overlaps([view])[0, 0] for each, mask in zip(SCENE, masks))
    assert first < 0.9 and second == 1.0  # alone, the one behind is seen whole


def test_an_object_before_another_takes_its_pixels(view):
    owner = visible_objects(SCENE, [view], 192)[0]
    masks = [owner == 0, owner == 1]
    nearer = [Surface(SCENE[0].vertices + [0, 0, 3.2], SCENE[0].faces), SCENE[1]]
    assert mask_overlaps(view, nearer, masks)[1].modal == 0


def test_overlap_is_the_intersection_over_the_union(view):
    owner = visible_objects([SCENE[0]], [view], 192)[0] == 0
    half = owner.copy()
    half[:, : half.shape[1] // 2] = False
    expected = half.sum() / owner.sum()
    assert mask_overlaps(view, [SCENE[0]], [half])[0].modal == pytest.approx(expected)


def test_masks_of_any_size_are_looked_up_at_pixel_centres(view):
    owner = visible_objects([SCENE[0]], [view], 192)[0] == 0
    large = np.kron(owner, np.ones((4, 4), bool))
    np.testing.assert_array_equal(at_pixels(large, 192), owner)
    assert mask_overlaps(view, [SCENE[0]], [large])[0].modal == 1


def test_a_mask_between_pixels_is_not_measured(view):
    mask = np.zeros((900, 1200), bool)
    mask[450, 600] = True
    found = mask_overlaps(view, [SCENE[0]], [mask])[0]
    assert found.modal is None and 0 <= found.alone <= 1


def test_what_is_behind_the_camera_is_not_seen(view):
    behind = box(1.0, (0, 0, 8))
    assert (visible_objects([behind], [view], 64) == -1).all()


def test_both_backends_see_the_same(view, monkeypatch):
    scene = [box(2.0, (0.1, 0, -1)), box(0.8, (0.3, 0.1, 1.5)), box(3.0, (0, 0, 4.4))]  # around the camera
    pictures = []
    for backend in ("embree", "torch"):
        monkeypatch.setenv("SCENEGEN_MESH_RASTERIZER", backend)
        pictures.append(visible_objects(scene, [view], 96))
    assert (pictures[0] != pictures[1]).mean() < 0.01
