"""The second flow of structures of a checkpoint, which needs few steps: chosen, recorded, kept apart."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scenegen.checkpoints.networks import CheckpointFolder
from scenegen.checkpoints.roles import FEW_STEPS_FLOW_ROLE, FLOW_ROLE
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.cli import infer, reroll
from scenegen.confidence.calibration import CAMERA_QUESTION, OBJECT_QUESTIONS, Calibration, Judgement
from scenegen.export.state import read_state
from scenegen.hub import save_pretrained
from scenegen.inputs.scene_folder import read_scene
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.reroll import EditError
from scenegen.pipelines.sampling import PATH_STEPS
from scenegen.pipelines.settings import RunSettings
from tests.e2e.conftest import FEW_STEPS, add_few_steps_flow, edit_args
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.config import to_json

USUAL = RunSettings(close_holes=False)
FEW = replace(USUAL, few_steps=True)


@pytest.fixture(scope="module")
def both(tmp_path_factory, shared_checkpoint) -> Path:
    """A checkpoint with two flows that tests only read."""
    folder = shutil.copytree(shared_checkpoint, tmp_path_factory.mktemp("both") / "toy")
    return add_few_steps_flow(Path(folder))


@pytest.fixture(scope="module")
def pipeline(both) -> SceneGenPipeline:
    return SceneGenPipeline.from_pretrained(both)


@pytest.fixture(scope="module")
def room(tmp_path_factory, write_room) -> Path:
    return write_room(tmp_path_factory.mktemp("input") / "room", 3)


def structures(result) -> torch.Tensor:
    return torch.stack([item.latents.structure for item in result.objects])


def record_of(folder: Path) -> dict:
    return json.loads((folder / "room" / "poses.json").read_text())


def same(one, other) -> bool:
    poses = zip(one.objects, other.objects, strict=True)
    return torch.equal(structures(one), structures(other)) and all(
        torch.equal(a.pose, b.pose) for a, b in poses
    )


def test_a_scene_is_what_a_checkpoint_with_that_flow_alone_would_make(
    pipeline, both, room, tmp_path, shared_checkpoint
):
    alone = Path(shutil.copytree(both, tmp_path / "alone"))

    def swap(args):
        args["models"][FLOW_ROLE] = args["models"].pop(FEW_STEPS_FLOW_ROLE)
        args["sparse_structure_sampler"]["params"] = args.pop("few_step_sampler")["params"]

    edit_args(alone, swap)
    views, looks = read_scene(room), []
    few = pipeline.run(views, FEW, on_preview=looks.append)
    assert same(few, SceneGenPipeline.from_pretrained(alone).run(views, USUAL))
    usual = pipeline.run(views, USUAL)
    assert same(usual, SceneGenPipeline.from_pretrained(shared_checkpoint).run(views, USUAL))
    assert not torch.allclose(structures(few), structures(usual))
    assert few.settings.items() >= {"few_steps": True, "steps": 4, "cfg_strength": 0.0}.items()
    assert "few_steps" not in usual.settings and usual.settings["steps"] == 2
    told = replace(FEW, sampling={"steps": 3, "cfg_strength": 2.0})
    assert pipeline.run(views, told).settings.items() >= {"steps": 3, "cfg_strength": 2.0}.items()


def test_only_the_flow_that_is_used_is_in_memory(both, room, monkeypatch):
    loaded, load = [], CheckpointFolder.load

    def noted(folder, stem):
        loaded.append(stem)
        return load(folder, stem)

    monkeypatch.setattr(CheckpointFolder, "load", noted)
    pipeline = SceneGenPipeline.from_pretrained(both, few_steps=True)
    assert "ckpts/few" in loaded and "ckpts/flow" not in loaded
    with pipeline.networks.use(FEW_STEPS_FLOW_ROLE) as flow:
        held = weakref.ref(flow)
    del flow
    pipeline.run(read_scene(room), FEW)
    assert loaded.count("ckpts/few") == 1 and "ckpts/flow" not in loaded and held() is not None
    pipeline.run(read_scene(room), USUAL)
    gc.collect()
    assert loaded.count("ckpts/flow") == 1 and held() is None


def test_candidates_are_judged_by_as_many_steps_as_there_are(pipeline, room):
    found, _ = pipeline.sample_candidates(read_scene(room), replace(FEW, candidates=2))
    assert FEW_STEPS["steps"] == PATH_STEPS and all(len(each.path) == PATH_STEPS for each in found)
    single = replace(FEW, candidates=2, sampling={"steps": 1})
    found, _ = pipeline.sample_candidates(read_scene(room), single)
    assert all(len(each.path) == 1 and each.signs for each in found)


@pytest.mark.parametrize("is_few", [False, True])
def test_chances_are_those_of_the_flow_that_they_were_learnt_for(both, room, tmp_path, is_few, caplog):
    folder = Path(shutil.copytree(both, tmp_path / "toy"))
    sure = Judgement(0.0, {}, (0.0, 1.0), (0.9, 0.9))
    questions = dict.fromkeys((*OBJECT_QUESTIONS, CAMERA_QUESTION), sure)
    digest = PipelineConfig.load(folder).structure_flow(is_few).sha256
    calibration = to_json(Calibration(digest, 9, questions, questions))
    edit_args(folder, lambda args: args.update(confidence=calibration))
    pipeline = SceneGenPipeline.from_pretrained(folder)
    assert "no effect" not in caplog.text
    for settings in (FEW, USUAL):
        result = pipeline.run(read_scene(room), settings)
        known = [item.confidence is not None for item in result.objects]
        assert known == [settings.few_steps == is_few] * 3


def infer_with(checkpoint, room, output, *flags) -> int:
    arguments = ["--input", room, "--output", output, "--checkpoint", checkpoint, "--keep-holes"]
    return infer.main([str(each) for each in [*arguments, "--formats", "glb,poses", *flags]])


def test_the_flag_is_noted_and_counts_for_whether_a_scene_is_finished(both, room, tmp_path, caplog, capsys):
    flags = ("--low-vram", "--group", 2, "--candidates", 2)
    assert infer_with(both, room, tmp_path, "--few-steps", *flags) == 0
    record = record_of(tmp_path)
    assert record["settings"].items() >= {"few_steps": True, "steps": 4, "group": 2, "candidates": 2}.items()
    assert record["made_from"]["settings"]["few_steps"] is True
    capsys.readouterr()
    assert infer_with(both, room, tmp_path, "--few-steps", *flags, "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 1
    assert infer_with(both, room, tmp_path, *flags) == 0
    assert "was made from other settings (few_steps); it is made again" in caplog.text
    assert "few_steps" not in record_of(tmp_path)["settings"]


def test_an_object_is_made_anew_by_the_flow_of_its_scene_unless_told_otherwise(both, room, tmp_path):
    def made_anew(*flags) -> dict:
        arguments = [tmp_path / "room", "--object", "obj_1", "--checkpoint", both, *flags]
        assert reroll.main([str(each) for each in arguments]) == 0
        (item,) = (each for each in read_state(tmp_path / "room").objects if each.object_id == 1)
        return item.settings

    assert infer_with(both, room, tmp_path, "--few-steps", "--steps", 3, "--keep-state") == 0
    assert made_anew().items() >= {"few_steps": True, "steps": 3, "seed": 43}.items()
    usual = made_anew("--no-few-steps")
    assert "few_steps" not in usual and usual["steps"] == 2 and usual["cfg_strength"] == 3.0
    assert made_anew("--candidates", 2).items() >= {"few_steps": True, "steps": 3}.items()
    assert made_anew("--steps", 5)["steps"] == 5
    assert infer_with(both, room, tmp_path, "--steps", 3, "--keep-state") == 0
    assert "few_steps" not in made_anew()
    assert made_anew("--few-steps").items() >= {"few_steps": True, "steps": 4}.items()


def test_what_is_made_anew_sees_the_others_and_leaves_them(pipeline, room):
    result = pipeline.run(read_scene(room), FEW)
    changed = pipeline.reroll(result, [1])
    other = pipeline.reroll(result, [1], replace(USUAL, seed=43))
    assert changed.objects[1].settings["few_steps"] and "few_steps" not in other.objects[1].settings
    for each in (changed, other):
        assert [torch.equal(a, b) for a, b in zip(structures(result), structures(each), strict=True)] == [
            True, False, True,
        ]  # fmt: skip
    assert pipeline.reroll(other, [1]).objects[1].settings["few_steps"]


def test_scenes_of_the_usual_flow_stay_those_of_the_checkpoint_when_it_gets_a_second_one(
    checkpoint, both, room
):
    result = SceneGenPipeline.from_pretrained(checkpoint).run(read_scene(room), USUAL)
    assert result.state.networks == CheckpointFolder(both, PipelineConfig.load(both)).networks_digest()
    second = SceneGenPipeline.from_pretrained(both)
    second.reroll(result, [1])
    few = second.run(read_scene(room), FEW)
    with pytest.raises(EditError, match="expected the checkpoint that made the scene"):
        SceneGenPipeline.from_pretrained(checkpoint).reroll(few, [1])


def test_without_such_a_flow_one_line_names_the_checkpoint(
    shared_checkpoint, both, room, tmp_path, caplog, capsys
):
    words = f"{shared_checkpoint}: few_steps: expected a checkpoint with a structure flow of few steps"
    assert infer_with(shared_checkpoint, room, tmp_path, "--few-steps") == 2
    (line,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert line.startswith(words) and "leave few_steps (--few-steps) out" in line
    assert not (tmp_path / "room").exists()
    assert infer_with(shared_checkpoint, room, tmp_path, "--keep-state") == 0
    caplog.clear()
    arguments = [tmp_path / "room", "--object", 1, "--few-steps", "--checkpoint", shared_checkpoint]
    assert reroll.main([str(each) for each in arguments]) == 2
    assert caplog.records[-1].getMessage().startswith(words)
    with pytest.raises(ValueError, match="few_steps: expected a checkpoint with a structure flow"):
        SceneGenPipeline.from_pretrained(shared_checkpoint).run(read_scene(room), FEW)
    with pytest.raises(SystemExit):
        reroll.main([str(tmp_path / "room"), "--object", "1", "--remove", "--few-steps"])
    assert "--few-steps: of objects that are made anew" in capsys.readouterr().err


def test_a_saved_pipeline_has_both_flows_or_one(pipeline, both, room, tmp_path):
    saved = pipeline.save_pretrained(tmp_path / "saved")
    again = SceneGenPipeline.from_pretrained(saved, few_steps=True)
    assert again.config.few_step_sampler == pipeline.config.few_step_sampler
    assert same(pipeline.run(read_scene(room), FEW), again.run(read_scene(room), FEW))
    others = {}
    for role in pipeline.networks.roles - {FEW_STEPS_FLOW_ROLE}:
        with pipeline.networks.use(role) as network:
            others[role] = network
    one = save_pretrained(pipeline.config.to_named(), others, tmp_path / "one")
    assert PipelineConfig.load(one).few_step_sampler is None


def test_a_damaged_second_flow_is_told_when_it_is_used(both, room, tmp_path):
    folder = Path(shutil.copytree(both, tmp_path / "toy"))
    weights = folder / "ckpts" / "few.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    SceneGenPipeline.from_pretrained(folder).run(read_scene(room), USUAL)
    with pytest.raises(CheckpointError, match="few.safetensors: expected sha256"):
        SceneGenPipeline.from_pretrained(folder, few_steps=True)
