"""Poses and scenes that are evaluated: every fault gives one line."""

from __future__ import annotations

import pytest

from scenegen.evaluation.glb import GlbError, read_glb
from scenegen.evaluation.loading import find_scene_files
from tests.e2e.malformed import Case, assert_one_line, evaluation_case

POSE = {"id": 0, "translation": [0, 0, 0], "rotation_wxyz": [1, 0, 0, 0], "scale": 1}


CASES: dict[str, Case] = {
    "poses not JSON": evaluation_case("poses.json: expected a JSON pose file", lambda i: i.poses("{")),
    "poses a list": evaluation_case(
        "poses.json: expected objects with id, translation, rotation_wxyz and scale",
        lambda i: i.poses([POSE]),
    ),
    "poses without a scale": evaluation_case(
        "got KeyError: 'scale'; write the pose file again",
        lambda i: i.poses({"objects": [{k: v for k, v in POSE.items() if k != "scale"}]}),
    ),
    "pose with a zero quaternion": evaluation_case(
        "object 0 has a pose that is not finite, a zero quaternion or a scale <= 0",
        lambda i: i.poses({"objects": [POSE | {"rotation_wxyz": [0] * 4}]}),
    ),
    "pose with three quaternion parts": evaluation_case(
        "[translation, quaternion wxyz, scale], got shape (7,)",
        lambda i: i.poses({"objects": [POSE | {"rotation_wxyz": [0] * 3}]}),
    ),
    "pose with a negative scale": evaluation_case(
        "object 0 has a pose that is not finite, a zero quaternion or a scale <= 0",
        lambda i: i.poses({"objects": [POSE | {"scale": -1}]}),
    ),
    "pose not finite": evaluation_case(
        "poses.json: expected a JSON pose file, got not valid JSON: expected a finite number, got NaN",
        lambda i: i.poses(
            '{"objects": [{"id": 0, "translation": [NaN, 0, 0], "rotation_wxyz": [1, 0, 0, 0], "scale": 1}]}'
        ),
    ),
    "pose as text": evaluation_case(
        "poses.json: expected objects with id, translation, rotation_wxyz and scale",
        lambda i: i.poses({"objects": [POSE | {"translation": "here"}]}),
    ),
    "poses twice for one object": evaluation_case(
        "expected different ids and a pose of the query object 0, got ids [0, 0]",
        lambda i: i.poses({"objects": [POSE, POSE]}),
    ),
    "poses without the query": evaluation_case(
        "a pose of the query object 3, got ids [0]", lambda i: i.poses({"query": 3, "objects": [POSE]})
    ),
    "symmetry unknown": evaluation_case(
        "object 0 has symmetry -2, known are 0 (continuous), 1, 2, 4",
        lambda i: i.poses({"objects": [POSE | {"symmetry": -2}]}),
    ),
    "scenes folder missing": evaluation_case(
        "gone: expected a folder of scenes, got no such folder", lambda i: find_scene_files(i.root / "gone")
    ),
    "scene GLB is text": Case(
        lambda i: read_glb(i.scene / "scene.jpg"), "scene.jpg: expected a GLB file, got 848 bytes", GlbError
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_malformed_evaluation_gives_one_line(inputs, name):
    assert_one_line(CASES[name], inputs)
