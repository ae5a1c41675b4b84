"""Annotated photos: which objects are kept under which number, and what is said of the others."""

import json
import math

import numpy as np
import pytest

from scenegen.datasets.annotations import (
    AnnotationError,
    kept_objects,
    read_annotations,
)
from scenegen.inputs.coco_masks import encode_counts

SIDE = 20
SQUARE = [2, 2, 6, 2, 6, 6, 2, 6]


def annotation(number: int, **changes) -> dict:
    pose = {"translation": [0.0, 1.0, -2.0], "euler": [0.0, 90.0, 0.0]}
    place = {"id": number, "image_id": 7, "segmentation": [SQUARE], "pose": pose}
    return place | {"model_id": f"model-{number}"} | changes


def read(path, annotations, images=None):
    images = images or [{"id": 7, "file_name": "0004691", "width": SIDE, "height": SIDE + 4}]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return read_annotations(path)


def any_model(model_id: str) -> None:
    """Every model is there."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train_set.json"


def test_kept_objects_are_numbered_in_the_order_of_the_annotations(path):
    (photo,) = read(
        path,
        [
            annotation(1, model_id=None),
            annotation(2),
            annotation(3, pose={"translation": None, "euler": None}),
            annotation(4, pose=None),
            annotation(5, segmentation=[[9, 9, 12, 9, 12, 12]]),
        ],
    )
    kept = kept_objects(photo, any_model)
    assert [(item.instance_id, item.model_id) for item in kept.objects] == [(0, "model-2"), (1, "model-5")]
    assert kept.objects[0].mask.shape == (SIDE + 4, SIDE) and kept.objects[0].mask.sum() == 25
    assert kept.objects[0].rotation_deg == (0.0, 90.0, 0.0)
    assert kept.left_out == {"no model": 1, "no pose": 2} and not kept.faults


def test_objects_without_a_pixel_are_numbered_after_the_others(path):
    outside = [[50, 50, 60, 50, 60, 60]]
    (photo,) = read(path, [annotation(1, segmentation=outside), annotation(2), annotation(3)])
    kept = kept_objects(photo, any_model)
    assert [item.model_id for item in kept.objects] == ["model-2", "model-3"]
    assert [(item.instance_id, item.model_id) for item in kept.hidden] == [(2, "model-1")]
    assert kept.faults[0].item == "annotation 1 of 0004691" and "no pixel" in kept.faults[0].reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"segmentation": {"counts": "?"}}, "end inside a number|run lengths"),
        ({"segmentation": 3}, "expected polygons or run lengths"),
        ({"pose": {"translation": [0, math.nan, 0], "euler": [0, 0, 0]}}, "translation: expected three"),
        ({"pose": {"translation": [0, 0, 0], "euler": [0, 0]}}, "pose.euler: expected three"),
        ({"pose": {"translation": [0, 0, 0]}}, "pose.euler: expected three"),
        ({"model_id": "../escape"}, "expected a model_id of letters"),
        ({"model_id": 5}, "expected a model_id of letters"),
    ],
)
def test_a_wrong_annotation_is_named_and_the_others_keep_their_numbers(path, changes, reason):
    (photo,) = read(path, [annotation(1, **changes), annotation(2)])
    kept = kept_objects(photo, any_model)
    assert [item.model_id for item in kept.objects] == ["model-2"]
    (fault,) = kept.faults
    assert fault.item == "annotation 1 of 0004691"
    with pytest.raises(ValueError, match=reason):
        raise ValueError(fault.reason)
    assert kept.left_out == {"wrong": 1}


def test_a_model_that_cannot_be_used_is_a_fault(path):
    def refuse(model_id):
        if model_id == "model-1":
            raise ValueError("no such file")

    (photo,) = read(path, [annotation(1), annotation(2)])
    kept = kept_objects(photo, refuse)
    assert [item.model_id for item in kept.objects] == ["model-2"] and kept.faults[0].reason == "no such file"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"file_name": 4691}, "image 0: expected a file_name as text, with its leading zeros, got 4691"),
        ({"file_name": "../x"}, "expected letters and digits as file_name"),
        ({"id": "7"}, "expected a photo with a number as its id"),
        ({"width": 0}, "expected width and height from 1"),
        ({"height": None}, "expected width and height from 1"),
    ],
)
def test_a_wrong_photo_is_named_and_left_out(path, image, message):
    good = {"id": 8, "file_name": "0000008", "width": SIDE, "height": SIDE}
    wrong = {"id": 7, "file_name": "0004691", "width": SIDE, "height": SIDE} | image
    with pytest.raises(AnnotationError, match=message):
        read(path, [], [wrong, good])
    faults = []
    photos = read_annotations(path, faults.append)
    assert [photo.file_name for photo in photos] == ["0000008"] and len(faults) == 1


def test_a_photo_or_annotation_that_is_there_twice_or_of_no_photo_is_named(path):
    image = {"id": 7, "file_name": "0004691", "width": SIDE, "height": SIDE}
    with pytest.raises(AnnotationError, match="0004691 is there twice"):
        read(path, [], [image, image | {"id": 8}])
    with pytest.raises(AnnotationError, match="annotation 0: expected the image_id of a photo"):
        read(path, [annotation(1, image_id=99)], [image])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": []}', '{"images": 3, "annotations": []}'])
def test_another_file_is_refused_in_one_line(path, text):
    path.write_text(text)
    with pytest.raises(AnnotationError, match="train_set.json: expected annotations in the form") as error:
        read_annotations(path)
    assert "\n" not in str(error.value)


def test_all_fields_of_view_of_a_photo_must_agree(path):
    (photo,) = read(path, [annotation(1, fov=0.8), annotation(2), annotation(3, fov=0.8)])
    assert photo.fov() == 0.8
    (photo,) = read(path, [annotation(1)])
    assert photo.fov() == pytest.approx(math.radians(60))
    (photo,) = read(path, [annotation(1, fov=0.8), annotation(2, fov=0.9)])
    with pytest.raises(AnnotationError, match=r"0004691: expected one fov for a photo, got \[0.8, 0.9\]"):
        photo.fov()
    for wrong, message in (("wide", "expected a fov in radians"), (60, "between 0 and pi, got 60")):
        (photo,) = read(path, [annotation(1, fov=wrong)])
        with pytest.raises(AnnotationError, match=message):
            photo.fov()


def test_masks_have_the_size_of_a_photo_that_is_not_square(path):
    mask = np.zeros((SIDE + 4, SIDE), bool)
    mask[SIDE:, :3] = True
    (photo,) = read(path, [annotation(1, segmentation={"counts": encode_counts(mask)})])
    np.testing.assert_array_equal(kept_objects(photo, any_model).objects[0].mask, mask)
