"""Every trainer trains, goes on from a saved state exactly, and exports; flows show what they sample."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from scenegen.cli import training_process
from scenegen.models.registry import load_checkpoint
from scenegen.trainers.experiment import load_experiment
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives import conditions
from scenegen.trainers.registry import TRAINERS
from tests.toy_experiments import STEPS, TOYS, Words, experiment, look_quickly, toy_data
from tests.toy_training import records

CPU, GPU = ("--device", "cpu"), ("--device", "cuda")
SCENES = ("ImageConditionedVGGTFlowMatchingCFGTrainer", "scene_flow", "scene_flow_distillation")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """See `toy_data`."""
    return toy_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    """See `look_quickly`; captions are encoded without the package that does it."""
    look_quickly(monkeypatch)
    monkeypatch.setattr(conditions, "load_text_encoder", lambda reference: Words())


def run(name: str, data: Path, output: Path, *more: str, **changes: Any) -> list[dict[str, Any]]:
    """Train by the command, with changes of the trainer's arguments; what was logged of steps."""
    config, files = experiment(name, data)
    config["trainer"]["args"] |= changes
    path = output.with_suffix(".json")
    path.write_text(json.dumps(config))
    arguments = [
        "--config",
        path,
        "--output_dir",
        output,
        "--workers",
        "0",
        "--auto_retry",
        "0",
        *files,
        *more,
    ]
    assert train.main([str(argument) for argument in arguments]) == 0
    return [record for record in records(output) if "loss" in record]


def test_there_is_an_experiment_for_every_trainer():
    assert TOYS.keys() == TRAINERS.keys()


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_trains_goes_on_exactly_and_exports(tmp_path, data, monkeypatch, name):
    whole = run(name, data, tmp_path / "whole", *CPU)
    assert [record["step"] for record in whole] == [1, 2, 3, 4] and len(whole) == STEPS
    assert all(record["skipped"] == 0 and record["grad_norm"] > 0 for record in whole)

    with monkeypatch.context() as patch:  # nobody looks: that changes nothing of what is learnt
        patch.setattr(training_process, "add_watchers", lambda *arguments: None)
        state = ["--load_dir", str(tmp_path / "whole"), "--ckpt", "2"]
        rest = run(name, data, tmp_path / "rest", *CPU, *state)
    assert rest == whole[2:]
    for role in TRAINERS[name].roles:
        weights, again = (
            load_checkpoint(tmp_path / part / "ckpts" / role).state_dict() for part in ("whole", "rest")
        )
        assert all(torch.equal(value, again[key]) for key, value in weights.items()), role
    stems = {path.stem for path in (tmp_path / "whole" / "ckpts").glob("*.safetensors")}
    assert {stem for stem in stems if "_step" not in stem} == set(TRAINERS[name].roles)
    check_looks(name, tmp_path / "whole")


def check_looks(name: str, output: Path) -> None:
    """What a flow sampled is drawn, and the places of objects are measured."""
    folder = output / "samples" / "final"
    samples = TRAINERS[name].objective.samples is not Objective.samples
    assert folder.is_dir() == samples
    if samples:
        expected = {"sample_final.jpg", "sample_gt_final.jpg"}
        if name in SCENES:
            expected |= {"scene_final.jpg", "scene_gt_final.jpg", "pos_final.json", "pos_gt_final.json"}
        assert expected <= {path.name for path in folder.iterdir()}
    measured = [record for record in records(output) if "validation" in record]
    assert [record["step"] for record in measured] == ([0, 2, 4] if name in SCENES else [])
    assert all("validation/rotation_error_deg" in record for record in measured)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_trains_on_a_gpu_and_with_recorded_passes_alike(tmp_path, data, name):
    changes = {"use_collision_loss": False} if "use_collision_loss" in TOYS[name].trainer else {}
    eager = run(name, data, tmp_path / "eager", *GPU)
    assert len(eager) == STEPS and all(record["skipped"] == 0 for record in eager)
    if TRAINERS[name].not_recorded(load_experiment(tmp_path / "eager.json").settings) and not changes:
        return
    eager = run(name, data, tmp_path / "plain", *GPU, **changes)
    recorded = run(name, data, tmp_path / "recorded", *GPU, cuda_graphs=True, **changes)
    for one, other in zip(eager, recorded, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-2), one["step"]


@pytest.mark.parametrize("name", ["SparseStructureVaeTrainer", "scene_flow"])
def test_a_run_on_files_of_a_store_and_into_it_is_that_on_the_disk(tmp_path, data, monkeypatch, name):
    pytest.importorskip("fsspec", reason="needs the package fsspec: bash setup.sh --stores")
    monkeypatch.setenv("SCENEGEN_CACHE", str(tmp_path / "cache"))
    expected = run(name, data, tmp_path / "disk", *CPU)
    _, files = experiment(name, data)
    stored = [f"file://{part}" if part.startswith("/") else part for part in files]
    output = f"file://{tmp_path}/store/run"
    made = ["--config", tmp_path / "disk.json", "--output_dir", output, "--workers", "0", "--auto_retry", "0"]
    arguments = [str(argument) for argument in (*made, *stored, *CPU)]
    assert train.main(arguments) == 0
    assert [record for record in records(tmp_path / "store" / "run") if "loss" in record] == expected
    names = [
        {path.name for path in (folder / "ckpts").iterdir()}
        for folder in (tmp_path / "disk", tmp_path / "store" / "run")
    ]
    assert names[0] == names[1]


def test_a_store_that_cannot_be_written_to_is_told_at_the_start(tmp_path, data, monkeypatch, caplog):
    pytest.importorskip("fsspec", reason="needs the package fsspec: bash setup.sh --stores")
    monkeypatch.setenv("SCENEGEN_CACHE", str(tmp_path / "cache"))
    config, files = experiment("SparseStructureVaeTrainer", data)
    (tmp_path / "config.json").write_text(json.dumps(config))
    made = ["--config", str(tmp_path / "config.json"), "--output_dir", "file:///proc/none/run", *files, *CPU]
    assert train.main(made) == 1
    assert "expected a store that can be used" in caplog.records[-1].message
    assert not list((tmp_path / "cache").rglob("misc_step*"))
