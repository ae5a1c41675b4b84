"""Experiment files: what they may say, and which weights a network starts from."""

import inspect
import json
from pathlib import Path

import pytest
import torch

import train
from scenegen.datasets.source import SourceOptions
from scenegen.models.registry import build_model
from scenegen.synthesis.sources.registry import SOURCES
from scenegen.trainers.experiment import (
    build_experiment,
    build_objective,
    load_experiment,
)
from scenegen.trainers.loop_config import LoopConfig
from scenegen.trainers.objectives.structure_vae import StructureVaeObjective
from scenegen.trainers.registry import TRAINERS
from scenegen.trainers.schedules import build_schedule
from trellis_modules.checkpoint import CheckpointError, save_checkpoint
from trellis_modules.config import ConfigError, build

CONFIGS = sorted((Path(train.__file__).parent / "configs").glob("*/*.json"))
SIZES = {"in_channels": 1, "latent_channels": 2, "num_res_blocks": 0, "num_res_blocks_middle": 1}
EXPERIMENT = {
    "models": {
        "encoder": {"name": "SparseStructureEncoder", "args": {**SIZES, "channels": [8, 8]}},
        "decoder": {"name": "SparseStructureDecoder", "args": {
            **{k: v for k, v in SIZES.items() if k != "in_channels"}, "out_channels": 1, "channels": [8, 8]}},
    },
    "dataset": {"name": "shapes", "args": {"objects_per_step": 2}},
    "trainer": {"name": "structure_vae", "args": {"max_steps": 3, "lambda_kl": 0.1}},
}  # fmt: skip


def encoder(**changes):
    args = {**SIZES, "channels": [8, 8], **changes}
    return build_model({"name": "SparseStructureEncoder", "args": args})


@pytest.fixture
def write(tmp_path):
    """Function that writes an experiment with other sections or arguments of the trainer."""

    def write(arguments=None, **sections):
        trainer = {**EXPERIMENT["trainer"], "args": {**EXPERIMENT["trainer"]["args"], **(arguments or {})}}
        path = tmp_path / "experiment.json"
        path.write_text(json.dumps({**EXPERIMENT, "trainer": trainer, **sections}))
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
    experiment = load_experiment(path)
    kind = SOURCES[experiment.dataset.name]
    build(kind.config, experiment.dataset.args, "dataset")
    assert issubclass(kind.makes, experiment.kind.batch_type)
    assert set(experiment.models) == set(experiment.kind.roles)
    assert set(experiment.loop.finetune_ckpt or {}) <= set(experiment.models)
    assert build_schedule(experiment.loop.lr_scheduler).factor(10**6, 0.0) == 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_a_resolved_experiment_is_one_that_says_the_same(path, tmp_path):
    experiment = load_experiment(path)
    (tmp_path / "resolved.json").write_text(json.dumps(experiment.resolved()))
    assert load_experiment(tmp_path / "resolved.json").resolved() == experiment.resolved()


@pytest.mark.parametrize("name", TRAINERS)
def test_settings_of_the_loop_and_of_trainers_have_other_names(name):
    loop, own = (set(inspect.signature(cls).parameters) for cls in (LoopConfig, TRAINERS[name].settings))
    assert loop and not loop & own


def test_an_experiment_becomes_an_objective(write):
    objective = build_objective(load_experiment(write()))
    assert isinstance(objective, StructureVaeObjective)
    assert objective.networks.keys() == {"encoder", "decoder"} and objective.config.lambda_kl == 0.1
    assert all(parameter.requires_grad for parameter in objective.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": {}}, "unknown key 'optimiser' for ExperimentConfig"),
        (
            {"arguments": {"lr": 0.1}},
            "trainer structure_vae: unknown key 'lr'; known: .*'lambda_kl'.*'max",
        ),
        ({"arguments": {"lambda": 1}}, "trainer structure_vae: unknown key 'lambda'"),
        ({"arguments": {"lambda_kl": -1}}, "trainer structure_vae: lambda_kl: expected at least 0, got -1"),
        ({"arguments": {"max_steps": "3"}}, "max_steps: expected int, got '3'"),
        ({"trainer": {"name": "structure_vae"}}, "missing key 'max_steps' for LoopConfig"),
        ({"trainer": {"name": "texture"}}, "trainer: unknown name 'texture'"),
        ({"dataset": {"objects_per_step": 2}}, "dataset: unknown key 'objects_per_step' for NamedConfig"),
    ],
)
def test_what_a_file_should_not_say_is_refused(write, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_experiment(write(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {**EXPERIMENT["models"], "encoder": {"name": "Unet"}}}, "encoder: unknown name 'Unet'"),
        ({"arguments": {"finetune_ckpt": {"flow": "somewhere"}}}, "finetune_ckpt: unknown name 'flow'"),
    ],
)
def test_what_cannot_be_built_is_refused(write, changes, message):
    with pytest.raises(ConfigError, match=message):
        build_objective(load_experiment(write(**changes)))


