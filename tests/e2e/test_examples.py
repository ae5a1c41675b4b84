"""The examples run as they are written, on toy checkpoints and scenes."""

import json

import numpy as np
import pytest
import trimesh

from examples import batch, custom_masks, multi_image, single_image
from scenegen.inputs.scene_folder import read_scene
from scenegen.inputs.scene_images import SceneImages


def test_single_image(tmp_path, shared_checkpoint, write_scene):
    files = single_image.main(shared_checkpoint, write_scene(tmp_path / "room", 2), tmp_path / "out")
    assert {path.name for path in files} >= {"scene.glb", "obj_0.glb", "scene.obj", "preview.png"}
    settings = json.loads((tmp_path / "out" / "poses.json").read_text())["settings"]
    assert settings["refinement"]["penetration_after"] <= settings["refinement"]["penetration_before"]
    assert len(trimesh.load(tmp_path / "out" / "scene.glb").geometry) == 2


def test_multi_image(tmp_path, shared_checkpoint, write_scene):
    for view in ("view_0", "view_1"):
        write_scene(tmp_path / "room" / view, 2)
    files = multi_image.main(shared_checkpoint, tmp_path / "room", tmp_path / "out")
    assert (tmp_path / "out" / "scene.glb") in files


def test_batch_goes_on_after_a_bad_scene(tmp_path, shared_checkpoint, write_scene):
    for name in ("a", "b"):
        write_scene(tmp_path / "in" / name, 1)
    (tmp_path / "in" / "a" / "scene.jpg").unlink()
    reports = batch.main(shared_checkpoint, tmp_path / "in", tmp_path / "out")
    assert [report.status for report in reports] == ["failed", "done"]


def test_custom_masks(tmp_path, shared_checkpoint, write_scene):
    scene = custom_masks.main(shared_checkpoint, write_scene(tmp_path / "room", 2))
    assert sorted(scene.graph.nodes_geometry) == ["obj_0", "obj_1"]


def test_masks_that_do_not_fit_the_photo_are_refused(tmp_path, write_scene):
    photo = read_scene(write_scene(tmp_path / "room", 1))[0].photo
    for mask in (np.ones((4, 4)), np.zeros((36, 48))):
        with pytest.raises(ValueError, match="mask 0 has shape"):
            SceneImages.from_masks(photo, [mask])
