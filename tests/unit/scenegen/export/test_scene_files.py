"""Scene files: content of the GLB, the record, empty objects, completeness."""

import io
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from scenegen.evaluation.glb import read_glb
from scenegen.export.glb import glb_bytes
from scenegen.export.meshes import build_scene, joined_mesh, srgb_to_linear
from scenegen.export.options import ExportOptions
from scenegen.export.scene_files import ExportError, is_complete, write_scene
from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.pipelines.result import GeneratedObject, SceneResult
from trellis_modules.postprocess import TexturedMesh

LOGITS = torch.zeros(2, 2, 2)
VIEW = PhotoCamera(
    np.block([[rotation_of(0.5, 0.3), np.array([[0.2], [0.1], [5.0]])], [np.zeros((1, 3)), np.ones((1, 1))]]),
    focal=1.2,
    aspect=0.75,
    overlap=0.5,
)
IDENTITY = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
BESIDE = torch.tensor([2.0, 0, 0, 0.7071068, 0, 0.7071068, 0, 0.5])


def _box(colour=(200, 100, 50)) -> trimesh.Trimesh:
    mesh = trimesh.creation.box((1.0, 0.5, 0.25))
    mesh.visual.vertex_colors = np.tile((*colour, 255), (len(mesh.vertices), 1))
    return mesh


@pytest.fixture
def result() -> SceneResult:
    """Objects 0 and 4 have meshes, 2 is empty."""
    return SceneResult(
        (
            GeneratedObject(0, IDENTITY, LOGITS, _box()),
            GeneratedObject(2, BESIDE, LOGITS, None, problem="the structure decoder left the grid empty"),
            GeneratedObject(4, BESIDE, LOGITS, _box()),
        ),
        query_id=0,
        settings={"seed": 7},
        timings={"sample": 1.23456},
    )


def _gltf_json(glb: bytes) -> dict:
    (length,) = struct.unpack_from("<I", glb, 12)
    return json.loads(glb[20 : 20 + length])


def test_nodes_stand_where_the_poses_say(result):
    scene = build_scene(result)
    assert sorted(scene.graph.nodes_geometry) == ["obj_0", "obj_4"]
    np.testing.assert_allclose(scene.bounds.sum(axis=0), 0, atol=1e-6)
    assert scene.extents.max() == pytest.approx(1.96)
    to_query = np.linalg.inv(scene.graph["obj_0"][0])
    relative = to_query @ scene.graph["obj_4"][0]
    np.testing.assert_allclose(relative[:3, 3], BESIDE[:3], atol=1e-5)
    np.testing.assert_allclose(
        relative[:3, :3], 0.5 * np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]), atol=1e-5
    )


