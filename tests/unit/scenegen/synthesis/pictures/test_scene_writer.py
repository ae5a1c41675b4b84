"""Scene files: masked images, truth GLB and poses, depth."""

import json
import math
import struct
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from PIL import Image

from scenegen.evaluation.loading import load_poses
from scenegen.geometry import pose_to_transform
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.layouts.scene_layout import (
    Camera,
    Lighting,
    PlacedObject,
    Room,
    SceneLayout,
    query_poses,
    world_poses,
)
from scenegen.synthesis.pictures.render_mesh import RenderMesh
from scenegen.synthesis.pictures.scene_renderer import BACKGROUND, ScenePicture, render_scene
from scenegen.synthesis.pictures.scene_writer import (
    ScenePaths,
    cutout,
    write_depth,
    write_images,
    write_masked_scene,
)

SIZE = 96
EXTENTS = {"cube": (1.0, 1.0, 1.0), "plank": (1.0, 0.2, 0.4)}
INFOS = {
    "cube": ModelInfo("cube", "Cube", "Cabinet/Shelf/Desk", "floor", "test", (1.2, 1.2, 1.2), symmetry=4),
    "plank": ModelInfo("plank", "Plank", "Table", "floor", "test", (1.0, 0.2, 0.4), symmetry=2),
}


def box(name: str) -> FurnitureMesh:
    mesh = trimesh.creation.box(extents=EXTENTS[name])
    return FurnitureMesh(mesh.vertices, mesh.faces, np.tile(np.uint8([30, 120, 220]), (len(mesh.faces), 1)))


MESHES = {name: box(name) for name in EXTENTS}


@pytest.fixture
def scene() -> tuple[SceneLayout, ScenePicture]:
    layout = SceneLayout(
        scene_id="t1",
        objects=(
            PlacedObject("cube", (0.6, 0.6, 0.0), 0.2, 1.2),
            PlacedObject("plank", (-0.9, 0.1, 0.4), 0.5, 1.0),
        ),
        camera=Camera((0.3, 2.0, 4.0), (0.0, 0.4, 0.0), 50.0),
        lighting=Lighting((0.0, 1.0, 0.0), 0.5, 0.5),
        room=Room((0.6, 0.5, 0.4), (0.9, 0.9, 0.9)),
    )
    textured = {name: RenderMesh.from_furniture(mesh) for name, mesh in MESHES.items()}
    return layout, render_scene(layout, textured, SIZE)


def test_an_object_without_a_pixel_is_refused(scene, tmp_path):
    layout, picture = scene
    hidden = replace(picture, instances=np.where(picture.instances == 1, BACKGROUND, picture.instances))
    paths = ScenePaths.of(tmp_path, "test", "t1")
    with pytest.raises(ValueError, match="t1: expected every object in the picture, plank has no pixel"):
        write_masked_scene(layout, hidden, MESHES, INFOS, paths)
    assert not paths.complete()


def test_the_written_scene_reads_back(scene, tmp_path):
    layout, picture = scene
    paths = ScenePaths.of(tmp_path, "test", "t1")
    assert not paths.complete()
    write_masked_scene(layout, picture, MESHES, INFOS, paths, with_depth=True)
    assert paths.complete(with_depth=True)
    names = {path.name for path in paths.images.iterdir()}
    assert names == {"scene.jpg", "0.png", "0_mask.png", "1.png", "1_mask.png"}
    photo = np.asarray(Image.open(paths.images / "scene.jpg"), dtype=int)
    assert np.abs(photo - picture.colour).mean() < 4
    for number in (0, 1):
        mask = np.asarray(Image.open(paths.images / f"{number}_mask.png"))
        assert mask.shape == (SIZE, SIZE, 3) and set(np.unique(mask)) == {0, 255}
        np.testing.assert_array_equal(mask[..., 0] > 0, picture.instances == number)
        image = Image.open(paths.images / f"{number}.png")
        assert image.mode == "RGBA" and image.size == (518, 518)
    depth = np.asarray(Image.open(paths.depth))
    seen = picture.depth < 65  # what 16 bits of millimetres can hold
    np.testing.assert_allclose(depth[seen] / 1000, picture.depth[seen], atol=6e-4)


def test_writing_a_scene_again_leaves_other_files_beside_its_pictures(scene, tmp_path):
    layout, picture = scene
    folder = tmp_path / "room"
    write_images(layout, picture, folder)
    for name in ("notes.txt", "boxes.json", "0_mask_corrected.png", "7.png"):
        (folder / name).write_text("mine")
    (folder / "0.png").write_text("old")
    write_images(layout, picture, folder)
    assert not (folder / "7.png").exists()  # of an object that is no more
    assert all(
        (folder / name).read_text() == "mine" for name in ("notes.txt", "boxes.json", "0_mask_corrected.png")
    )
    assert Image.open(folder / "0.png").mode == "RGBA" and not (tmp_path / "room.part").exists()


