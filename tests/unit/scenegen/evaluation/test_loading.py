import json
import shutil

import numpy as np
import pytest

from scenegen.evaluation.loading import (
    EvaluationError,
    ObjectMesh,
    bounds,
    find_scene_files,
    load_poses,
    load_scene,
    normalise_scene,
    sample_surface,
)
from scenegen.geometry import SCENE_EXTENT

POSE = {"id": 0, "translation": [0, 0, 0], "rotation_wxyz": [1, 0, 0, 0], "scale": 1}


def test_both_layouts_in_natural_order(tmp_path, write_scene):
    for scene_id in ("scene_10", "scene_9"):
        write_scene(tmp_path, scene_id, 1)
    folder = tmp_path / "scene_1"
    folder.mkdir()
    shutil.copy(tmp_path / "scene_9.glb", folder / "scene.glb")
    shutil.copy(tmp_path / "scene_9.json", folder / "poses.json")
    (tmp_path / "scene_10.json").unlink()
    found = find_scene_files(tmp_path)
    assert list(found) == ["scene_1", "scene_9", "scene_10"]
    assert found["scene_1"].poses == folder / "poses.json"
    assert found["scene_10"].poses is None


def test_id_in_both_layouts_is_refused(tmp_path, write_scene):
    write_scene(tmp_path, "a", 1)
    (tmp_path / "a").mkdir()
    shutil.copy(tmp_path / "a.glb", tmp_path / "a" / "scene.glb")
    with pytest.raises(EvaluationError, match="'a' is there twice"):
        find_scene_files(tmp_path)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(EvaluationError, match="nowhere"):
        find_scene_files(tmp_path / "nowhere")


def test_twelve_objects_keep_their_numbers(tmp_path, write_scene):
    scene = load_scene(write_scene(tmp_path, "a", 12))
    assert scene.named and list(scene.objects) == list(range(12))
    centres = [np.mean(bounds([item.vertices]), axis=0)[0] for item in scene.objects.values()]
    assert np.all(np.diff(centres) > 1), "objects stand in a row along x in the order of their numbers"


def test_unnumbered_nodes_beside_numbered_ones_are_left_out(tmp_path, write_scene):
    scene = load_scene(write_scene(tmp_path, "a", 3, names=("obj_4", "floor", "obj_2")))
    assert list(scene.objects) == [2, 4]
    assert any("floor" in line for line in scene.warnings)


def test_unnamed_objects_are_numbered(tmp_path, write_scene):
    scene = load_scene(write_scene(tmp_path, "a", 3, names=("sofa", "table", "lamp")))
    assert not scene.named and list(scene.objects) == [0, 1, 2]


def test_normalised_scene_is_centred_with_fixed_longest_side(tmp_path, write_scene):
    scene = normalise_scene(load_scene(write_scene(tmp_path, "a", 3)))
    low, high = bounds(item.vertices for item in scene.objects.values())
    np.testing.assert_allclose(low, -high, atol=1e-9)
    assert (high - low).max() == pytest.approx(SCENE_EXTENT)


def test_samples_are_uniform_by_area():
    # Two triangles in the plane z = 0 with areas 1 and 3.
    item = ObjectMesh(
        0, np.array([[0, 0, 0], [2, 0, 0], [0, 1, 0], [-6, 0, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]])
    )
    points = sample_surface(item, 4000, np.random.default_rng(0))
    assert np.all(points[:, 2] == 0)
    assert np.mean(points[:, 0] > 0) == pytest.approx(0.25, abs=0.03)
    right = points[points[:, 0] > 0]
    np.testing.assert_allclose(right.mean(axis=0), [2 / 3, 1 / 3, 0], atol=0.05)


def test_symmetry_is_optional_and_quaternions_may_have_any_length(tmp_path):
    path = tmp_path / "poses.json"
    path.write_text(
        json.dumps({"objects": [POSE, POSE | {"id": 3, "rotation_wxyz": [2, 0, 0, 0], "symmetry": 0}]})
    )
    poses = load_poses(path)
    assert poses.query == 0 and poses.symmetry == {0: 1, 3: 0}
    assert poses.poses[3].tolist() == [0, 0, 0, 2, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0},
        {"scale": "big"},
        {"translation": [0, 0]},
        {"rotation_wxyz": [0, 0, 0, 0]},
        {"translation": [0, float("nan"), 0]},
        {"symmetry": -1},
        {"id": 5},
    ],
)
def test_bad_poses_are_named(tmp_path, change):
    path = tmp_path / "poses.json"
    path.write_text(json.dumps({"query": 0, "objects": [POSE | change]}))
    with pytest.raises(EvaluationError, match="poses.json"):
        load_poses(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"objects": 3}', '{"objects": [1]}'])
def test_files_of_another_form_are_named(tmp_path, text):
    path = tmp_path / "poses.json"
    path.write_text(text)
    with pytest.raises(EvaluationError, match="poses.json"):
        load_poses(path)