def test_glb_has_a_rough_material_linear_colours_and_unit_normals(result):
    glb = glb_bytes(build_scene(result), {"seed": 7})
    tree = _gltf_json(glb)
    assert tree["asset"]["extras"]["settings"] == {"seed": 7}
    assert [material["name"] for material in tree["materials"]] == ["obj_0", "obj_4"]
    for material in tree["materials"]:
        assert material["pbrMetallicRoughness"] == {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    for index, mesh in enumerate(tree["meshes"]):
        for primitive in mesh["primitives"]:
            assert primitive["material"] == index
            assert {"POSITION", "NORMAL", "COLOR_0"} <= primitive["attributes"].keys()
    loaded = trimesh.load(io.BytesIO(glb), file_type="glb", process=False).geometry["obj_0"]
    expected = np.rint(255 * srgb_to_linear(np.array([200, 100, 50]) / 255))
    assert (loaded.visual.vertex_attributes["color"][:, :3] == expected).all()
    np.testing.assert_allclose(np.linalg.norm(loaded.vertex_normals, axis=1), 1, atol=1e-5)


def test_nodes_have_the_numbers_of_the_poses(tmp_path, result):
    write_scene(replace(result, camera=VIEW), tmp_path / "room", ["glb"])
    record = json.loads((tmp_path / "room" / "poses.json").read_text())
    nodes = {
        node["name"]: node for node in _gltf_json((tmp_path / "room" / "scene.glb").read_bytes())["nodes"]
    }
    scale, centre = record["glb"]["scale"], np.array(record["glb"]["centre"])
    for entry in (record["objects"][0], record["objects"][2]):
        node, (w, *xyz) = nodes[entry["node"]], entry["rotation_wxyz"]
        assert "matrix" not in node
        np.testing.assert_allclose(
            node["translation"], scale * (np.array(entry["translation"]) - centre), atol=1e-6
        )
        np.testing.assert_allclose(node["rotation"], [*xyz, w], atol=1e-6)
        np.testing.assert_allclose(node["scale"], [scale * entry["scale"]] * 3, atol=1e-6)
    assert nodes["photo"]["camera"] == 0


def test_camera_of_the_glb_shows_the_scene_as_the_photo(tmp_path, result):
    write_scene(replace(result, camera=VIEW), tmp_path / "room", ["glb"])
    tree = _gltf_json((tmp_path / "room" / "scene.glb").read_bytes())
    lens = tree["cameras"][0]["perspective"]
    scene = trimesh.load_scene(tmp_path / "room" / "scene.glb", process=False)
    assert len(scene.geometry) == 2
    node = next(node for node in tree["nodes"] if node["name"] == "photo")
    turn = Rotation.from_quat(node["rotation"]).as_matrix()
    corner = result.objects[0].mesh.vertices[5]  # the query's frame is the object's own
    in_camera = (trimesh.transform_points([corner], scene.graph["obj_0"][0])[0] - node["translation"]) @ turn
    across = (
        in_camera[:2] / -in_camera[2] / (2 * np.tan(lens["yfov"] / 2))
    )  # in heights from the centre, y up
    (u, v), _ = VIEW.project(corner)  # in widths, y down
    np.testing.assert_allclose(across * VIEW.aspect, [u, -v], atol=1e-6)
    assert lens["aspectRatio"] == pytest.approx(1 / VIEW.aspect)


def test_compressed_glb_is_smaller_and_reads_the_same(tmp_path, result):
    for name in ("plain", "small"):
        write_scene(result, tmp_path / name, ["glb", "objects"], ExportOptions(compress=name == "small"))
    for file in ("scene.glb", "obj_4.glb"):
        plain, small = (tmp_path / name / file for name in ("plain", "small"))
        tree = _gltf_json(small.read_bytes())
        assert json.loads(small.with_name("poses.json").read_text())["export"]["compress"]
        assert tree["extensionsRequired"] == tree["extensionsUsed"] == ["KHR_mesh_quantization"]
        (before, after) = (trimesh.load_scene(path, process=False).to_mesh() for path in (plain, small))
        np.testing.assert_allclose(after.vertices, before.vertices, atol=1e-6)
        lengths = np.linalg.norm(after.vertex_normals, axis=1, keepdims=True)
        np.testing.assert_allclose(after.vertex_normals / lengths, before.vertex_normals, atol=0.01)
        (mine, *_), (true, *_) = read_glb(small), read_glb(plain)
        np.testing.assert_allclose(mine.vertices, true.vertices, atol=1e-6)


def test_textured_and_coloured_meshes_keep_their_own_materials():
    box = _box()
    uvs = np.zeros((len(box.vertices), 2), np.float32)
    picture = np.zeros((4, 4, 3), np.uint8)
    textured = TexturedMesh(box.vertices, box.faces, uvs, box.vertex_normals, picture).to_trimesh()
    objects = GeneratedObject(0, IDENTITY, LOGITS, _box()), GeneratedObject(1, BESIDE, LOGITS, textured)
    tree = _gltf_json(glb_bytes(build_scene(SceneResult(objects, 0))))
    used = {mesh["name"]: mesh["primitives"][0]["material"] for mesh in tree["meshes"]}
    materials = {name: tree["materials"][index] for name, index in used.items()}
    assert "baseColorTexture" not in materials["obj_0"]["pbrMetallicRoughness"]
    assert "baseColorTexture" in materials["obj_1"]["pbrMetallicRoughness"]
    for material in materials.values():
        assert material["pbrMetallicRoughness"]["metallicFactor"] == 0.0
    _, _, colours = joined_mesh(build_scene(SceneResult(objects, 0)))
    assert colours.shape == (16, 3) and not colours[8:].any()  # read from the black texture


def test_vertex_between_opposite_faces_gets_a_unit_normal():
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 1]], process=False)
    sheet.visual.vertex_colors = np.full((3, 4), 255, np.uint8)
    scene = build_scene(SceneResult((GeneratedObject(0, IDENTITY, LOGITS, sheet),), 0))
    loaded = trimesh.load(io.BytesIO(glb_bytes(scene)), file_type="glb", process=False).geometry["obj_0"]
    np.testing.assert_allclose(np.linalg.norm(loaded.vertex_normals, axis=1), 1, atol=1e-5)


