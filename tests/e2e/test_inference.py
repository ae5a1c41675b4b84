"""From masked images to scene files through the command line's own entry point."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

import inference
from scenegen.cli import demo
from scenegen.cli import inference_options as options_module
from scenegen.export import glb, preview, registry
from scenegen.pipelines.pipeline import SceneGenPipeline

REPOSITORY = Path(inference.__file__).parent


@pytest.fixture
def run(tmp_path, shared_checkpoint):
    """Call inference.main on tmp_path/in and return its exit status."""

    def call(*arguments, checkpoint=shared_checkpoint):
        paths = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--checkpoint", checkpoint]
        return inference.main([str(argument) for argument in [*paths, *arguments]])

    return call


@pytest.fixture
def summary(run, capsys):
    """Call inference.main with --json and return (exit status, summary)."""

    def call(*arguments, **keywords):
        status = run("--json", *arguments, **keywords)
        return status, json.loads(capsys.readouterr().out)

    return call


@pytest.mark.parametrize("count", [1, 2, 12])
def test_masks_become_a_glb_with_one_named_node_each(tmp_path, run, write_scene, count):
    write_scene(tmp_path / "in" / "room", count)
    assert run() == 0
    folder = tmp_path / "out" / "room"
    scene = trimesh.load(folder / "scene.glb")
    assert sorted(scene.graph.nodes_geometry) == sorted(f"obj_{k}" for k in range(count))
    np.testing.assert_allclose(scene.extents.max(), 1.96, rtol=1e-5)
    np.testing.assert_allclose(scene.bounds.mean(axis=0), 0, atol=1e-5)
    for k in range(count):
        single = trimesh.load(folder / f"obj_{k}.glb")
        assert list(single.graph.nodes_geometry) == [f"obj_{k}"]
        assert np.abs(single.bounds).max() <= 0.5
    with Image.open(folder / "preview.png") as preview:
        preview.load()
    expected = {f"obj_{k}.glb" for k in range(count)} | {"scene.glb", "poses.json", "preview.png"}
    assert {path.name for path in folder.iterdir()} == expected
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["room"]


def test_poses_place_the_object_files_like_the_scene_file(tmp_path, run, write_scene):
    write_scene(tmp_path / "in" / "room", 3)
    assert run() == 0
    folder = tmp_path / "out" / "room"
    record = json.loads((folder / "poses.json").read_text())
    scene = trimesh.load(folder / "scene.glb")
    assert record["query"] == 2  # the largest mask
    for entry in record["objects"]:
        single = trimesh.load(folder / f"{entry['node']}.glb").geometry[entry["node"]]
        rotation = trimesh.transformations.quaternion_matrix(entry["rotation_wxyz"])[:3, :3]
        in_query = entry["scale"] * single.vertices @ rotation.T + entry["translation"]
        in_glb = record["glb"]["scale"] * (in_query - record["glb"]["centre"])
        transform, name = scene.graph[entry["node"]]
        placed = trimesh.transform_points(scene.geometry[name].vertices, transform)
        np.testing.assert_allclose(in_glb, placed, atol=1e-5)
    query = record["objects"][2]
    assert (query["translation"], query["rotation_wxyz"], query["scale"]) == ([0, 0, 0], [1, 0, 0, 0], 1)


def test_same_seed_gives_the_same_files_and_another_seed_does_not(tmp_path, run, write_scene):
    write_scene(tmp_path / "in" / "room", 2)

    def scene_bytes(*arguments):
        assert run("--overwrite", *arguments) == 0
        return (tmp_path / "out" / "room" / "scene.glb").read_bytes()

    first = scene_bytes("--seed", "1")
    assert scene_bytes("--seed", "1") == first
    assert scene_bytes("--seed", "2") != first


def test_all_formats_by_one_word(tmp_path, run, write_scene, small_pictures):
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed (extra video)")
    write_scene(tmp_path / "in" / "room", 1)
    assert run("--formats", "all") == 0
    record = json.loads((tmp_path / "out" / "room" / "poses.json").read_text())
    assert record["formats"] == sorted(registry.FORMATS_OF_ANY_CHECKPOINT)


def test_label_image_and_single_scene_folder_as_input(tmp_path, run, write_scene):
    folder = write_scene(tmp_path / "in", 0)
    labels = np.zeros((36, 48), np.uint8)
    labels[5:20, 5:20], labels[5:30, 25:40] = 1, 2
    Image.fromarray(labels).save(folder / "labels.png")
    assert run() == 0
    scene = trimesh.load(tmp_path / "out" / "in" / "scene.glb")
    assert sorted(scene.graph.nodes_geometry) == ["obj_0", "obj_1"]


def test_photo_with_masks_by_file_as_input(tmp_path, run, write_scene):
    folder = write_scene(tmp_path / "lounge", 2)
    labels = np.zeros((36, 48), np.uint8)
    labels[5:20, 5:20], labels[5:30, 25:40] = 1, 2
    Image.fromarray(labels).save(tmp_path / "labels.png")
    assert run("--input", folder / "scene.jpg", "--masks", tmp_path / "labels.png", "--formats", "glb") == 0
    assert len(trimesh.load(tmp_path / "out" / "scene" / "scene.glb").geometry) == 2


def test_views_of_one_scene_as_input(tmp_path, summary, write_scene):
    for name in ("view_0", "view_1"):
        write_scene(tmp_path / "in" / "room" / name, 2)
    status, result = summary("--formats", "poses")
    assert status == 0 and [scene["scene_id"] for scene in result["scenes"]] == ["room"]
    record = json.loads((tmp_path / "out" / "room" / "poses.json").read_text())
    assert record["settings"]["views"] == 2


def test_refined_scene_says_what_changed(tmp_path, run, write_scene):
    write_scene(tmp_path / "in" / "room", 2)
    assert run("--refine", "--formats", "glb") == 0
    record = json.loads((tmp_path / "out" / "room" / "poses.json").read_text())
    report = record["settings"]["refinement"]
    assert report["penetration_after"] <= report["penetration_before"]


@pytest.mark.parametrize("flag", ["--viewer", "--gradio"])
def test_viewer_shows_the_output_beside_its_truth(tmp_path, run, write_scene, monkeypatch, flag):
    shown = []
    monkeypatch.setattr(options_module, "check_viewer", lambda: None)
    monkeypatch.setattr(demo, "launch_viewer", lambda *paths, **address: shown.append((paths, address)))
    folder = write_scene(tmp_path / "masked_images_test" / "room", 1).parent
    (tmp_path / "scene_test").mkdir()
    assert run("--input", folder, "--formats", "glb", flag, "--port", "7000") == 0
    assert shown == [((tmp_path / "out", tmp_path / "scene_test"), {"host": "127.0.0.1", "port": 7000})]


def test_bad_scene_does_not_stop_the_others(tmp_path, summary, write_scene, caplog):
    for name in ("a", "b", "c"):
        write_scene(tmp_path / "in" / name, 2)
    (tmp_path / "in" / "b" / "scene.jpg").unlink()
    status, result = summary()
    assert status == 1
    assert (result["done"], result["failed"], result["skipped"]) == (2, 1, 0)
    failed = next(scene for scene in result["scenes"] if scene["status"] == "failed")
    assert failed["scene_id"] == "b" and "scene.jpg: expected the photo" in failed["error"]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == [failed["error"]]
    assert not (tmp_path / "out" / "b").exists()


def test_unforeseen_error_is_shown_with_its_cause_and_does_not_stop_the_others(
    tmp_path, summary, write_scene, caplog, monkeypatch
):
    for name in ("a", "b"):
        write_scene(tmp_path / "in" / name, 1 if name == "a" else 2)
    run_pipeline = SceneGenPipeline.run

    def run_or_break(self, views, settings, **keywords):
        if len(views[0].cutouts) == 1:
            raise RuntimeError("out of memory\nlong explanation")
        return run_pipeline(self, views, settings, **keywords)

    monkeypatch.setattr(SceneGenPipeline, "run", run_or_break)
    status, result = summary()
    assert status == 1
    assert [scene["status"] for scene in result["scenes"]] == ["failed", "done"]
    assert result["scenes"][0]["error"] == "RuntimeError: out of memory"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert str(tmp_path / "in" / "a") in record.getMessage() and record.exc_info is not None


def test_second_run_skips_finished_scenes(tmp_path, summary, write_scene):
    write_scene(tmp_path / "in" / "room9", 2)
    assert summary()[1]["done"] == 1
    written = (tmp_path / "out" / "room9" / "scene.glb").stat().st_mtime_ns
    write_scene(tmp_path / "in" / "room10", 2)
    status, result = summary()
    assert status == 0
    assert [(s["scene_id"], s["status"]) for s in result["scenes"]] == [
        ("room9", "skipped"),
        ("room10", "done"),
    ]
    assert (tmp_path / "out" / "room9" / "scene.glb").stat().st_mtime_ns == written
    assert summary("--overwrite")[1]["done"] == 2


def test_finished_run_needs_no_checkpoint(tmp_path, run, write_scene):
    write_scene(tmp_path / "in" / "room", 1)
    assert run() == 0
    assert run(checkpoint=tmp_path / "gone") == 0


def test_scene_missing_a_file_or_a_format_is_made_again(tmp_path, summary, write_scene):
    write_scene(tmp_path / "in" / "room", 2)
    folder = tmp_path / "out" / "room"
    assert summary("--formats", "glb")[1]["done"] == 1
    assert {path.name for path in folder.iterdir()} == {"scene.glb", "poses.json"}
    assert summary("--formats", "glb,objects")[1]["done"] == 1
    (folder / "obj_1.glb").unlink()
    assert summary("--formats", "glb,objects")[1]["done"] == 1
    assert (folder / "obj_1.glb").is_file()


def test_run_killed_while_writing_leaves_nothing_that_looks_finished(
    tmp_path, run, summary, write_scene, monkeypatch
):
    write_scene(tmp_path / "in" / "room", 2)

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preview, "render_preview", killed)  # scene.glb and the objects are written by then
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not (tmp_path / "out" / "room").exists()
    assert summary()[1]["done"] == 1


def test_leftovers_of_a_killed_process_are_replaced(tmp_path, summary, write_scene):
    write_scene(tmp_path / "in" / "room", 1)
    leftover = tmp_path / "out" / ".partial" / "room"
    leftover.mkdir(parents=True)
    (leftover / "scene.glb").write_bytes(b"half a file")
    assert summary()[1]["done"] == 1
    assert not leftover.parent.exists()
    trimesh.load(tmp_path / "out" / "room" / "scene.glb")


def test_limit_takes_the_first_scenes_in_natural_order(tmp_path, summary, write_scene):
    for name in ("10", "9", "8"):
        write_scene(tmp_path / "in" / name, 1)
    assert [scene["scene_id"] for scene in summary("--limit", "2")[1]["scenes"]] == ["8", "9"]


def test_scene_without_any_structure_fails_with_one_line(tmp_path, summary, write_scene, empty_checkpoint):
    write_scene(tmp_path / "in" / "room", 2)
    status, result = summary(checkpoint=empty_checkpoint)
    assert status == 1
    error = result["scenes"][0]["error"]
    assert "none of 2 (the structure decoder left the grid empty)" in error and "\n" not in error


def test_output_that_is_a_file_starts_nothing(tmp_path, run, write_scene, caplog):
    write_scene(tmp_path / "in" / "room", 1)
    (tmp_path / "out").write_text("a file where the folder should be")
    assert run(checkpoint=tmp_path / "gone") == 2
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert message == (
        f"{tmp_path / 'out'}: expected a folder for the results, {tmp_path / 'out'} is a file; "
        "choose another --output"
    )


def test_output_that_may_not_be_written_starts_nothing(tmp_path, run, write_scene, caplog, monkeypatch):
    write_scene(tmp_path / "in" / "room", 1)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root, who may do anything
    assert run("--output", tmp_path / "here" / "out") == 2
    assert f"{tmp_path} may not be written to; choose another --output" in caplog.messages[-1]
    assert not (tmp_path / "here").exists()


def test_disk_that_refuses_is_a_failed_scene(tmp_path, summary, write_scene, monkeypatch):
    for name in ("a", "b"):
        write_scene(tmp_path / "in" / name, 1)
    write = glb.glb_bytes
    refusals = [OSError(28, "No space left on device")]

    def write_or_refuse(*arguments):
        if refusals:
            raise refusals.pop()
        return write(*arguments)

    monkeypatch.setattr(glb, "glb_bytes", write_or_refuse)
    status, result = summary()
    assert status == 1 and [scene["status"] for scene in result["scenes"]] == ["failed", "done"]
    error = result["scenes"][0]["error"]
    assert error.startswith("a: expected to write the results, the disk refuses ([Errno 28] No space left")


def test_skipped_scenes_are_explained(tmp_path, run, write_scene, capsys):
    write_scene(tmp_path / "in" / "room", 1)
    assert run() == 0 and "--overwrite" not in capsys.readouterr().out
    assert run() == 0
    assert "0 done, 1 skipped, 0 failed" in (out := capsys.readouterr().out)
    assert "--overwrite makes skipped ones again" in out


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs(tmp_path, run, write_scene, dtype):
    write_scene(tmp_path / "in" / "room", 2)
    assert run("--dtype", dtype) == 0
    assert len(trimesh.load(tmp_path / "out" / "room" / "scene.glb").geometry) == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--steps", "0"), "expected a whole number from 1 to 10000, got '0'"),
        (("--limit", "-1"), "expected a whole number above 0, got '-1'"),
        (("--formats", "glb,stl"), "unknown format 'stl'; known: glb, objects, poses, preview"),
        (("--formats", "all,stl"), "unknown format 'stl'; known: glb, objects, poses, preview"),
        (("--cfg", "-1"), "expected a number of at least 0, got '-1'"),
        (("--texture-size", "8"), "size must be in [64, 8192], got 8"),
        (("--simplify", "1"), "simplify: expected a share in [0, 1), got 1.0"),
        (("--device", "abacus"), "expected cpu, cuda, cuda:<n> or mps, got 'abacus'"),
        (("--device", "cuda:99"), "expected a device of this machine, got 'cuda:99'"),
        (("--seed", "x"), "expected a whole number, got 'x'"),
        (("--seed", "-9223372036854775809"), "expected a number from -2^63 to 2^64 - 1"),
        (("--port", "0"), "expected a whole number from 1 to 65535, got '0'"),
        (("--no_appearance", "--slat-steps", "2"), "--slat-steps: needs the appearance stage"),
        (("--no_appearance", "--formats", "ply"), "--formats ply: needs the appearance stage"),
        (("--no_appearance", "--texture", "mesh"), "--texture: needs the appearance stage"),
        (("--no_appearance", "--texture-mode", "direct"), "--texture-mode: needs the appearance stage"),
        (("--no_appearance", "--texture-size", "1024"), "--texture-size: needs the appearance stage"),
        (("--no_appearance", "--texture-format", "jpeg"), "--texture-format: needs the appearance stage"),
        (("--texture", "mesh", "--texture-mode", "views"), "--texture-mode: is for the colours of Gaussians"),
        (
            ("--texture", "radiance_field", "--texture-mode", "direct"),
            "--texture-mode direct: is not for the colours of the radiance_field; give views or opt",
        ),
        (
            ("--turntable", "gaussian"),
            "turntable 'gaussian': changes only the formats mp4, got glb, objects, poses, preview",
        ),
        (
            ("--no_appearance", "--formats", "radiance_field"),
            "--formats radiance_field: needs the appearance stage",
        ),
        (
            ("--texture-format", "webp", "--formats", "obj"),
            "'webp': changes only the formats glb, glb+splats, objects, got obj",
        ),
        (("--settle",), "--settle: is the last step of --refine; add it"),
        (("--surface", "released", "--keep-holes"), "--keep-holes: surfaces as released keep theirs"),
        (
            ("--compress", "--formats", "obj"),
            "compress: changes only the formats glb, glb+splats, objects, got obj",
        ),
        (("--faces", "0"), "expected a whole number above 0, got '0'"),
        (("--faces", "10", "--simplify", "0.5"), "not allowed with argument --faces"),
        (("--host", "0.0.0.0"), "--host: of the page that --viewer opens; add --viewer or leave it out"),
        (("--port", "80", "--truth", "t"), "--truth, --port: of the page that --viewer opens"),
        (("--masks", "m.png", "--sam2", "there"), "--sam2: finds masks, which --masks gives"),
        (("--checkpoint", ".", "--revision", "x"), "--revision: of a repository on the hub, but"),
    ],
)
def test_bad_argument_exits_with_2(run, capsys, arguments, expected):
    with pytest.raises(SystemExit) as exit_:
        run(*arguments)
    assert exit_.value.code == 2
    assert expected in capsys.readouterr().err


def test_process_reports_a_bad_input_in_one_line(tmp_path):
    command = [sys.executable, "inference.py", "--input", str(tmp_path / "gone")]
    process = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.splitlines() == [
        f"ERROR: {tmp_path / 'gone'}: expected a folder, found nothing; check the path"
    ]


def test_a_data_root_gets_scenes_beside_each_other_and_skips_what_is_there(
    tmp_path, shared_checkpoint, write_scene, capsys
):
    for name in ("s1", "s2", "s3"):
        write_scene(tmp_path / "masked_images_test" / name, 2)
    command = ["--output_dir", str(tmp_path), "--set", "test", "--model_name", "toy"]
    command += ["--checkpoint", str(shared_checkpoint)]
    assert inference.main([*command, "--gpu_num", "2", "--gpu_id", "1"]) == 0
    folder = tmp_path / "scene_test_toy"
    assert sorted(path.name for path in folder.iterdir()) == ["s2.glb", "s2.json"]
    before = (folder / "s2.glb").stat().st_mtime_ns
    assert inference.main(command) == 0
    assert sorted(path.stem for path in folder.glob("*.glb")) == ["s1", "s2", "s3"]
    assert (folder / "s2.glb").stat().st_mtime_ns == before
    assert "4 assets in" in capsys.readouterr().out
    record = json.loads((folder / "s1.json").read_text())
    assert record["query"] == 0 and record["objects"][0]["rotation_wxyz"] == pytest.approx([1, 0, 0, 0])
