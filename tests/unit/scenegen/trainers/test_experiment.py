"""Experiment files: what they may say, and which weights a network starts from."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import train
from scenegen.datasets.source import SourceOptions
from scenegen.models.registry import build_model
from scenegen.synthesis.sources.registry import SOURCES
from scenegen.trainers.experiment import (
    OBJECTIVES,
    build_experiment,
    build_objective,
    load_experiment,
    load_superset,
)
from scenegen.trainers.objectives.structure_vae import StructureVaeObjective
from trellis_modules.checkpoint import CheckpointError, save_checkpoint
from trellis_modules.config import ConfigError, build

CONFIGS = sorted((Path(train.__file__).parent / "configs").glob("*/*.json"))
SIZES = {"in_channels": 1, "latent_channels": 2, "num_res_blocks": 0, "num_res_blocks_middle": 1}
EXPERIMENT = {
    "objective": {"name": "structure_vae", "args": {"lambda_kl": 0.1}},
    "models": {
        "encoder": {"name": "SparseStructureEncoder", "args": {**SIZES, "channels": [8, 8]}},
        "decoder": {"name": "SparseStructureDecoder", "args": {
            **{k: v for k, v in SIZES.items() if k != "in_channels"}, "out_channels": 1, "channels": [8, 8]}},
    },
    "source": {"name": "shapes", "args": {"objects_per_step": 2}},
    "trainer": {"max_steps": 3},
}  # fmt: skip


class Pair(nn.Module):
    def __init__(self, *names):
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(2, 2))


def encoder(**changes):
    args = {**SIZES, "channels": [8, 8], **changes}
    return build_model({"name": "SparseStructureEncoder", "args": args})


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        path = tmp_path / "experiment.json"
        path.write_text(json.dumps({**EXPERIMENT, **changes}))
        return path

    return write


@pytest.fixture
def stem(tmp_path):
    """An encoder saved in full precision."""
    torch.manual_seed(1)
    save_checkpoint(saved := encoder(), tmp_path / "encoder", dtype=torch.float32)
    return saved, tmp_path / "encoder"


def test_every_stage_has_a_smoke_configuration():
    stages = {
        folder: {path.stem for path in CONFIGS if path.parent.name == folder} for folder in ("small", "smoke")
    }
    assert stages["small"] == stages["smoke"] and len(stages["smoke"]) == 7


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_the_configurations_of_the_repository_are_valid(path):
    config = load_experiment(path)
    objective, settings = OBJECTIVES[config.objective.name]
    build(settings, config.objective.args, "objective")
    kind = SOURCES[config.source.name]
    build(kind.config, config.source.args, "source")
    assert issubclass(kind.makes, objective.batch_type)
    assert config.trainer.max_steps > 0
    assert set(config.start_from) <= set(config.models)


def test_an_experiment_becomes_an_objective(write):
    objective = build_objective(load_experiment(write()))
    assert isinstance(objective, StructureVaeObjective)
    assert objective.networks.keys() == {"encoder", "decoder"} and objective.config.lambda_kl == 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": {}}, "unknown key 'optimiser' for ExperimentConfig"),
        ({"trainer": {"max_steps": 3, "lr": 0.1}}, "unknown key 'lr' for TrainerConfig"),
        ({"trainer": {}}, "missing key 'max_steps' for TrainerConfig"),
        ({"source": {"objects_per_step": 2}}, "source: unknown key 'objects_per_step' for NamedConfig"),
        ({"trainer": {"max_steps": "3"}}, "max_steps: expected int, got '3'"),
    ],
)
def test_what_a_file_should_not_say_is_refused(write, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_experiment(write(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"name": "texture"}}, "objective: unknown name 'texture'"),
        ({"objective": {"name": "structure_vae", "args": {"lambda": 1}}}, "objective: unknown key 'lambda'"),
        ({"models": {"encoder": {"name": "Unet"}}}, "encoder: unknown name 'Unet'"),
        ({"start_from": {"flow": "somewhere"}}, "start_from: unknown name 'flow'"),
    ],
)
def test_what_cannot_be_built_is_refused(write, changes, message):
    with pytest.raises(ConfigError, match=message):
        build_objective(load_experiment(write(**changes)))


def test_a_source_of_other_batches_is_refused(write):
    options = SourceOptions(torch.device("cpu"), (Path("train.safetensors"),))
    message = "source: expected shapes, from which structure_vae learns, got picture_set"
    with pytest.raises(ConfigError, match=message):
        build_experiment(load_experiment(write(source={"name": "picture_set"})), options)


def test_weights_to_start_from_are_loaded(write, stem):
    saved, path = stem
    objective = build_objective(load_experiment(write(start_from={"encoder": str(path)})))
    assert equal_tensors(objective.encoder, saved) == set(saved.state_dict())


def equal_tensors(left, right):
    """Names of the tensors that are equal in both modules."""
    state = right.state_dict()
    return {name for name, value in left.state_dict().items() if torch.equal(value, state[name])}


def test_a_checkpoint_may_hold_more_but_not_less(stem):
    saved, path = stem
    part = nn.Module()
    part.input_layer = nn.Conv3d(1, 8, 3, padding=1)
    load_superset(part, path)
    assert torch.equal(part.input_layer.weight, saved.input_layer.weight)
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors: tensor 'head\.weight' is missing"):
        load_superset(Pair("head"), path)


def test_a_checkpoint_of_another_size_is_refused(stem):
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors"):
        load_superset(encoder(channels=[8, 16]), stem[1])


def test_frozen_tensors_are_not_trained_and_the_rest_is(write):
    objective = build_objective(load_experiment(write(frozen=["encoder.input_layer", "decoder"])))
    trained = {
        f"{role}.{name}"
        for role, model in objective.networks.items()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert trained and all(name.startswith("encoder.") for name in trained)
    assert not any(name.startswith("encoder.input_layer") for name in trained)


def test_freezing_what_is_not_there_is_refused(write):
    with pytest.raises(ConfigError, match="frozen: expected the start of a tensor name, got 'flow.blocks'"):
        build_objective(load_experiment(write(frozen=["flow.blocks"])))


def test_missing_network_of_an_earlier_stage_names_the_command_that_makes_it(write, monkeypatch, tmp_path):
    monkeypatch.chdir(Path(train.__file__).parent)
    folder = tmp_path / "structure_vae"
    config = load_experiment(write(start_from={"encoder": f"{folder}/ckpts/encoder"}))
    with pytest.raises(CheckpointError) as error:
        build_objective(config)
    assert str(error.value) == (
        f"start_from: encoder: expected {folder}/ckpts/encoder.safetensors, found none; "
        "train that stage first: python train.py --config configs/small/structure_vae.json "
        f"--output-dir {folder} --packs ..."
    )


def test_missing_network_of_an_unknown_stage_is_to_be_trained_or_found(write, tmp_path):
    config = load_experiment(write(start_from={"encoder": str(tmp_path / "mine" / "encoder")}))
    with pytest.raises(CheckpointError, match="train that stage first, with python train.py, or correct the"):
        build_objective(config)


def test_missing_latent_encoder_is_named_as_the_flag(write, tmp_path, caplog):
    arguments = ["--config", write(), "--output-dir", tmp_path / "out", "--latent-encoder", tmp_path / "none"]
    assert train.main([*map(str, arguments), "--device", "cpu"]) == 1
    assert "--latent-encoder: expected" in caplog.text and "train that stage first" in caplog.text
