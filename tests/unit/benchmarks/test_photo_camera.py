"""The benchmark of camera, floor and scale on scenes whose truth is known."""

import json

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from benchmarks import photo_camera
from scenegen.export import photo_facts
from scenegen.export.scene_files import write_scene
from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.photo.silhouettes import visible_objects
from scenegen.pipelines.result import GeneratedObject, SceneResult, placed_surface

SOFA, TABLE = (1.0, 0.45, 0.5), (1.0, 0.5, 0.7)
METRES = 2.0


def scene(floor_of_table: float = 0.0) -> SceneResult:
    """A sofa of 2 m and a table of 1.2 m, which may hover, seen from 9 degrees above."""
    items = []
    for number, size, at, scale in ((0, SOFA, (0, 0, 0), 1.0), (1, TABLE, (0.3, -0.075, 0.9), 0.6)):
        mesh = trimesh.creation.box(size).subdivide_to_size(0.05)
        mesh.visual.vertex_colors = [200, 100, 50, 255]
        pose = torch.tensor([*at, 1, 0, 0, 0, scale])
        pose[1] += floor_of_table * number
        items.append(GeneratedObject(number, pose, torch.zeros(2, 2, 2), mesh))
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(0.5, np.deg2rad(9))
    extrinsics[:3, 3] = 0.05, 0.1, 3.2
    return SceneResult(tuple(items), 0, PhotoCamera(extrinsics, focal=1.05, aspect=1.0))


@pytest.fixture
def folders(tmp_path):
    truth, made = scene(), scene(floor_of_table=0.05)
    for name, result in (("truth", truth), ("made", made)):
        write_scene(result, tmp_path / name / "a", ("glb", "poses"))
    path = tmp_path / "truth" / "a" / "poses.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"query_size_m": METRES}))
    owner = visible_objects([placed_surface(item) for item in truth.objects], [truth.camera], 200)[0]
    folder = tmp_path / "images" / "a"
    folder.mkdir(parents=True)
    Image.new("RGB", (200, 200), (90, 120, 150)).save(folder / "scene.png")
    for index in range(2):
        Image.fromarray((owner == index).astype(np.uint8) * 255).save(folder / f"{index}_mask.png")
    return tmp_path


def run(folders, *options) -> int:
    names = {"prediction": "made", "truth": "truth", "images": "images", "output": "r.json"}
    flags = [part for flag, name in names.items() for part in (f"--{flag}", f"{folders}/{name}")]
    return photo_camera.main([*flags, *options])


def test_true_shapes_tell_the_camera_and_errors_are_written(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(photo_camera, "ERRORS_FILE", tmp_path / "errors.json")
    assert run(folders, "--write-errors") == 0
    report = json.loads((folders / "r.json").read_text())
    for name in ("all", "low"):
        true = report[name]["true"]
        assert report[name]["scenes"] == 1
        assert true["elevation_deg"]["median"] < 1.5 and true["modal_overlap"]["mean"] > 0.9
        assert true["modal_overlap_of_true_camera"]["mean"] > 0.96
        assert true["metres_per_unit"]["median"] < 0.5
    assert report["all"]["generated"]["floor"]["median"] < 0.03
    errors = photo_facts.measured_errors(tmp_path / "errors.json")
    assert errors["scenes"] == 1 and set(errors["figures"]) == set(photo_camera.UNITS)


def test_second_run_takes_what_was_measured(folders, monkeypatch):
    assert run(folders) == 0
    monkeypatch.setattr(photo_camera, "measure", None)
    assert run(folders) == 0


def test_folders_without_a_common_scene_are_refused(folders, caplog):
    (folders / "made" / "a").rename(folders / "made" / "b")
    assert run(folders) == 2
    assert "found none" in caplog.text
