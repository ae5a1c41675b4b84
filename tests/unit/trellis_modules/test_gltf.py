"""The GLB writer: names, transforms, layout of the buffer, and what the glTF validator says."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from tests.gltf_validator import issues_of
from trellis_modules.gltf import GltfCamera, GltfMesh, GltfNode, Texture, decompose, encode_glb, unit_normals

ROOT = Path(__file__).resolve().parents[3]


def _texture() -> Texture:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 100, 50)).save(stream, format="png")
    return Texture(stream.getvalue(), "image/png")


def _turned() -> np.ndarray:
    matrix = trimesh.transformations.rotation_matrix(2.5, (1, 2, 3), (0.3, 0, 1))
    matrix[:3, :3] *= 0.7
    return matrix


def _nodes() -> list[GltfNode]:
    ball = trimesh.creation.icosphere(subdivisions=1)
    arrays = ball.vertices, ball.faces, ball.vertex_normals
    colours = np.full((len(ball.vertices), 4), (10, 20, 30, 255), np.uint8)
    return [
        GltfNode(
            "obj_0", GltfMesh(*arrays, uvs=ball.vertices[:, :2] / 2 + 0.5, texture=_texture()), _turned()
        ),
        GltfNode("obj_1", GltfMesh(*arrays, colours=colours)),
        GltfNode("obj_2", GltfMesh(ball.vertices, ball.faces, uvs=ball.vertices[:, :2], texture=_texture())),
        GltfNode("photo", GltfCamera(yfov=0.8, aspect=1.5), _turned() / [[0.7, 0.7, 0.7, 1]] * 1.0),
    ]


def _tree(glb: bytes) -> dict:
    return json.loads(glb[20 : 20 + struct.unpack_from("<I", glb, 12)[0]])


@pytest.mark.parametrize("quantise", [False, True])
def test_everything_is_named_for_its_object(quantise):
    tree = _tree(encode_glb(_nodes(), {"made": "by hand"}, quantise=quantise))
    assert tree["asset"]["extras"] == {"made": "by hand"}
    assert [node["name"] for node in tree["nodes"]] == ["obj_0", "obj_1", "obj_2", "photo"]
    for kind in ("meshes", "materials"):
        assert [entry["name"] for entry in tree[kind]] == ["obj_0", "obj_1", "obj_2"]
    for kind in ("images", "textures"):
        assert [entry["name"] for entry in tree[kind]] == ["obj_0", "obj_2"]
    assert [mesh["primitives"][0]["material"] for mesh in tree["meshes"]] == [0, 1, 2]


def test_node_transform_is_that_of_the_matrix():
    scene = trimesh.load_scene(io.BytesIO(encode_glb(_nodes()[:2])), file_type="glb", process=False)
    np.testing.assert_allclose(scene.graph["obj_0"][0], _turned(), atol=1e-12)
    np.testing.assert_allclose(scene.graph["obj_1"][0], np.eye(4), atol=1e-12)


def test_vertex_attributes_start_at_multiples_of_four_bytes():
    tree = _tree(encode_glb(_nodes(), quantise=True))
    for view in tree["bufferViews"]:
        assert view["byteOffset"] % 4 == 0 and view.get("byteStride", 4) % 4 == 0
    normals = tree["accessors"][tree["meshes"][1]["primitives"][0]["attributes"]["NORMAL"]]
    assert normals["componentType"] == 5120 and normals["normalized"]


def test_many_vertices_take_long_indices():
    vertices = np.random.default_rng(0).random((70_000, 3))
    faces = np.array([[0, 1, 69_999]])
    glb = encode_glb([GltfNode("a", GltfMesh(vertices, faces))])
    loaded = trimesh.load_scene(io.BytesIO(glb), file_type="glb", process=False).geometry["a"]
    assert loaded.faces.tolist() == faces.tolist()


@pytest.mark.parametrize("linear", [np.diag([1.0, 2, 1]), np.diag([1.0, 1, -1]), np.zeros((3, 3))])
def test_what_no_node_can_hold_is_refused(linear):
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    with pytest.raises(ValueError, match="expected a rotation, one scale and a translation"):
        decompose(matrix)


def test_names_that_come_twice_are_refused():
    with pytest.raises(ValueError, match="a name for each node"):
        encode_glb(_nodes()[1:2] * 2)


def test_normals_without_a_length_become_some_unit_vector():
    assert unit_normals(np.array([[0, 0, 0], [0, 0, 2.0]])).tolist() == [[0, 1, 0], [0, 0, 1]]


def _animated(glb: bytes) -> bytes:
    """The file with an animation of its first node."""
    tree, length = _tree(glb), struct.unpack_from("<I", glb, 12)[0]
    binary = bytearray(glb[28 + length :])
    start = len(binary)
    binary += np.array([0, 1, *range(6)], "<f4").tobytes()
    view = {"buffer": 0, "byteOffset": start, "byteLength": 32}
    tree["bufferViews"].append(view)
    common = {"bufferView": len(tree["bufferViews"]) - 1, "componentType": 5126, "count": 2}
    tree["accessors"].append({**common, "type": "SCALAR", "min": [0], "max": [1]})
    tree["accessors"].append({**common, "type": "VEC3", "byteOffset": 8})
    times = len(tree["accessors"]) - 2
    sampler = {"input": times, "output": times + 1}
    channel = {"sampler": 0, "target": {"node": 0, "path": "translation"}}
    tree["animations"] = [{"samplers": [sampler], "channels": [channel]}]
    tree["buffers"][0]["byteLength"] = len(binary)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = (
        struct.pack("<II", len(text), 0x4E4F534A)
        + text
        + struct.pack("<II", len(binary), 0x004E4942)
        + binary
    )
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


@pytest.mark.parametrize("quantise", [False, True])
def test_validator_finds_nothing_also_after_an_animation_is_added(tmp_path, quantise):
    glb = encode_glb(_nodes(), quantise=quantise)
    for name, content in (("plain.glb", glb), ("animated.glb", _animated(glb))):
        (tmp_path / name).write_bytes(content)
        issues = issues_of(tmp_path / name)
        assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"]
