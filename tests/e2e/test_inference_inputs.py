"""Unusual photos and masks through the command line: what is made, what is left out, and what is said."""

import json

import numpy as np
import pytest
import trimesh
from PIL import Image

import inference
from scenegen.inputs.label_image import PALETTE


@pytest.fixture
def run(tmp_path, shared_checkpoint):
    """Call inference.main on tmp_path/in and return its exit status."""

    def call(*arguments):
        paths = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--checkpoint", shared_checkpoint]
        return inference.main([str(argument) for argument in [*paths, *arguments]])

    return call


def test_object_with_an_unusable_mask_is_left_out_and_recorded(tmp_path, run, write_scene, capsys):
    folder = write_scene(tmp_path / "in" / "room", 3)
    Image.new("L", (48, 36)).save(folder / "1_mask.png")
    assert run("--formats", "glb,poses", "--json") == 0
    record = json.loads((tmp_path / "out" / "room" / "poses.json").read_text())
    assert [item["id"] for item in record["objects"]] == [0, 2]
    (left_out,) = record["left_out"]
    assert left_out["id"] == 1 and "the mask is empty" in left_out["reason"]
    assert sorted(trimesh.load(tmp_path / "out" / "room" / "scene.glb").graph.nodes_geometry) == [
        "obj_0",
        "obj_2",
    ]
    (scene,) = json.loads(capsys.readouterr().out)["scenes"]
    assert scene["problems"] == {"1": left_out["reason"]}


def test_strict_refuses_the_scene(tmp_path, run, write_scene, caplog):
    folder = write_scene(tmp_path / "in" / "room", 3)
    Image.new("L", (48, 36)).save(folder / "1_mask.png")
    assert run("--strict") == 1
    assert "1_mask.png: expected pixels above 0 on the object" in caplog.text
    assert not (tmp_path / "out" / "room").exists()


def test_every_pair_of_photo_and_label_image_becomes_a_scene(tmp_path, run):
    (tmp_path / "in").mkdir()
    labels = np.zeros((36, 48), np.uint8)
    labels[5:20, 5:20], labels[5:30, 25:40] = 1, 2
    for number in (4, 11):
        Image.new("RGB", (48, 36), (90, 80, 70)).save(tmp_path / "in" / f"{number}_rgb.png")
        Image.fromarray(PALETTE[labels]).save(tmp_path / "in" / f"{number}_seg.png")
    assert run("--formats", "poses") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["11_rgb", "4_rgb"]
    assert run("--input", tmp_path / "in" / "4_rgb.png", "--formats", "poses", "--overwrite") == 0


@pytest.mark.parametrize("name", ["line\nbreak", "x" * 250, 'it\'s "quoted" 🛋'])
def test_folder_of_any_name_becomes_a_scene_of_that_name(tmp_path, run, write_scene, caplog, capsys, name):
    write_scene(tmp_path / "in" / name, 1)
    (tmp_path / "in" / "__MACOSX").mkdir()
    assert run("--formats", "glb") == 0
    assert (tmp_path / "out" / name / "scene.glb").is_file()
    (tmp_path / "in" / name / "0_mask.png").write_bytes(b"")
    assert run("--overwrite") == 1
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_device_scenes_and_what_to_open_are_told(tmp_path, run, write_scene, capsys, caplog):
    for name in ("bath", "room"):
        write_scene(tmp_path / "in" / name, 1)
    with caplog.at_level("INFO", "scenegen.cli"):
        assert run() == 0
    first, *scenes = [record.getMessage() for record in caplog.records]
    assert first.startswith("device: ") and first.endswith(("float32", "float16"))
    assert [line.split(",")[0] for line in scenes] == ["1 of 2: bath done", "2 of 2: room done"]
    last = capsys.readouterr().out.splitlines()[-1]
    folder = tmp_path / "out" / "bath"
    assert last == f"look at: {folder / 'preview.png'}; open in a 3D program: {folder / 'scene.glb'}"


def test_progress_bars_are_for_terminals(tmp_path, run, write_scene, capfd):
    write_scene(tmp_path / "in" / "room", 1)
    assert run("--formats", "poses") == 0
    assert "\r" not in capfd.readouterr().err


def test_16_bits_on_a_cpu_are_warned_of(tmp_path, run, write_scene, caplog, monkeypatch):
    monkeypatch.setattr("trellis_modules.devices._CPU_INFO", tmp_path / "none")
    write_scene(tmp_path / "in" / "room", 1)
    run("--dtype", "bfloat16", "--device", "cpu", "--formats", "poses")
    assert "torch.bfloat16 takes several times as long as float32 on this CPU" in caplog.text