def test_empty_object_keeps_its_pose_and_says_why_it_is_missing(tmp_path, result):
    write_scene(result, tmp_path / "room")
    record = json.loads((tmp_path / "room" / "poses.json").read_text())
    assert [(entry["id"], entry["node"]) for entry in record["objects"]] == [
        (0, "obj_0"),
        (2, None),
        (4, "obj_4"),
    ]
    assert record["objects"][1]["skipped"] == "the structure decoder left the grid empty"
    assert record["objects"][1]["translation"] == [2.0, 0.0, 0.0]
    assert record["settings"] == {"seed": 7} and record["seconds"] == {"sample": 1.235}
    assert not (tmp_path / "room" / "obj_2.glb").exists()


def test_record_holds_the_fitted_camera_in_image_sizes(tmp_path, result):
    view = PhotoCamera(np.eye(4), focal=1.2, aspect=0.75, overlap=0.5)
    seen = SceneResult(result.objects, 0, view)
    write_scene(seen, tmp_path / "room", ("poses", "preview"))
    camera = json.loads((tmp_path / "room" / "poses.json").read_text())["camera"]
    assert camera["extrinsics"] == np.eye(4).tolist()
    np.testing.assert_allclose(camera["intrinsics"], [[1.2, 0, 0.5], [0, 1.6, 0.5], [0, 0, 1]])


def test_record_says_in_words_and_matrices_how_the_frames_lie(tmp_path, result):
    write_scene(replace(result, camera=VIEW), tmp_path / "room", ("poses",))
    record = json.loads((tmp_path / "room" / "poses.json").read_text())
    assert "x right, y down, z forward" in record["camera"]["frame"] and "widths" in record["camera"]["frame"]
    assert "scale * (x_query - centre)" in record["glb"]["frame"] and "1.96" in record["glb"]["frame"]
    assert "box" in record["frame"] and "scene.ply" in record["ply_frame"]
    np.testing.assert_array_equal(record["ply_to_glb"], np.diag([1.0, -1.0, -1.0, 1.0]))


def test_record_has_box_and_number_of_faces_of_each_mesh(tmp_path, result):
    moved = _box()
    moved.apply_translation((0.01, 0, -0.02))
    objects = (replace(result.objects[0], mesh=moved), *result.objects[1:])
    write_scene(replace(result, objects=objects), tmp_path / "room", ("objects",))
    first, empty, _ = json.loads((tmp_path / "room" / "poses.json").read_text())["objects"]
    np.testing.assert_allclose(first["box"]["centre"], (0.01, 0, -0.02), atol=1e-9)
    np.testing.assert_allclose(first["box"]["size"], (1, 0.5, 0.25), atol=1e-9)
    assert first["faces"] == 12 and "box" not in empty
    bounds = trimesh.load_scene(tmp_path / "room" / "obj_0.glb").bounds
    np.testing.assert_allclose(bounds.mean(axis=0), first["box"]["centre"], atol=1e-6)


