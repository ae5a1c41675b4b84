"""True scenes: that predicting them is perfect, their frames, cameras and pictures, and what is named."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation

from dataset_toolkits import build_scene
from scenegen.datasets.metadata import read_scenes
from scenegen.datasets.model_boxes import ModelBoxes
from scenegen.datasets.poses import training_poses
from scenegen.datasets.tables import read_lines
from scenegen.evaluation.loading import find_scene_files, load_poses, load_scene
from scenegen.evaluation.scene import evaluate_scene
from scenegen.evaluation.scene_files import ScenePair
from scenegen.evaluation.settings import EvaluationSettings
from scenegen.export.data_root import write_root_scene
from scenegen.export.frames import in_frame_of
from scenegen.pipelines.result import GeneratedObject, SceneResult

PHOTO = "1000000"


def run(root: Path, *flags: str) -> int:
    return build_scene.main(["3D-FUTURE", "--output_dir", str(root), "--engine", "EMBREE", *flags])


@pytest.fixture
def truth(finished) -> Path:
    """A data root with its true scenes, not drawn."""
    assert run(finished, "--no_render") == 0
    return finished


def predict(root: Path, folder: Path, query: int) -> None:
    """Write what a perfect prediction with this query gives, in the frame of object 0 as `--set` does."""
    rows = [row for row in read_scenes(root / "metadata_scene_test.csv") if row.scene_id == PHOTO]
    order = [query, *(number for number in range(len(rows)) if number != query)]
    poses = training_poses(rows, order, centred=True)[np.argsort(order)]
    boxes, objects = ModelBoxes(root), []
    for row, pose in zip(rows, poses):
        model = trimesh.load(boxes.path(row.model_id), force="mesh", process=False)
        mesh = trimesh.Trimesh((model.vertices - row.center) / row.scale, model.faces, process=False)
        objects.append(GeneratedObject(row.instance_id, pose, torch.zeros(2, 2, 2), mesh))
    result = SceneResult(tuple(objects), rows[query].instance_id)
    write_root_scene(in_frame_of(result, min(row.instance_id for row in rows)), folder, PHOTO)


def evaluated(prediction: Path, truth: Path) -> dict:
    pair = ScenePair(find_scene_files(truth)[PHOTO], find_scene_files(prediction)[PHOTO])
    return evaluate_scene(pair, EvaluationSettings(num_points=1000))


@pytest.mark.parametrize("query", [0, 1])
def test_predicting_the_truth_is_perfect_whichever_object_is_the_query(truth, tmp_path, query):
    assert any(row.center[1] > 0.1 for row in read_scenes(truth / "metadata_scene_test.csv")), (
        "origin at the floor"
    )
    predict(truth, tmp_path / "prediction", query)
    record = evaluated(tmp_path / "prediction", truth / "scene_test")
    assert record["status"] == "evaluated"
    objects = record["protocols"]["corrected"]["objects"]
    assert len(objects) == 2
    for item in objects:
        assert item["metrics"]["iou_bbox_unaligned"] == pytest.approx(1, abs=1e-4)
        assert (
            item["metrics"]["iou_bbox"] > 0.95
        )  # points of a surface are drawn anew, which moves the alignment
    other = objects[1]["metrics"]
    assert other["rotation_error_deg"] == pytest.approx(0, abs=1e-4)
    assert other["translation_error"] == pytest.approx(0, abs=1e-6)


def test_poses_without_the_centres_would_not_be_perfect(truth, tmp_path):
    """The published targets take a file's origin for the centre of its box, which shows at the floor."""
    rows = [row for row in read_scenes(truth / "metadata_scene_test.csv") if row.scene_id == PHOTO]
    right, published = training_poses(rows, [0, 1], centred=True), training_poses(rows, [0, 1])
    moved = [dataclasses.replace(row, center=(0.0, 0.0, 0.0)) for row in rows]
    torch.testing.assert_close(training_poses(moved, [0, 1], centred=True), published)
    tilted = dataclasses.replace(rows[1], rotation=(rows[1].rotation[0] + 90, *rows[1].rotation[1:]))
    right, published = (
        training_poses([rows[0], tilted], [0, 1], centred=centred) for centred in (True, False)
    )
    assert (right - published).abs().max() > 0.1


