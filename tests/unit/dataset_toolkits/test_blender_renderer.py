"""The job handed to Blender, and the errors around running it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_toolkits import blender_renderer
from dataset_toolkits.blender_renderer import BlenderLook, blender_job, render_with_blender
from scenegen.blender.program import BlenderError
from scenegen.synthesis.layouts.scene_layout import Camera, Lighting, PlacedObject, Room, SceneLayout

LAYOUT = SceneLayout(
    scene_id="s",
    objects=(PlacedObject("chair", (1.0, 0.5, 2.0), 0.3, 0.9),),
    camera=Camera((0.0, 1.0, 5.0), (0.0, 0.5, 0.0), 50.0),
    lighting=Lighting((0.0, 1.0, 0.0), 0.5, 0.5),
    room=Room((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
)
GLBS = {"chair": Path("chair.glb")}


def test_the_job_holds_world_matrices(tmp_path):
    job = blender_job(LAYOUT, GLBS, 64, 4, tmp_path / "p.png")
    front = np.array(job["objects"][0]["matrix"]) @ [0.0, 0.0, 1.0, 1.0]
    np.testing.assert_allclose(front[:3], [1 + 0.9 * np.sin(0.3), 0.5, 2 + 0.9 * np.cos(0.3)])
    np.testing.assert_allclose(np.array(job["camera_to_world"])[:3, 3], LAYOUT.camera.position)


def test_changed_models_are_refused(tmp_path):
    mirrored = replace(LAYOUT, objects=(replace(LAYOUT.objects[0], mirror=True),))
    with pytest.raises(BlenderError, match="chair is mirrored or stretched"):
        blender_job(mirrored, GLBS, 64, 4, tmp_path / "p.png")


def test_a_missing_program_and_a_failed_run_are_named(tmp_path):
    log = tmp_path / "blender.log"
    with pytest.raises(BlenderError, match="s: no-such-blender: no such program"):
        render_with_blender(LAYOUT, GLBS, 64, 4, log, executable="no-such-blender")
    with pytest.raises(BlenderError, match="s: false ended with status 1; see .*blender.log"):
        render_with_blender(LAYOUT, GLBS, 64, 4, log, executable="false")


def test_a_look_depends_on_its_number_and_needs_photos(tmp_path):
    with pytest.raises(BlenderError, match="install blender-data"):
        BlenderLook.draw(0, tmp_path)
    for name in ("a.exr", "b.exr"):
        (tmp_path / name).touch()
    looks = [BlenderLook.draw(number, tmp_path) for number in range(3)]
    assert [look.hdri.name for look in looks] == ["a.exr", "b.exr", "a.exr"]
    assert looks[0] == BlenderLook.draw(0, tmp_path) and looks[0].turn != looks[2].turn


def test_the_look_is_part_of_the_job(tmp_path, monkeypatch):
    jobs = []

    def run(script, job, *rest):
        jobs.append(job)
        Image.new("RGB", (64, 64)).save(job["picture"])

    monkeypatch.setattr(blender_renderer, "run_blender", run)
    look = BlenderLook(tmp_path / "a.exr", 0.5, 1.2, 7)
    assert render_with_blender(LAYOUT, GLBS, 64, 4, tmp_path / "log", look=look).shape == (64, 64, 3)
    assert jobs[0]["look"] == {"hdri": str(tmp_path / "a.exr"), "turn": 0.5, "strength": 1.2, "seed": 7}
    render_with_blender(LAYOUT, GLBS, 64, 4, tmp_path / "log")
    assert "look" not in jobs[1]