def test_centres_of_boxes_are_where_the_frames_in_words_put_them(tmp_path, result):
    """As ``frame`` and ``glb`` of poses.json say: from an object's frame to the query's and to scene.glb."""
    moved = _box()
    moved.apply_translation((0.01, 0, -0.02))
    objects = tuple(item if item.mesh is None else replace(item, mesh=moved) for item in result.objects)
    write_scene(replace(result, objects=objects), tmp_path / "room", ("glb",))
    record = json.loads((tmp_path / "room" / "poses.json").read_text())
    scene = trimesh.load_scene(tmp_path / "room" / "scene.glb", process=False)
    assert "x_query = scale * R(rotation_wxyz) @ p + translation" in record["frame"]
    for entry in (record["objects"][0], record["objects"][2]):
        w, *xyz = entry["rotation_wxyz"]
        turn = Rotation.from_quat([*xyz, w]).as_matrix()
        centre_query = entry["scale"] * turn @ entry["box"]["centre"] + entry["translation"]
        centre = record["glb"]["scale"] * (centre_query - record["glb"]["centre"])
        transform, mesh = scene.graph[entry["node"]]
        bounds = scene.geometry[mesh].bounds
        placed = trimesh.transform_points([bounds.mean(axis=0)], transform)[0]
        np.testing.assert_allclose(placed, centre, atol=1e-3)


def test_scene_without_meshes_is_refused(tmp_path):
    empty = SceneResult((GeneratedObject(0, IDENTITY, LOGITS, None, problem="why"),), 0)
    message = r"room: expected at least one object with a surface, got none of 1 \(why\)"
    with pytest.raises(ExportError, match=message):
        write_scene(empty, tmp_path / "room")
    assert not any(tmp_path.iterdir())


def test_unknown_format_is_refused(tmp_path, result):
    with pytest.raises(ValueError, match="format 'stl': expected one of glb, .*, obj"):
        write_scene(result, tmp_path / "room", ["stl"])


def test_complete_means_every_file_of_every_asked_format(tmp_path, result):
    folder = tmp_path / "room"
    assert not is_complete(folder, ["glb"])
    write_scene(result, folder, ["glb", "objects"])
    assert is_complete(folder, ["glb"]) and is_complete(folder, ["glb", "objects", "poses"])
    assert not is_complete(folder, ["glb", "preview"])
    (folder / "obj_4.glb").unlink()
    assert not is_complete(folder, ["glb"])


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"files": [], "formats": 3}'])
def test_record_of_something_else_is_not_complete(tmp_path, content):
    (tmp_path / "poses.json").write_text(content)
    assert not is_complete(tmp_path, ["glb"])


def test_extra_formats_are_files_of_the_scene_and_go_with_it(tmp_path, result):
    folder = tmp_path / "room"
    write_scene(result, folder, ["obj"])
    assert (folder / "scene.obj").is_file() and is_complete(folder, ["obj"])
    write_scene(result, folder, ["glb"])
    assert {path.name for path in folder.iterdir()} == {"scene.glb", "poses.json"}


def test_rewriting_removes_objects_that_are_gone_and_keeps_other_files(tmp_path, result):
    folder = tmp_path / "room"
    write_scene(result, folder)
    (folder / "notes.txt").write_text("mine")
    write_scene(SceneResult(result.objects[:1], 0), folder, ["objects"])
    assert {path.name for path in folder.iterdir()} == {"obj_0.glb", "poses.json", "notes.txt"}


def test_linear_light_of_known_values():
    np.testing.assert_allclose(
        srgb_to_linear(np.array([0, 0.04045, 0.5, 1])), [0, 0.0031308, 0.2140411, 1], atol=1e-6
    )


def test_processes_that_write_other_scenes_beside_do_not_disturb(result, tmp_path, monkeypatch):
    """Others make and remove the folder that all of them stage their files in."""
    make, attempts = Path.mkdir, []

    def removed_in_between(path, *arguments, **keywords):
        if path.name == "room" and path.parent.name == ".partial":
            attempts.append(path)
            if len(attempts) == 1:
                raise FileNotFoundError(path)
        make(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "mkdir", removed_in_between)
    other = tmp_path / ".partial" / "other" / "scene.glb"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"half a file")
    write_scene(result, tmp_path / "room", ("poses",))
    assert len(attempts) == 2 and other.read_bytes() == b"half a file"
    assert is_complete(tmp_path / "room", ("poses",))
