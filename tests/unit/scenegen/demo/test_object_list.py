"""The list of objects: its rows, and what somebody does in it."""

from __future__ import annotations

from html import unescape

import numpy as np
import pytest
from PIL import Image

from scenegen.demo.object_list import apply_action, object_rows, shown_keys
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


def act(picture, kind, number, target=None, **more):
    action = {"kind": kind, "key": picture.objects[number - 1].key, **more}
    if target is not None:
        action["target"] = picture.objects[target - 1].key
    apply_action(picture, action)


def names(picture):
    return "".join(picture.names)


def test_rows_tell_everything_about_an_object(picture):
    act(picture, "query", 2)
    act(picture, "select", 3)
    rows = object_rows(picture)
    assert [row["number"] for row in rows] == [1, 2, 3] and rows[0]["colour"] == "rgb(255, 0, 0)"
    assert [row["query"] for row in rows] == ["false", "true", "false"]
    assert [row["classes"] for row in rows] == ["", "", "selected"]
    assert rows[0]["state"] == "10.0 % of the picture"
    picture.objects[0].mask = None
    assert object_rows(picture)[0]["state"] == "no mask yet" and object_rows(None) == []


def test_actions(picture):
    act(picture, "query", 3)
    act(picture, "move", 3, target=1)
    assert names(picture) == "cab" and picture.query is picture.objects[0], "the query stays the same object"
    act(picture, "rename", 2, name="A")
    act(picture, "delete", 3)
    assert names(picture) == "cA"
    act(picture, "query", 1)
    assert picture.query is None, "a second press takes the choice back"


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"kind": "burn", "key": 1},
        {"kind": "delete"},
        {"kind": "delete", "key": "1"},
        {"kind": "move", "key": 1},
    ],
)
def test_unknown_actions_are_refused(picture, action):
    with pytest.raises(SceneInputError, match="object list: expected one of select, rename"):
        apply_action(picture, action)


def test_objects_that_are_gone_are_refused_and_others_keep_their_keys(picture):
    first, second, third = (item.key for item in picture.objects)
    apply_action(picture, {"kind": "delete", "key": first})
    apply_action(picture, {"kind": "rename", "key": third, "name": "lamp"})
    for action in ({"kind": "delete", "key": first}, {"kind": "move", "key": second, "target": first}):
        with pytest.raises(SceneInputError, match="it was deleted meanwhile; nothing was changed"):
            apply_action(picture, action)
    assert picture.names == ("b", "lamp")


def test_names_may_have_any_signs(picture):
    """The browser reads rows as HTML inside a JavaScript literal: nothing of a name may end or fill it."""
    act(picture, "rename", 1, name='C:\\new `${alert(1)}` "<b>"')
    row = object_rows(picture)[0]
    assert row["name"] == 'C:\\new `${alert(1)}` "<b>"' == unescape(row["markup"])
    assert not set(row["markup"]) & set('\\`$<>"')


@pytest.mark.parametrize("rows", [3, [3], [{"number": 1}]])
def test_rows_of_another_form_are_refused(rows):
    assert shown_keys(None) == shown_keys([]) == ()
    with pytest.raises(SceneInputError, match="object list: expected its rows.*reload the page"):
        shown_keys(rows)
