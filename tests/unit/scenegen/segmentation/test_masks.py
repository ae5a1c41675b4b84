"""Masks of a photo's objects in memory and as a label image, with a segmenter that fills boxes."""

import json

import numpy as np
import pytest
from PIL import Image

from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.layout import detect_scene
from scenegen.inputs.scene_folder import read_layout
from scenegen.inputs.scene_images import SceneImages
from scenegen.segmentation import ObjectPrompt, Sam2Segmenter, find_masks, merge_masks
from scenegen.segmentation.masks import find_labels, write_found_labels
from tests.box_filler import BoxFiller

WIDTH, HEIGHT = 48, 36
PHOTO = Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 150))
LARGE, SMALL = (2, 2, 40, 30), (10, 10, 20, 20)


def _filled(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes):
        mask[y0:y1, x0:x1] = True
    return masks


@pytest.mark.parametrize("boxes", [(LARGE, SMALL), (SMALL, LARGE)])
def test_each_box_gives_a_mask_and_the_smaller_object_lies_in_front(boxes):
    masks = find_masks(BoxFiller(_filled()), PHOTO, np.array(boxes, np.float32))
    whole = dict(zip((LARGE, SMALL), _filled(LARGE, SMALL)))
    visible = {SMALL: whole[SMALL], LARGE: whole[LARGE] & ~whole[SMALL]}
    assert masks.dtype == bool
    np.testing.assert_array_equal(masks, np.stack([visible[box] for box in boxes]))


def test_without_boxes_only_objects_that_can_be_seen_are_found():
    left, right = (4, 4, 10, 20), (10, 4, 18, 20)
    segmenter = BoxFiller(_filled((4, 4, 18, 20), left, right))  # the first one is covered by the two others
    np.testing.assert_array_equal(find_masks(segmenter, PHOTO), _filled(left, right))
    assert np.unique(find_labels(segmenter, PHOTO)).tolist() == [0, 2, 3]


def test_found_masks_make_a_photo_with_its_objects():
    images = SceneImages.from_masks(PHOTO, find_masks(BoxFiller(_filled()), PHOTO, np.array([LARGE, SMALL])))
    assert images.object_ids == (0, 1) and images.cutouts[1].size == (WIDTH, HEIGHT)


def test_masks_of_the_network_do_not_overlap(toy_model):
    boxes = np.array([[2, 3, 20, 30], [10, 3, 40, 30]], np.float32)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    segmenter = Sam2Segmenter(toy_model)
    masks, raw = find_masks(segmenter, noise, boxes), segmenter.segment_boxes(noise, boxes)
    assert masks.shape == raw.shape and masks.any(axis=(1, 2)).all()
    assert masks.sum(axis=0).max() == 1
    np.testing.assert_array_equal(masks.any(axis=0), raw.any(axis=0))


def test_faults_say_which_box_and_what_to_do():
    for boxes, says in (
        ([SMALL, (30, 30, 30.5, 30.5)], "photo: box 1: expected an object in the box, found none"),
        ([SMALL, SMALL], "photo: box 0: expected an object of its own, found only what other boxes hold"),
    ):
        with pytest.raises(SceneInputError, match=says):
            find_masks(BoxFiller(_filled()), PHOTO, np.array(boxes))
    with pytest.raises(SceneInputError, match="photo: expected objects that can be found without a hint"):
        find_masks(BoxFiller(_filled()), PHOTO)


def test_labels_on_disk_are_read_as_the_same_masks(tmp_path):
    PHOTO.save(tmp_path / "scene.png")
    (tmp_path / "boxes.json").write_text(json.dumps([LARGE, SMALL]))
    scene = detect_scene(tmp_path)
    write_found_labels(BoxFiller(_filled()), scene.photos[0], tmp_path / "found")
    found = detect_scene(tmp_path / "scene.png", masks=tmp_path / "found" / "labels.png")
    (images,) = read_layout(found)
    np.testing.assert_array_equal(
        images.masks, find_masks(BoxFiller(_filled()), PHOTO, np.array([LARGE, SMALL]))
    )


@pytest.mark.parametrize(
    ("options", "owner"),
    [
        pytest.param({}, 2, id="smallest by default"),
        pytest.param({"priority": "smallest"}, 2, id="smallest"),
        pytest.param({"priority": "order"}, 3, id="the last one"),
        pytest.param({"priority": "score", "scores": [0.9, 0.2, 0.3]}, 1, id="best score"),
        pytest.param({"priority": "score", "scores": np.array([0.5, 0.2, 0.5])}, 3, id="equal scores"),
    ],
)
def test_a_pixel_of_several_masks_goes_to_one_of_them(options, owner):
    masks = _filled((0, 0, 30, 30), (10, 10, 20, 20), (5, 5, 25, 25))
    labels = merge_masks(masks, **options)
    assert labels.dtype == np.uint8 and labels.shape == (HEIGHT, WIDTH)
    assert labels[15, 15] == owner
    np.testing.assert_array_equal(labels > 0, masks.any(axis=0))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"priority": "largest"}, "expected a priority of .*, got 'largest'"),
        ({"priority": "score"}, "expected a score for each of 2 masks, got None"),
        ({"priority": "score", "scores": [1.0]}, "expected a score for each of 2 masks"),
        ({"priority": "score", "scores": [1.0, float("nan")]}, "expected a score for each of 2 masks"),
    ],
)
def test_faulty_priorities_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        merge_masks(_filled(LARGE, SMALL), **options)


def test_forty_masks_keep_their_labels():
    masks = np.zeros((40, HEIGHT, WIDTH), bool)
    for index in range(40):
        masks[index, index // 8 * 5, index % 8 * 5] = True
    for priority in ("smallest", "order"):
        assert np.unique(merge_masks(masks, priority)).tolist() == list(range(41))


def test_prompts_take_the_place_of_boxes():
    prompts = [ObjectPrompt(LARGE), ObjectPrompt(SMALL)]
    by_box = find_masks(BoxFiller(_filled()), PHOTO, np.array([LARGE, SMALL], np.float32))
    np.testing.assert_array_equal(find_masks(BoxFiller(_filled()), PHOTO, prompts), by_box)
