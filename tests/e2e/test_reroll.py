"""Changing one object of a scene: what stays, what is written, how to go back, and what is refused."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from scenegen.cli import infer, reroll
from scenegen.export.frames import in_frame_of
from scenegen.export.state import SceneStateError, read_state
from scenegen.geometry import compose_poses, sanitize_pose
from scenegen.inputs.scene_folder import read_scene
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.reroll import EditError
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.texturing import TextureSettings

SMALL = RunSettings(texture=TextureSettings(size=64), close_holes=False)


@pytest.fixture(scope="module")
def pipeline(shared_appearance_checkpoint) -> SceneGenPipeline:
    return SceneGenPipeline.from_pretrained(shared_appearance_checkpoint)


@pytest.fixture(scope="module")
def room(tmp_path_factory, write_room) -> Path:
    return write_room(tmp_path_factory.mktemp("input") / "room", 3)


@pytest.fixture(scope="module")
def result(pipeline, room):
    return pipeline.run(read_scene(room), SMALL)


def infer_arguments(room: Path, output: Path, checkpoint: Path) -> list[str]:
    arguments = ["--input", room, "--output", output, "--checkpoint", checkpoint, "--texture-size", 64]
    arguments += ["--keep-state", "--keep-holes", "--formats", "glb,objects,poses,ply"]
    return [str(argument) for argument in arguments]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shared_appearance_checkpoint, room) -> Path:
    output = tmp_path_factory.mktemp("finished")
    assert infer.main(infer_arguments(room, output, shared_appearance_checkpoint)) == 0
    return output


@pytest.fixture
def made(tmp_path, finished) -> Path:
    """The folder of a scene that was made with its state."""
    return Path(shutil.copytree(finished, tmp_path / "out")) / "room"


@pytest.fixture
def run(made, shared_appearance_checkpoint):
    """Function (arguments) -> exit status of the command on that scene."""

    def call(*arguments, checkpoint=shared_appearance_checkpoint):
        given = [made, "--checkpoint", checkpoint, *arguments]
        try:
            return reroll.main([str(argument) for argument in given])
        except SystemExit as exit_:
            return exit_.code

    return call


def digests(folder: Path, pattern: str = "*") -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }


def poses_of(folder: Path) -> dict[int, dict]:
    record = json.loads((folder / "poses.json").read_text())
    return {entry["id"]: entry for entry in record["objects"]}


def same_mesh(one: trimesh.Trimesh, other: trimesh.Trimesh) -> bool:
    return np.array_equal(one.vertices, other.vertices) and np.array_equal(one.faces, other.faces)


def test_only_the_object_that_was_named_changes(pipeline, result):
    changed = pipeline.reroll(result, [1])
    for before, after in zip(result.objects, changed.objects, strict=True):
        if before.object_id == 1:
            assert not torch.equal(before.latents.structure, after.latents.structure)
            assert after.settings["seed"] == 43
        else:
            assert after.mesh is before.mesh and torch.equal(after.pose, before.pose)
            assert after.settings["seed"] == 42
    assert changed.settings["edits"] == [{"kind": "reroll", "objects": [1], "seed": 43}]
    assert (
        changed.query_id == result.query_id and changed.overlaps.keys() == {0, 1, 2} or result.camera is None
    )
    assert pipeline.reroll(changed, [1]).settings["edits"][1]["seed"] == 44


def test_the_new_object_depends_on_the_others(pipeline, room, result):
    """It is sampled with them in sight, so that others beside it give another one."""
    other = pipeline.run(read_scene(room), replace(SMALL, seed=9))
    first, second = (pipeline.reroll(each, [1], SMALL) for each in (result, other))
    assert not torch.allclose(first.objects[1].latents.structure, second.objects[1].latents.structure)


def test_a_locked_pose_stays(pipeline, result):
    free, locked = pipeline.reroll(result, [0]), pipeline.reroll(result, [0], lock_pose=True)
    assert torch.equal(locked.objects[0].pose, result.objects[0].pose)
    assert torch.equal(locked.objects[0].latents.structure, free.objects[0].latents.structure)


def test_poses_are_in_the_frame_of_the_scene_whatever_that_is(pipeline, result):
    """In the frame of another object a re-rolled object lands at the same place."""
    moved = in_frame_of(result, 0)
    here, there = pipeline.reroll(result, [1]).objects[1].pose, pipeline.reroll(moved, [1]).objects[1].pose
    frame = sanitize_pose(result.objects[0].pose.double())
    torch.testing.assert_close(
        sanitize_pose(compose_poses(frame, there.double())),
        sanitize_pose(here.double()),
        rtol=1e-4,
        atol=1e-4,
    )


def test_masks_can_be_replaced_and_added(pipeline, result):
    mask = np.zeros(result.state.views[0].masks[0].shape, bool)
    mask[25:34, 20:40] = True
    changed = pipeline.reroll(result, masks={7: mask})
    assert changed.object_ids == (0, 1, 2, 7) and changed.objects[3].mesh is not None
    assert all(a.mesh is b.mesh for a, b in zip(result.objects, changed.objects))
    again = pipeline.reroll(changed, masks={7: np.roll(mask, -6, axis=1)})
    assert again.object_ids == (0, 1, 2, 7)
    assert np.array_equal(again.state.views[0].masks[3], np.roll(mask, -6, axis=1))


def _chair() -> trimesh.Trimesh:
    """A mesh that looks different after every quarter turn, centred with longest side 1."""
    seat, back = trimesh.creation.box((0.6, 0.1, 0.5)), trimesh.creation.box((0.6, 1.0, 0.1))
    seat.apply_translation((0, -0.1, 0.15))
    back.apply_translation((0, 0, -0.15))
    mesh = trimesh.util.concatenate([seat, back])
    mesh.apply_translation(-mesh.bounds.mean(axis=0))
    return mesh


def test_a_mesh_of_ones_own_takes_the_place_of_an_object(pipeline, result):
    own = pipeline.place_mesh(result, 1, _chair())
    before, after = result.objects[1], own.objects[1]
    assert len(after.mesh.faces) == len(_chair().faces) and after.mesh.visual.defined
    assert after.latents.structure.shape == before.latents.structure.shape
    assert int((after.logits > 0).sum()) > 0
    assert own.objects[0].mesh is result.objects[0].mesh
    assert own.settings["edits"] == [{"kind": "use-mesh", "objects": [1]}]
    locked = pipeline.place_mesh(result, 1, _chair(), lock_pose=True).objects[1]
    torch.testing.assert_close(locked.pose, before.pose)
    assert pipeline.reroll(own, [0]).objects[1].mesh is after.mesh


def test_candidates_are_the_objects_of_seeds_one_after_the_other(pipeline, room):
    views = read_scene(room)
    settings = RunSettings(seed=5, candidates=3, appearance=False, close_holes=False)
    several = pipeline.run(views, settings)
    chosen = several.settings["chosen_seeds"]
    assert several.settings["candidates"] == 3 and set(chosen.values()) <= {5, 6, 7}
    alone = {
        seed: pipeline.run(views, RunSettings(seed=seed, appearance=False, close_holes=False))
        for seed in set(chosen.values())
    }
    for row, item in enumerate(several.objects):
        other = alone[chosen[str(item.object_id)]].objects[row]
        torch.testing.assert_close(item.logits, other.logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(item.pose, other.pose, rtol=1e-4, atol=1e-4)


def test_a_scene_comes_back_from_its_state_as_it_was(made, pipeline):
    read = read_state(made)
    assert read.state.settings.texture.size == 64 and read.state.seed == 42
    assert [item.node for item in read.objects] == ["obj_0", "obj_1", "obj_2"]
    first, again = pipeline.reroll(read, [2]), pipeline.reroll(read_state(made), [2])
    assert same_mesh(first.objects[2].mesh, again.objects[2].mesh)


def test_the_command_changes_one_object_and_undo_brings_it_back(run, made, capsys):
    before, old = digests(made), poses_of(made)
    assert run("--object", "obj_1", "--seed", 7) == 0
    after, new = digests(made), poses_of(made)
    assert {name for name in before if before[name] != after[name]} == {
        "obj_1.glb", "obj_1.ply", "poses.json", "scene.glb", "scene.ply", "scene.safetensors", "state.json",
    }  # fmt: skip
    assert old[0] == new[0] and old[2] == new[2] and old[1]["translation"] != new[1]["translation"]
    assert "made obj_1; 2 objects stayed as they were" in capsys.readouterr().out
    assert digests(made / "versions" / "1") == before
    assert run("--undo") == 0 and digests(made) == before
    assert digests(made / "versions" / "undone") == after
    assert run("--undo") == 2


def test_versions_follow_each_other(run, made):
    states = [digests(made)]
    for seed in (1, 2):
        assert run("--object", 1, "--seed", seed) == 0
        states.append(digests(made))
    assert run("--undo") == 0 and digests(made) == states[1]
    assert run("--undo") == 0 and digests(made) == states[0]


def test_objects_are_removed_and_added_by_the_command(run, made, tmp_path):
    kept = digests(made, "obj_[02].*")
    assert run("--object", "obj_1", "--remove") == 0
    assert set(poses_of(made)) == {0, 2} and not (made / "obj_1.glb").exists()
    mask = np.zeros((36, 48), np.uint8)
    mask[25:34, 20:40] = 255
    Image.fromarray(mask).save(tmp_path / "lamp.png")
    assert run("--add-mask", tmp_path / "lamp.png") == 0
    assert set(poses_of(made)) == {0, 2, 3}
    assert digests(made, "obj_[02].*") == kept


def test_a_finished_scene_that_was_changed_stays_finished(run, made, shared_appearance_checkpoint, room):
    assert run("--object", "obj_1") == 0
    changed = digests(made)
    assert infer.main(infer_arguments(room, made.parent, shared_appearance_checkpoint)) == 0
    assert digests(made) == changed


def _flat(path: Path) -> Path:
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], process=False).export(path)
    return path


def _mask(path: Path, rows: slice, columns: slice, size: tuple[int, int] = (36, 48)) -> Path:
    mask = np.zeros(size, np.uint8)
    mask[rows, columns] = 255
    Image.fromarray(mask).save(path)
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda path: ["--object", "obj_9"], "expected one of the objects obj_0, obj_1, obj_2, got obj_9"),
        (lambda path: ["--object", "obj_2", "--remove"], "in whose frame they stand"),
        (
            lambda path: ["--add-mask", _mask(path / "m.png", slice(4, 12), slice(2, 16))],
            "expected a mask beside the objects that stay, got one over obj_0",
        ),
        (
            lambda path: ["--add-mask", _mask(path / "m.png", slice(4, 12), slice(2, 16), (20, 20))],
            "expected a mask of 48x36 like the photo, got 20x20",
        ),
        (lambda path: ["--add-mask", path / "none.png"], "none.png"),
        (
            lambda path: ["--object", 0, "--use-mesh", _flat(path / "flat.ply")],
            "expected a mesh with a volume",
        ),
        (lambda path: ["--object", 0, "--use-mesh", path / "none.glb"], "found no such file"),
        (lambda path: ["--object", 0, "--use-mesh", path / "chair.blend"], "expected a mesh as .glb, .obj"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(run, made, tmp_path, caplog, arguments, words):
    before = digests(made)
    assert run(*arguments(tmp_path)) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert words in line and "\n" not in line
    assert digests(made) == before and not (made / "versions").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["--object", "chair"], ["--undo", "--object", "0"], ["--remove"],
        ["--add-mask", "m.png", "--object", "1"],
        ["--object", "0", "--remove", "--seed", "3"], ["--object", "0", "--candidates", "0"],
        ["--object", "0", "--candidates", "65"], ["--object", "0", "--lock-pose", "--remove"],
        ["--object", "0", "--object", "1", "--use-mesh", "m.glb"],
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        reroll.main([str(tmp_path), *arguments])
    assert exit_.value.code == 2 and len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_state_of_another_checkpoint_is_refused(run, made, shared_checkpoint, caplog):
    before = digests(made)
    assert run("--object", "obj_1", checkpoint=shared_checkpoint) == 2
    assert "expected the checkpoint that made the scene" in caplog.text and digests(made) == before


def test_a_state_of_another_version_or_a_damaged_one_is_refused(made):
    content = json.loads((made / "state.json").read_text())
    (made / "state.json").write_text(json.dumps(content | {"format": "scenegen-state-9"}))
    with pytest.raises(SceneStateError, match="of another version"):
        read_state(made)
    (made / "state.json").write_text(json.dumps(content))
    tensors = (made / "scene.safetensors").read_bytes()
    (made / "scene.safetensors").write_bytes(tensors[:-1] + bytes([tensors[-1] ^ 1]))
    with pytest.raises(SceneStateError, match="is not the file that was written with it"):
        read_state(made)
    (made / "scene.safetensors").unlink()
    with pytest.raises(SceneStateError, match="make the scene again with --keep-state"):
        read_state(made)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("order", [0, 1]), ("order", [0, 1, "2"]), ("query", 5), ("objects", []), ("views", []),
        ("seed", None), ("settings", {"seed": "x"}), ("camera", {"extrinsics": [[1]]}), ("networks", 3),
        ("views", [[0, 1]]),
    ],
)  # fmt: skip
def test_a_state_that_contradicts_itself_is_refused(made, key, value):
    content = json.loads((made / "state.json").read_text())
    (made / "state.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(SceneStateError) as error:
        read_state(made)
    assert "\n" not in str(error.value) and str(made / "state.json") in str(error.value)


def test_a_scene_without_state_is_refused(pipeline, result):
    with pytest.raises(EditError, match="--keep-state"):
        pipeline.reroll(replace(result, state=None), [1])
    with pytest.raises(EditError, match="at least one object"):
        pipeline.reroll(result, [])
