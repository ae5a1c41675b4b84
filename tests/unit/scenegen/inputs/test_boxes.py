"""Files of boxes: what is read, and one line for each fault."""

import json

import numpy as np
import pytest

from scenegen.inputs.image_files import SceneInputError
from scenegen.segmentation import check_boxes, read_boxes

SIZE = (48, 32)


def test_boxes_up_to_the_border_are_read_in_order(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text("[[10, 2.5, 48, 32], [0, 0, 1, 1]]")
    boxes = read_boxes(path, SIZE)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[10, 2.5, 48, 32], [0, 0, 1, 1]]
    assert check_boxes(boxes, SIZE, "array").tolist() == boxes.tolist()


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
        read_boxes(path, SIZE)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and says in message and "\n" not in message


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(SceneInputError, match="no.json: expected a list of boxes .* found no such file"):
        read_boxes(tmp_path / "no.json", SIZE)
    (tmp_path / "boxes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(SceneInputError, match="boxes.json: cannot be read as text"):
        read_boxes(tmp_path / "boxes.json", SIZE)


def test_more_than_json_lists_is_no_box(tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps([{"x0": 1, "y0": 1, "x1": 2, "y1": 2}]))
    with pytest.raises(SceneInputError, match="box 0: expected four numbers"):
        read_boxes(tmp_path / "boxes.json", SIZE)
