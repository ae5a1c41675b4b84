"""The list of objects: its rows, and what somebody does in it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from scenegen.demo.object_list import apply_action, object_rows
from scenegen.demo.prompts import CurrentPicture
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import LabelImage


@pytest.fixture
def picture() -> CurrentPicture:
    labels = np.zeros((20, 40), np.int32)
    for index in range(3):
        labels[2:12, 10 * index : 10 * index + 8] = index + 1
    made = CurrentPicture(Image.new("RGB", (40, 20)))
    made.use_labels(LabelImage(labels, (1, 2, 3), "colours"), 16)
    for number, name in enumerate("abc", start=1):
        made.rename(number, name)
    return made


def names(picture):
    return "".join(picture.names)


def test_rows_tell_everything_about_an_object(picture):
    apply_action(picture, {"kind": "query", "number": 2})
    apply_action(picture, {"kind": "select", "number": 3})
    rows = object_rows(picture)
    assert [row["number"] for row in rows] == [1, 2, 3] and rows[0]["colour"] == "rgb(255, 0, 0)"
    assert [row["query"] for row in rows] == ["false", "true", "false"]
    assert [row["classes"] for row in rows] == ["", "", "selected"]
    assert rows[0]["state"] == "10.0 % of the picture"
    picture.objects[0].mask = None
    assert object_rows(picture)[0]["state"] == "no mask yet" and object_rows(None) == []


def test_actions(picture):
    apply_action(picture, {"kind": "query", "number": 3})
    apply_action(picture, {"kind": "move", "number": 3, "target": 1})
    assert names(picture) == "cab" and picture.query is picture.objects[0], "the query stays the same object"
    apply_action(picture, {"kind": "rename", "number": 2, "name": "A"})
    apply_action(picture, {"kind": "delete", "number": 3})
    assert names(picture) == "cA"
    apply_action(picture, {"kind": "query", "number": 1})
    assert picture.query is None, "a second press takes the choice back"


@pytest.mark.parametrize(
    "action", [{}, {"kind": "burn", "number": 1}, {"kind": "delete"}, {"kind": "delete", "number": "1"}]
)
def test_unknown_actions_are_refused(picture, action):
    with pytest.raises(SceneInputError, match="object list: expected one of select, rename"):
        apply_action(picture, action)


@pytest.mark.parametrize(
    "action", [{"kind": "delete", "number": 4}, {"kind": "move", "number": 1, "target": 0}]
)
def test_objects_that_are_not_there_are_refused(picture, action):
    with pytest.raises(SceneInputError, match="expected a number from 1 to 3"):
        apply_action(picture, action)
    assert names(picture) == "abc"