def test_a_source_of_other_batches_is_refused(write):
    options = SourceOptions(torch.device("cpu"), (Path("train.safetensors"),))
    message = "dataset: expected SparseStructure or shapes, from which structure_vae learns, got 'picture"
    with pytest.raises(ConfigError, match=message):
        build_experiment(load_experiment(write(dataset={"name": "picture_set"})), options)


def test_weights_to_start_from_are_loaded(write, stem):
    saved, path = stem
    objective = build_objective(load_experiment(write({"finetune_ckpt": {"encoder": str(path)}})))
    assert equal_tensors(objective.encoder, saved) == set(saved.state_dict())


def equal_tensors(left, right):
    """Names of the tensors that are equal in both modules."""
    state = right.state_dict()
    return {name for name, value in left.state_dict().items() if torch.equal(value, state[name])}


def trained(objective):
    """Names of the parameters of an objective's networks that are trained."""
    return {name for name, parameter in objective.named_parameters() if parameter.requires_grad}


def test_frozen_tensors_are_not_trained_and_the_rest_is(write):
    regexes = [r"^encoder\.input_layer", "^decoder"]
    names = trained(build_objective(load_experiment(write({"freeze_weights": regexes}))))
    assert names and all(name.startswith("encoder.") for name in names)
    assert not any(name.startswith("encoder.input_layer") for name in names)


def test_only_what_is_unfrozen_is_trained(write):
    chosen = {"unfreeze_weights": ["input_layer|out_layer"], "freeze_weights": ["input_layer"]}
    names = trained(build_objective(load_experiment(write(chosen))))
    assert {name.split(".")[0] for name in names} == {"encoder", "decoder"}
    assert {name.split(".")[1] for name in names} == {"input_layer", "out_layer"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"freeze_weights": ["flow"]},
            "trainer.freeze_weights: expected a regular expression that fits a",
        ),
        (
            {"unfreeze_weights": ["input_layer", "head"]},
            "got 'head', which fits none; names are like",
        ),
        ({"freeze_weights": ["input_layer("]}, r"trainer.freeze_weights: expected a regular expression, got"),
        ({"freeze_weights": ["."]}, "trainer.freeze_weights: expected something left to train"),
        ({"unfreeze_weights": []}, "trainer.unfreeze_weights: expected something left to train"),
    ],
)
def test_freezing_what_is_not_there_or_everything_is_refused(write, arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_objective(load_experiment(write(arguments)))


def test_missing_network_of_an_earlier_stage_names_the_command_that_makes_it(write, monkeypatch, tmp_path):
    monkeypatch.chdir(Path(train.__file__).parent)
    folder = tmp_path / "structure_vae"
    config = load_experiment(write({"finetune_ckpt": {"encoder": f"{folder}/ckpts/encoder"}}))
    with pytest.raises(CheckpointError) as error:
        build_objective(config)
    assert str(error.value) == (
        f"trainer.finetune_ckpt: encoder: expected {folder}/ckpts/encoder.safetensors, found none; "
        "train that stage first: python train.py --config configs/small/structure_vae.json "
        f"--output-dir {folder} --packs ..."
    )


def test_missing_network_of_an_unknown_stage_is_to_be_trained_or_found(write, tmp_path):
    config = load_experiment(write({"finetune_ckpt": {"encoder": str(tmp_path / "mine" / "encoder")}}))
    with pytest.raises(CheckpointError, match="train that stage first, with python train.py, or correct the"):
        build_objective(config)


def test_missing_latent_encoder_is_named_as_the_flag(write, tmp_path, caplog):
    arguments = ["--config", write(), "--output-dir", tmp_path / "out", "--latent-encoder", tmp_path / "none"]
    assert train.main([*map(str, arguments), "--device", "cpu"]) == 1
    assert "--latent-encoder: expected" in caplog.text and "train that stage first" in caplog.text
