"""Prompts inside a picture, files of boxes and points, and one line for each fault."""

import json

import numpy as np
import pytest

from scenegen.inputs.image_files import SceneInputError
from scenegen.segmentation import ObjectPrompt, check_boxes, read_prompts

SIZE = (48, 32)


def test_boxes_up_to_the_border_are_read_in_order(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text("[[10, 2.5, 48, 32], [0, 0, 1, 1]]")
    assert read_prompts(path, SIZE) == [ObjectPrompt((10, 2.5, 48, 32)), ObjectPrompt((0, 0, 1, 1))]
    boxes = np.array([[10, 2.5, 48, 32], [0, 0, 1, 1]])
    checked = check_boxes(boxes, SIZE, "array")
    assert checked.dtype == np.float32 and checked.tolist() == boxes.tolist()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("[[0, 0, 1,", "not valid JSON, line 1", id="truncated"),
        pytest.param(
            '{"boxes": []}', "expected a list of boxes [x0, y0, x1, y1] in pixels, got dict", id="dict"
        ),
        pytest.param("[]", "expected at least one box [x0, y0, x1, y1] in pixels, got none", id="none"),
        pytest.param(str([[0, 0, 5, 5]] * 65), "expected at most 64 boxes, got 65", id="too many"),
        pytest.param("[0, 0, 5, 5]", "box 0: expected four numbers", id="one box without its brackets"),
        pytest.param("[[0, 0, 5, 5], [0, 0, 5]]", "box 1: expected four numbers", id="three numbers"),
        pytest.param('[[0, 0, 5, "5"]]', "box 0: expected four numbers", id="text"),
        pytest.param("[[0, 0, 5, true]]", "box 0: expected four numbers", id="truth value"),
        pytest.param("[[0, 0, 5, NaN]]", "expected a finite number, got NaN", id="not a number"),
        pytest.param("[[5, 0, 5, 9]]", "box 0: expected x0 < x1 and y0 < y1, got [5, 0, 5, 9]", id="empty"),
        pytest.param("[[0, 9, 5, 2]]", "box 0: expected x0 < x1 and y0 < y1", id="corners swapped"),
        pytest.param("[[0, 0, 49, 5]]", "box 0: expected a box inside the photo, 48x32 pixels", id="too far"),
        pytest.param("[[0, 0, 5, 33]]", "box 0: expected a box inside the photo", id="too low"),
        pytest.param("[[-1, 0, 5, 5]]", "box 0: expected a box inside the photo", id="negative"),
    ],
)
def test_faulty_boxes_give_one_line_with_the_file(tmp_path, content, says):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(SceneInputError) as error:
        read_prompts(path, SIZE)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and says in message and "\n" not in message


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(SceneInputError, match="no.json: expected a list of boxes .* found no such file"):
        read_prompts(tmp_path / "no.json", SIZE)
    (tmp_path / "boxes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(SceneInputError, match="boxes.json: cannot be read as text"):
        read_prompts(tmp_path / "boxes.json", SIZE)


def test_points_and_names_stand_beside_a_box_or_alone(tmp_path):
    chair = {"box": [1, 2, 30, 20], "positive": [[5, 6]], "negative": [[7.5, 8], [9, 1]], "name": "chair"}
    (tmp_path / "boxes.json").write_text(json.dumps([chair, {"positive": [[48, 32]]}, [0, 0, 4, 4]]))
    assert read_prompts(tmp_path / "boxes.json", SIZE) == [
        ObjectPrompt((1, 2, 30, 20), ((5, 6),), ((7.5, 8), (9, 1)), "chair"),
        ObjectPrompt(positive=((48, 32),)),
        ObjectPrompt((0, 0, 4, 4)),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param({"x0": 1, "y0": 1}, "unknown key 'x0'; known: box, positive, negative", id="corners"),
        pytest.param({"negative": [[1, 1]]}, "expected a box or a point on the object", id="nothing on it"),
        pytest.param({"box": [0, 0, 99, 9]}, "expected a box inside the photo", id="box too far"),
        pytest.param({"positive": [1, 1]}, "positive: expected points [[x, y], ...]", id="one point"),
        pytest.param({"positive": [[1, None]]}, "positive: expected points", id="no number"),
        pytest.param({"positive": [[49, 1]]}, "expected points inside the photo, 48x32", id="point outside"),
        pytest.param({"box": [0, 0, 9, 9], "name": 3}, "expected a text as its name, got 3", id="name"),
    ],
)
def test_faulty_prompts_give_one_line_with_the_file(tmp_path, content, says):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([content]))
    with pytest.raises(SceneInputError) as error:
        read_prompts(path, SIZE)
    message = str(error.value)
    assert message.startswith(f"{path}: box 0: ") and says in message and "\n" not in message


def test_a_drawn_box_is_brought_into_the_picture():
    assert ObjectPrompt((60, 20, -5, 2)).clipped(48, 32).box == (0, 2, 48, 20)
    within = ObjectPrompt((1, 2, 3, 4), ((48, 32),), ((0, 0),), "lamp")
    assert within.clipped(48, 32) == within


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        pytest.param(ObjectPrompt(), "expected a box or a point on the object", id="nothing"),
        pytest.param(
            ObjectPrompt((5, 5, 5, 9)), "expected a box with an area, got [5, 5, 5, 9]", id="a line"
        ),
        pytest.param(ObjectPrompt((50, 1, 60, 9)), "expected a box inside the photo", id="beside"),
        pytest.param(ObjectPrompt((48, 0, 60, 9)), "which lies outside", id="at the border"),
        pytest.param(ObjectPrompt((0, 0, float("nan"), 9)), "expected finite numbers", id="not a number"),
        pytest.param(ObjectPrompt(positive=((1, float("inf")),)), "expected finite numbers", id="infinite"),
        pytest.param(
            ObjectPrompt((0, 0, 9, 9), negative=((-1, 3),)), "got (-1, 3); move the point", id="point"
        ),
        pytest.param(
            ObjectPrompt((5, 5, 5, 9), name="tall lamp"), "object 'tall lamp': expected", id="named"
        ),
    ],
)
def test_prompts_that_show_no_object_are_refused(prompt, says):
    with pytest.raises(ValueError) as error:
        prompt.clipped(*SIZE)
    assert says in str(error.value) and "\n" not in str(error.value)