def test_truth_glb_has_nodes_that_can_be_moved_and_materials_of_their_own(scene, tmp_path):
    layout, picture = scene
    paths = ScenePaths.of(tmp_path, "test", "room")
    write_masked_scene(layout, picture, MESHES, INFOS, paths)
    content = paths.glb.read_bytes()
    tree = json.loads(content[20 : 20 + struct.unpack_from("<I", content, 12)[0]])
    names = [f"obj_{number}" for number in range(len(layout.objects))]
    for kind in ("nodes", "meshes", "materials"):
        assert [entry["name"] for entry in tree[kind]] == names
    assert all("matrix" not in node and len(node["rotation"]) == 4 for node in tree["nodes"])
    truth = json.loads(paths.truth.read_text())
    assert "scale * (x_query - centre)" in truth["glb"]["frame"] and "widths" in truth["camera"]["frame"]


def test_truth_poses_and_glb_agree_with_the_world(scene, tmp_path):
    layout, picture = scene
    paths = ScenePaths.of(tmp_path, "test", "t1")
    write_masked_scene(layout, picture, MESHES, INFOS, paths)
    truth = json.loads(paths.truth.read_text())
    poses = [[*item["translation"], *item["rotation_wxyz"], item["scale"]] for item in truth["objects"]]
    np.testing.assert_allclose(poses, query_poses(layout), atol=1e-6)
    assert [item["node"] for item in truth["objects"]] == ["obj_0", "obj_1"]
    glb = trimesh.load_scene(paths.glb, process=False)
    np.testing.assert_allclose(glb.bounds.mean(axis=0), 0, atol=1e-5)
    assert glb.extents.max() == pytest.approx(1.96, abs=1e-5)
    to_world = pose_to_transform(world_poses(layout)).numpy()
    for number, placed in enumerate(layout.objects):
        matrix, geometry = glb.graph[f"obj_{number}"]
        corners = trimesh.transform_points(glb.geometry[geometry].vertices, matrix)
        in_query = corners / truth["glb"]["scale"] + truth["glb"]["centre"]
        own = MESHES[placed.model_id].vertices
        expected = trimesh.transform_points(own, np.linalg.inv(to_world[0]) @ to_world[number])
        np.testing.assert_allclose(in_query, expected, atol=1e-5)


def test_truth_tells_the_evaluation_which_turns_look_the_same(scene, tmp_path):
    layout, picture = scene
    paths = ScenePaths.of(tmp_path, "test", "t1")
    write_masked_scene(layout, picture, MESHES, INFOS, paths)
    objects = json.loads(paths.truth.read_text())["objects"]
    assert [(item["name"], item["symmetry"]) for item in objects] == [("Cube", 4), ("Plank", 2)]
    assert load_poses(paths.truth).symmetry == {0: 4, 1: 2}


def test_the_truth_camera_sees_the_objects_where_their_masks_are(scene, tmp_path):
    layout, picture = scene
    paths = ScenePaths.of(tmp_path, "test", "t1")
    write_masked_scene(layout, picture, MESHES, INFOS, paths)
    camera = json.loads(paths.truth.read_text())["camera"]
    extrinsics, intrinsics = np.array(camera["extrinsics"]), np.array(camera["intrinsics"])
    assert np.linalg.det(extrinsics[:3, :3]) == pytest.approx(1.0)
    for number, pose in enumerate(query_poses(layout).numpy()):
        seen = extrinsics[:3, :3] @ pose[:3] + extrinsics[:3, 3]
        column, row, _ = (intrinsics @ seen / seen[2] * SIZE).astype(int)
        assert picture.instances[row, column] == number


def test_cutout_keeps_the_aspect_and_lets_no_background_in():
    colour = np.full((40, 60, 3), 255, np.uint8)  # white around a green bar
    mask = np.zeros((40, 60), bool)
    mask[10:20, 5:45] = True
    colour[mask] = (0, 160, 0)
    image = np.asarray(cutout(colour, mask, size=80))
    rows, columns = np.nonzero(image[..., 3])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (30, 49, 0, 79)
    assert (image[image[..., 3] > 0][:, :3] == (0, 160, 0)).all()


def test_cutout_refuses_an_empty_mask():
    with pytest.raises(ValueError, match="empty"):
        cutout(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool))


def test_depth_beyond_sixteen_bits_is_zero(tmp_path):
    write_depth(np.float32([[math.inf, 1.2344], [70.0, 65.535]]), tmp_path / "d.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "d.png")), [[0, 1234], [0, 65535]])
