"""Camera, floor and scale of a scene, in its record and in the extras of its GLB."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from scenegen.export.data_root import write_root_scene
from scenegen.export.frames import in_frame_of
from scenegen.export.photo_facts import PhotoFacts, measured_errors
from scenegen.export.scene_files import write_scene
from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.photo.mask_overlap import MaskOverlap
from scenegen.pipelines.result import GeneratedObject, SceneResult

SOFA, TABLE = (1.0, 0.4, 0.45), (1.0, 0.4, 0.6)


def thing(number: int, size: tuple[float, float, float], at: tuple[float, float, float], scale: float):
    mesh = trimesh.creation.box(size)
    mesh.visual.vertex_colors = [200, 100, 50, 255]
    return GeneratedObject(number, torch.tensor([*at, 1, 0, 0, 0, scale]), torch.zeros(2, 2, 2), mesh)


@pytest.fixture
def result() -> SceneResult:
    """A sofa of 2 m, which is the unit, and a table of 1 m before it, seen from 1.5 m above the floor."""
    table = thing(1, TABLE, (0, -0.2 + 0.1, 0.8), 0.5)
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(0.0, np.deg2rad(12))
    extrinsics[:3, 3] = -extrinsics[:3, :3] @ [0.3, -0.2 + 0.75, 3.0]
    camera = PhotoCamera(extrinsics, focal=1.0, aspect=0.75, overlap=0.4, modal_overlap=0.6)
    overlaps = {0: MaskOverlap(0.7, 0.5), 1: MaskOverlap(None, 0.3)}
    return SceneResult((thing(0, SOFA, (0, 0, 0), 1.0), table), 0, camera, overlaps=overlaps)


def extras(path) -> dict:
    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 12)
    return json.loads(content[20 : 20 + length])["asset"]["extras"]["photo"]


def test_record_states_camera_floor_and_scale_with_their_errors(result, tmp_path):
    write_scene(result, tmp_path / "room", ("poses",))
    record = json.loads((tmp_path / "room" / "poses.json").read_text())
    assert record["floor"]["height"] == pytest.approx(-0.2)
    scale, camera = record["metric_scale"], record["camera"]
    assert scale["low"] < scale["metres_per_unit"] < scale["high"]
    assert scale["metres_per_unit"] == pytest.approx(2.0, rel=0.3)
    assert camera["elevation_deg"] == pytest.approx(12) and camera["azimuth_deg"] == pytest.approx(0)
    assert camera["field_of_view_deg"] == pytest.approx(53.13, abs=0.01)
    assert camera["height_m"] == pytest.approx(0.75 * scale["metres_per_unit"])
    assert camera["modal_overlap"] == 0.6 and camera["mask_overlap"] == 0.4
    known = measured_errors()["figures"]
    assert camera["error"] == {
        name: known[name] for name in ("elevation_deg", "field_of_view_deg", "height_m")
    }
    assert record["floor"]["error"] == {"floor": known["floor"]}
    assert scale["error"] == {"metres_per_unit": known["metres_per_unit"]}
    assert "training split" in scale["source"]
    assert [entry["modal_overlap"] for entry in record["objects"]] == [0.7, None]
    assert [entry["mask_overlap"] for entry in record["objects"]] == [0.5, 0.3]


def test_glb_states_the_same_in_its_own_frame(result, tmp_path):
    write_scene(result, tmp_path / "room", ("glb", "poses"))
    record = json.loads((tmp_path / "room" / "poses.json").read_text())
    facts, glb = extras(tmp_path / "room" / "scene.glb"), record["glb"]
    bottom = trimesh.load_scene(tmp_path / "room" / "scene.glb").bounds[0, 1]
    assert facts["floor"]["height"] == pytest.approx(bottom)
    metres = facts["metric_scale"]["metres_per_unit"]
    assert metres * glb["scale"] == pytest.approx(record["metric_scale"]["metres_per_unit"])
    assert facts["camera"]["node"] == "photo"
    assert facts["camera"]["height_m"] == pytest.approx(record["camera"]["height_m"])


def test_scenes_of_a_data_root_state_it_too(result, tmp_path):
    write_root_scene(result, tmp_path, "room")
    assert extras(tmp_path / "room.glb")["floor"]["normal"] == [0, 1, 0]
    assert json.loads((tmp_path / "room.json").read_text())["metric_scale"]["metres_per_unit"] > 0


def test_facts_do_not_depend_on_the_frame(result):
    here, there = PhotoFacts.of(result), PhotoFacts.of(in_frame_of(result, 1))
    assert there.scale.metres_per_unit == pytest.approx(here.scale.metres_per_unit / 2, rel=0.03)
    heights = [facts.camera_height() * facts.scale.metres_per_unit for facts in (here, there)]
    assert heights[1] == pytest.approx(heights[0], rel=0.03)


def test_without_a_camera_floor_and_scale_remain(result, tmp_path):
    write_scene(replace(result, camera=None, overlaps={}), tmp_path / "room", ("glb", "poses"))
    record = json.loads((tmp_path / "room" / "poses.json").read_text())
    assert record["camera"] is None and record["floor"]["height"] == pytest.approx(-0.2)
    assert extras(tmp_path / "room" / "scene.glb")["camera"] is None
    assert "modal_overlap" not in record["objects"][0]


def test_errors_were_measured():
    table = measured_errors()
    assert table["scenes"] >= 20 and "photo_camera" in table["made_by"]
    for entry in table["figures"].values():
        assert 0 < entry["median"] <= entry["p90"] and entry["unit"]