def test_a_scene_is_centred_and_its_nodes_are_numbered_as_the_masks(truth):
    scene = load_scene(truth / "scene_test" / f"{PHOTO}.glb")
    assert scene.named and list(scene.objects) == [0, 1]
    vertices = np.concatenate([item.vertices for item in scene.objects.values()])
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    np.testing.assert_allclose(low + high, 0, atol=1e-6)
    assert (high - low).max() == pytest.approx(1.96)
    poses = load_poses(truth / "scene_test" / f"{PHOTO}.json")
    assert poses.query == 0 and poses.poses[0].tolist() == [0, 0, 0, 1, 0, 0, 0, 1]


def test_legacy_normalisation_is_that_of_the_published_scenes(truth, tmp_path):
    """x -> f x - c of the scene in the coordinates of the first model's file."""
    rows = [row for row in read_scenes(truth / "metadata_scene_test.csv") if row.scene_id == PHOTO]
    shutil.rmtree(truth / "scene_test")
    assert run(truth, "--no_render", "--legacy_normalize") == 0
    rotations = [Rotation.from_euler("xyz", row.rotation, degrees=True) for row in rows]
    clouds = []
    for row, rotation in zip(rows, rotations):
        model = trimesh.load(ModelBoxes(truth).path(row.model_id), force="mesh", process=False)
        in_camera = rotation.apply(model.vertices) + row.translation
        clouds.append(rotations[0].inv().apply(in_camera - rows[0].translation))
    low, high = np.min([c.min(0) for c in clouds], 0), np.max([c.max(0) for c in clouds], 0)
    scene = load_scene(truth / "scene_test" / f"{PHOTO}.glb")
    for number, cloud in enumerate(clouds):
        expected = 1.96 / (high - low).max() * cloud - (low + high) / 2
        found = scene.objects[number].vertices
        np.testing.assert_allclose(found.min(0), expected.min(0), atol=1e-5)
        np.testing.assert_allclose(found.max(0), expected.max(0), atol=1e-5)


def assert_drawn_where_the_masks_are(root: Path) -> None:
    """Pixels that the picture fills are in a mask, and those that it leaves out are in none."""
    masks = [np.asarray(Image.open(path))[..., 0] > 0
             for path in (root / "masked_images_test" / PHOTO).glob("*_mask.png")]  # fmt: skip
    union = np.any(masks, axis=0)
    with Image.open(root / "scene_test_render" / f"{PHOTO}.png") as picture:
        assert picture.mode == "RGBA" and picture.size == (96, 96)
        alpha = np.asarray(picture)[..., 3]
    assert (alpha == 255).sum() > 1000
    assert (~union[alpha == 255]).sum() + union[alpha == 0].sum() <= 0.002 * union.sum()


def test_a_picture_shows_the_objects_where_their_masks_are(truth):
    assert run(truth) == 0
    entry = json.loads((truth / "scene_test_render" / "render_cfg.json").read_text())[PHOTO]
    assert (
        entry["render_path"] == f"scene_test_render/{PHOTO}.png" and entry["width"] == entry["height"] == 96
    )
    assert_drawn_where_the_masks_are(truth)


def test_a_second_run_makes_nothing_again_and_other_settings_do(truth):
    assert run(truth) == 0
    files = sorted(
        path for folder in ("scene_test", "scene_test_render") for path in (truth / folder).iterdir()
    )
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    assert run(truth) == 0
    for path, (content, time) in before.items():
        assert path.read_bytes() == content
        assert path.name == "render_cfg.json" or path.stat().st_mtime_ns == time
    assert run(truth, "--legacy_normalize") == 0
    assert (truth / "scene_test" / f"{PHOTO}.json").read_bytes() != before[
        truth / "scene_test" / f"{PHOTO}.json"
    ][0]


@pytest.mark.parametrize("lost", ["scene_test/{}.glb", "scene_test/{}.json", "scene_test_render/{}.png"])
def test_lost_files_are_made_again(truth, lost):
    assert run(truth) == 0
    path = truth / lost.format(PHOTO)
    content = path.read_bytes()
    path.unlink()
    assert run(truth) == 0
    assert path.read_bytes() == content


