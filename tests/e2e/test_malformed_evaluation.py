"""Poses and scenes that are evaluated: every fault gives one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scenegen.evaluation.glb import GlbError, read_glb
from scenegen.evaluation.loading import find_scene_files, load_poses
from tests.e2e.malformed import Case, assert_one_line, evaluation_case

POSE = {"id": 0, "translation": [0, 0, 0], "rotation_wxyz": [1, 0, 0, 0], "scale": 1}


def scene_glb_case(
    says: str, change: Callable[[dict[str, Any]], Any], binary: Callable[[bytes], bytes] = bytes
) -> Case:
    """Of a scene of one triangle, changed."""
    return Case(lambda i: read_glb(i.glb(change, binary)), says, GlbError)


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
    "symmetry of a billion": evaluation_case(
        "object 0 has symmetry 1000000000, known are 0 (continuous), 1, 2, 4, ... up to 360",
        lambda i: i.poses({"objects": [POSE | {"symmetry": 10**9}]}),
    ),
    "symmetry 10^30": evaluation_case(
        "object 0 has symmetry 1000", lambda i: i.poses({"objects": [POSE | {"symmetry": 10**30}]})
    ),
    "scale beyond floats": evaluation_case(
        "expected a finite number, got 1e400", lambda i: i.poses('{"objects": [{"scale": 1e400}]}')
    ),
    "pose of truth values": evaluation_case(
        "TypeError: object 0 has a pose of something else than numbers",
        lambda i: i.poses({"objects": [POSE | {"translation": [True, 0, 0]}]}),
    ),
    "pose of numbers as text": evaluation_case(
        "object 0 has a pose of something else than numbers",
        lambda i: i.poses({"objects": [POSE | {"translation": ["1", "2", "3"]}]}),
    ),
    "poses are text": evaluation_case("expected objects with id", lambda i: i.poses({"objects": "abc"})),
    "poses are numbers": evaluation_case("expected objects with id", lambda i: i.poses({"objects": [1, 2]})),
    "poses are a number": evaluation_case("expected objects with id", lambda i: i.poses({"objects": 3})),
    "poses in a named pipe": evaluation_case(
        "poses.json: expected a JSON pose file, got expected a file, got a named pipe",
        lambda i: load_poses(i.pipe(i.root / "poses.json")),
    ),
    # scenes
    "accessor of 10^10 rows in one place": scene_glb_case(
        "accessor 0: expected 10000000000 rows of 12 bytes inside the buffer of 48, got stride 0",
        lambda d: (d["accessors"][0].update(count=10**10), d["bufferViews"][0].update(byteStride=0)),
    ),
    "accessor of 10^10 rows": scene_glb_case(
        "accessor 0: expected 10000000000 rows of 12 bytes inside the buffer of 48, got stride 12",
        lambda d: d["accessors"][0].update(count=10**10),
    ),
    "accessor of -1 rows": scene_glb_case(
        "accessor 0: expected whole numbers as count", lambda d: d["accessors"][0].update(count=-1)
    ),
    "accessor of half a row": scene_glb_case(
        "accessor 0: expected whole numbers as count", lambda d: d["accessors"][0].update(count=1.5)
    ),
    "offset 10^30": scene_glb_case(
        "got stride 12 from byte 1000000000000000000000000000000 on",
        lambda d: d["bufferViews"][0].update(byteOffset=10**30),
    ),
    "offset of an accessor 10^30": scene_glb_case(
        "from byte 1000000000000000000000000000000 on",
        lambda d: d["accessors"][0].update(byteOffset=10**30),
    ),
    "offset negative": scene_glb_case(
        "expected whole numbers as count, stride and offset",
        lambda d: d["bufferViews"][0].update(byteOffset=-4),
    ),
    "corners beyond the vertices": scene_glb_case(
        "a face refers to a vertex that does not exist", lambda d: d["accessors"][0].update(count=2)
    ),
    "corners below 0": scene_glb_case(
        "a face refers to a vertex that does not exist",
        lambda d: d["accessors"][1].update(componentType=5120, bufferView=0, byteOffset=3),
        binary=lambda b: bytes([0, 0, 0, 255, 255, 255]) + b[6:],
    ),
    "walk that doubles at each level": scene_glb_case(
        "expected a tree of at most 16384 nodes and 256 levels, got more",
        lambda d: d.update(nodes=[{"children": [n + 1, n + 1]} for n in range(60)] + [{}]),
    ),
    "node that is its own child": scene_glb_case(
        "expected a tree of at most 16384 nodes and 256 levels",
        lambda d: d["nodes"][0].update(children=[0]),
    ),
    "name that is a number": scene_glb_case(
        "expected node names of at most 1024 characters, got 5", lambda d: d["nodes"][0].update(name=5)
    ),
    "name that is a list": scene_glb_case(
        "expected node names of at most 1024 characters, got ['obj_0']",
        lambda d: d["nodes"][0].update(name=["obj_0"]),
    ),
    "name of 4000 characters": scene_glb_case(
        "expected node names of at most 1024 characters, got 'nnnn",
        lambda d: d["nodes"][0].update(name="n" * 4000),
    ),
    "node that is text": scene_glb_case("AttributeError", lambda d: d.update(nodes=["obj_0"])),
    "nodes that are a number": scene_glb_case("TypeError", lambda d: d.update(nodes=7)),
    "scene that is not there": scene_glb_case("IndexError", lambda d: d.update(scene=9)),
    "mesh that is not there": scene_glb_case("IndexError", lambda d: d["nodes"][0].update(mesh=10**20)),
    "buffer elsewhere on the disk": scene_glb_case(
        "expected one embedded buffer, got an external one",
        lambda d: d["buffers"][0].update(uri="../../etc/passwd"),
    ),
    "buffer on the web": scene_glb_case(
        "expected one embedded buffer, got an external one",
        lambda d: d["buffers"][0].update(uri="http://127.0.0.1:9/buffer.bin"),
    ),
    "matrix of 15 numbers": scene_glb_case("ValueError", lambda d: d["nodes"][0].update(matrix=[1.0] * 15)),
    "rotation of length 0": scene_glb_case(
        "ValueError", lambda d: d["nodes"][0].update(rotation=[0, 0, 0, 0])
    ),
    "scales of 10^600 together": scene_glb_case(
        "coordinates that are not finite",
        lambda d: (
            d["nodes"][0].update(scale=[1e300] * 3, children=[1]),
            d["nodes"].append({"name": "a", "mesh": 0, "scale": [1e300] * 3}),
        ),
    ),
    "component of an unknown type": scene_glb_case(
        "KeyError", lambda d: d["accessors"][0].update(componentType=5130)
    ),
    "sparse accessor": scene_glb_case(
        "expected plain accessors", lambda d: d["accessors"][0].update(sparse={"count": 10**9})
    ),
    "one mesh in a hundred thousand places": scene_glb_case(
        "a tree of at most 16384 nodes", lambda d: d["scenes"][0].update(nodes=[0] * 100_000)
    ),
    "GLB that is a named pipe": Case(
        lambda i: read_glb(i.pipe(i.root / "scene.glb")),
        "scene.glb: expected a file, got a named pipe; export",
        GlbError,
    ),
    "GLB that is a folder": Case(
        lambda i: read_glb(i.scene), "room: expected a file, got a folder; export", GlbError
    ),
    "GLB that is a device": Case(
        lambda i: read_glb(Path("/dev/zero")), "/dev/zero: expected a file, got a device", GlbError
    ),
    "GLB cut short": Case(
        lambda i: read_glb(i.glb(lambda document: None, cut=30)), "the file is cut short or damaged", GlbError
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_malformed_evaluation_gives_one_line(inputs, name):
    assert_one_line(CASES[name], inputs)
