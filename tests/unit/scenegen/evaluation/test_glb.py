import json
import struct

import numpy as np
import pytest
import trimesh

from scenegen.evaluation.glb import GlbError, read_glb


def write_glb(path, document, binary):
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = (
        struct.pack("<II", len(text), 0x4E4F534A)
        + text
        + struct.pack("<II", len(binary), 0x004E4942)
        + binary
    )
    path.write_bytes(b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks)


def triangle_document(nodes):
    return {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "type": "VEC3", "count": 4},
            {"bufferView": 1, "componentType": 5121, "type": "SCALAR", "count": 3},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 64, "byteStride": 16},
            {"buffer": 0, "byteOffset": 64, "byteLength": 3},
        ],
        "buffers": [{"byteLength": 68}],
    }


def triangle_binary():
    """Four vertices padded to 16 bytes each; the last is used by no face."""
    rows = np.array([[0, 0, 0, 9], [1, 0, 0, 9], [0, 2, 0, 9], [50, 50, 50, 9]], "<f4")
    return rows.tobytes() + bytes([0, 1, 2])


def test_nested_transforms_strides_and_unused_vertices(tmp_path):
    nodes = [
        {"name": "obj_7", "translation": [10, 0, 0], "children": [1]},
        {"rotation": [0, 0, np.sqrt(0.5), np.sqrt(0.5)], "scale": [2, 1, 1], "mesh": 0},
    ]
    write_glb(tmp_path / "a.glb", triangle_document(nodes), triangle_binary())
    (mesh,) = read_glb(tmp_path / "a.glb")
    assert mesh.node_path == ("obj_7", "")
    # scale first, then a quarter turn about z, then the parent's shift
    np.testing.assert_allclose(mesh.vertices, [[10, 0, 0], [10, 2, 0], [8, 0, 0]], atol=1e-6)
    assert mesh.faces.tolist() == [[0, 1, 2]]


def test_same_geometry_as_trimesh(tmp_path, write_scene):
    path = write_scene(tmp_path, "a", 4, yaws=(0, 30, 60, 90))
    ours = np.concatenate([mesh.vertices for mesh in read_glb(path)])
    reference = trimesh.load(path, force="scene")
    np.testing.assert_allclose([ours.min(axis=0), ours.max(axis=0)], reference.bounds, atol=1e-6)


def test_nodes_come_in_file_order(tmp_path):
    document = triangle_document([{"name": f"part {index}", "mesh": 0} for index in range(12)])
    document["scenes"][0]["nodes"] = list(range(12))
    write_glb(tmp_path / "a.glb", document, triangle_binary())
    assert [mesh.node_path[0] for mesh in read_glb(tmp_path / "a.glb")] == [
        f"part {index}" for index in range(12)
    ]


@pytest.mark.parametrize(
    "damage", ["empty", "text", "cut", "json", "buffer", "index", "loop", "external", "nan"]
)
def test_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "broken.glb"
    document, binary = triangle_document([{"mesh": 0}]), triangle_binary()
    if damage == "buffer":
        binary = binary[:30]
    if damage == "index":
        binary = binary[:-3] + bytes([0, 1, 9])
    if damage == "loop":
        document["nodes"][0]["children"] = [0]
    if damage == "external":
        document["buffers"][0]["uri"] = "other.bin"
    if damage == "nan":
        binary = np.full(12, np.nan, "<f4").tobytes() + binary[48:]
    write_glb(path, document, binary)
    content = path.read_bytes()
    if damage in ("empty", "text", "cut", "json"):
        path.write_bytes(
            {
                "empty": b"",
                "text": b"<html>" * 9,
                "cut": content[:-40],
                "json": content.replace(b'"asset"', b'"asset'),
            }[damage]
        )
    with pytest.raises(GlbError, match="broken.glb") as raised:
        read_glb(path)
    assert "\n" not in str(raised.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(GlbError, match="absent.glb"):
        read_glb(tmp_path / "absent.glb")