@pytest.mark.slow
def test_the_shell_script_shares_the_photos_and_merges_the_cameras(lookalike):
    one, two = lookalike(faults=True), lookalike(faults=True)
    assert run(one) == 1
    script = Path(build_scene.__file__).with_name("build_scene.sh")
    command = ["bash", str(script), "-o", str(two), "-g", "1", "-w", "2", "--", "--engine", "EMBREE"]
    ended = subprocess.run(
        command, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True
    )
    assert ended.returncode == 1, "some annotations are wrong"
    for folder in ("scene_test", "scene_test_render"):
        for path in sorted((one / folder).iterdir()):
            assert path.read_bytes() == (two / folder / path.name).read_bytes()
        assert len(list((one / folder).iterdir())) == len(list((two / folder).iterdir()))
    failed = [path.name for path in sorted(two.glob("failed_scene_test_*"))]
    assert failed == ["failed_scene_test_0_0.csv", "failed_scene_test_0_1.csv"]


def test_faults_are_named_and_the_rest_goes_on(lookalike):
    root = lookalike(faults=True)
    assert run(root, "--no_render") == 1
    failed = {cells["item"]: cells["error"] for _, cells in read_lines(root / "failed_scene_test_0.csv", [])}
    assert "expected one fov for a photo" in failed["1990004"]
    assert "expected run lengths" in failed["annotation 8001 of 1000000"] or "no pixel" in str(failed)
    assert (root / "scene_test" / f"{PHOTO}.glb").is_file()
    assert not (root / "scene_test" / "1990004.glb").exists()


def test_too_many_failures_stop_a_run(lookalike, caplog):
    root = lookalike(faults=True)
    assert run(root, "--no_render", "--max_failures", "3") == 1
    assert "more than 3 failed (--max-failures); stopped" in caplog.text
    assert not (root / "scene_test" / "1990000.glb").exists(), "the photos after it"


def test_hidden_objects_are_kept_on_request_behind_the_others(lookalike):
    root = lookalike(faults=True)
    assert run(root, "--no_render", "--keep_hidden") == 1, "other annotations are wrong"
    kept = load_poses(root / "scene_test" / f"{PHOTO}.json").poses
    assert len(kept) == 4, "two of the annotations have a mask without a pixel"
    scene = load_scene(root / "scene_test" / f"{PHOTO}.glb")
    assert list(scene.objects) == [0, 1, 2, 3]


def test_blender_that_is_missing_or_fails_is_one_line_a_scene(truth):
    command = ["3D-FUTURE", "--output_dir", str(truth)]
    assert build_scene.main([*command, "--blender_path", str(truth / "no-blender")]) == 1
    (failed,) = [cells for _, cells in read_lines(truth / "failed_scene_test_0.csv", [])]
    assert failed["item"] == PHOTO and "no such program" in failed["error"]
    assert build_scene.main([*command, "--blender_path", "/bin/false"]) == 1
    (failed,) = [cells for _, cells in read_lines(truth / "failed_scene_test_0.csv", [])]
    assert "ended with status 1" in failed["error"]


@pytest.mark.parametrize("text", ["", "[]", '{"1000000": '])
def test_damaged_cameras_are_named_and_written_again_when_they_are_removed(truth, caplog, text):
    path = truth / "scene_test_render" / "render_cfg.json"
    cameras = path.read_text()
    path.write_text(text)
    assert run(truth, "--no_render") == 1
    assert str(path) in caplog.records[-1].message and "remove the file" in caplog.records[-1].message
    path.unlink()
    assert run(truth, "--no_render") == 0
    assert path.read_text() == cameras


def test_without_annotations_there_is_one_line(truth, caplog):
    (truth / "raw" / "3D-FUTURE-scene" / "GT" / "test_set.json").unlink()
    assert run(truth) == 1
    assert "test_set.json: no such file; place the annotations" in caplog.records[-1].message


def test_only_the_test_set_has_true_scenes(capsys):
    for command in (["--set", "train"], ["--worker_id", "1"], ["--gpu_num", "2", "--gpu_id", "2"]):
        with pytest.raises(SystemExit):
            build_scene.main(["3D-FUTURE", "--output_dir", "nowhere", *command])
    assert "--worker-id" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("blender") is None, reason="needs Blender on the search path")
def test_blender_draws_the_objects_where_their_masks_are(truth):
    assert build_scene.main(["3D-FUTURE", "--output_dir", str(truth), "--samples", "16"]) == 0
    assert_drawn_where_the_masks_are(truth)
