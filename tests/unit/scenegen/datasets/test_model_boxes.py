"""Boxes of raw model files, and what is kept of them for the next run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scenegen.datasets.model_boxes import CACHE, MODELS_FOLDER, ModelBoxes, ModelFileError

TRIANGLES = "v 1 0 0\nv 3 0 0\nv 1 1 -4\nv 99 99 99\nf 1 2 3\n"


def write(root: Path, text: str, name: str = "model") -> Path:
    path = root / MODELS_FOLDER / name / "raw_model.obj"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_box_is_that_of_vertices_of_faces(tmp_path):
    write(tmp_path, TRIANGLES)
    box = ModelBoxes(tmp_path).box("model")
    assert box.center == (2.0, 0.5, -2.0) and box.size == (2.0, 1.0, 4.0) and box.longest_side == 4.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n",
        "v 1 2 nan\nv 1 1 1\nv 2 2 2\nf 1 2 3\n",
        "\x00\x01",
        "v 0 0 0\nv 1 1 1\n",
    ],
)
def test_a_model_without_a_size_is_refused_in_one_line(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(ModelFileError) as error:
        ModelBoxes(tmp_path).box("model")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="no such file; unpack the models"):
        ModelBoxes(tmp_path).box("model")


def test_a_box_is_measured_once_and_again_when_its_file_changes(tmp_path, monkeypatch):
    path = write(tmp_path, TRIANGLES)
    boxes = ModelBoxes(tmp_path)
    first = boxes.box("model")
    boxes.save()
    with monkeypatch.context() as patch:
        patch.setattr("scenegen.datasets.model_boxes.measure", None)
        assert boxes.box("model") == first and ModelBoxes(tmp_path).box("model") == first
    path.write_text(TRIANGLES.replace("3 0 0", "2 0 0"))
    os.utime(path, (1, 1))
    assert ModelBoxes(tmp_path).box("model").size == (1.0, 1.0, 4.0)
    path.unlink()
    with pytest.raises(ModelFileError):
        ModelBoxes(tmp_path).box("model")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"model": 3}', '{"model": {"stamp": [1, 2], "center": [1], "size": []}}']
)
def test_a_damaged_cache_is_left_aside(tmp_path, text):
    write(tmp_path, TRIANGLES)
    (tmp_path / CACHE).parent.mkdir()
    (tmp_path / CACHE).write_text(text)
    boxes = ModelBoxes(tmp_path)
    assert boxes.box("model").longest_side == 4.0
    boxes.save()
    assert ModelBoxes(tmp_path).box("model").longest_side == 4.0
