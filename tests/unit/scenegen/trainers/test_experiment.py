"""Experiment files: what they may say, and which weights a network starts from."""

import inspect
import json
from pathlib import Path

import pytest
import torch

import train
from scenegen.datasets.source import SourceOptions
from scenegen.models.registry import build_model
from scenegen.trainers.data import DATA, with_batches
from scenegen.trainers.experiment import (
    build_experiment,
    build_objective,
    load_experiment,
)
from scenegen.trainers.freezing import freeze
from scenegen.trainers.loop_config import LoopConfig
from scenegen.trainers.objectives.structure_vae import StructureVaeObjective
from scenegen.trainers.optimizers import trained_groups
from scenegen.trainers.registry import TRAINERS
from scenegen.trainers.schedules import build_schedule
from scenegen.trainers.without_effect import without_effect
from trellis_modules.checkpoint import CheckpointError, save_checkpoint
from trellis_modules.config import ConfigError, build

RELEASED = "ss_scenegen_flow_img_train.json"
OPTIONS = SourceOptions(torch.device("cpu"))
CONFIGS = sorted((Path(train.__file__).parent / "configs").glob("*/*.json"))
SIZES = {"in_channels": 1, "latent_channels": 2, "num_res_blocks": 0, "num_res_blocks_middle": 1}
EXPERIMENT = {
    "models": {
        "encoder": {"name": "SparseStructureEncoder", "args": {**SIZES, "channels": [8, 8]}},
        "decoder": {"name": "SparseStructureDecoder", "args": {
            **{k: v for k, v in SIZES.items() if k != "in_channels"}, "out_channels": 1, "channels": [8, 8]}},
    },
    "dataset": {"name": "shapes", "args": {"objects_per_step": 2}},
    "trainer": {"name": "SparseStructureVaeTrainer", "args": {"max_steps": 3, "lambda_kl": 0.1}},
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
    assert stages["small"] == stages["smoke"] and len(stages["smoke"]) == 9


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_the_configurations_of_the_repository_are_valid(path):
    experiment = load_experiment(path)
    kind = DATA[experiment.dataset.name]
    build(kind.config, experiment.dataset.args, "dataset")
    assert issubclass(kind.makes, experiment.kind.batch_type)
    assert set(experiment.models) == set(experiment.kind.roles)
    assert set(experiment.loop.finetune_ckpt or {}) <= set(experiment.models)
    assert build_schedule(experiment.loop.lr_scheduler).rates([1.0], 10**6, 0.0) == [1.0]
    assert not without_effect(experiment)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_a_resolved_experiment_is_one_that_says_the_same(path, tmp_path):
    experiment = load_experiment(path)
    (tmp_path / "resolved.json").write_text(json.dumps(experiment.resolved()))
    assert load_experiment(tmp_path / "resolved.json").resolved() == experiment.resolved()


@pytest.mark.parametrize("name", TRAINERS)
def test_settings_of_the_loop_and_of_trainers_have_other_names(name):
    loop, own = (set(inspect.signature(cls).parameters) for cls in (LoopConfig, TRAINERS[name].settings))
    assert loop and not loop & own


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("generation/ss_scenegen_flow_img_train", "whose use_collision_loss waits for the GPU"),
        ("generation/ss_flow_txt_dit_L_16l8_fp16", "whose captions are others in every step"),
        ("generation/slat_flow_dit_L_64l8p2_fp16", "whose batches have another number of voxels"),
        ("small/geometry_encoder", "whose inverse of the cameras waits for the GPU"),
        ("generation/ss_flow_img_dit_L_16l8_fp16", None),
        ("small/scene_flow", None),
    ],
)
def test_passes_that_cannot_be_recorded_are_refused(tmp_path, path, reason):
    content = json.loads((Path(train.__file__).parent / "configs" / f"{path}.json").read_text())
    content["trainer"]["args"]["cuda_graphs"] = True
    (tmp_path / "e.json").write_text(json.dumps(content))
    if reason is None:
        assert load_experiment(tmp_path / "e.json").loop.cuda_graphs
        return
    message = f"trainer.cuda_graphs: expected false with {content['trainer']['name']}, {reason}"
    with pytest.raises(ConfigError, match=message):
        load_experiment(tmp_path / "e.json")


def test_the_released_trainer_records_passes_without_collisions(tmp_path):
    content = json.loads((Path(train.__file__).parent / "configs/generation" / RELEASED).read_text())
    content["trainer"]["args"] |= {"cuda_graphs": True, "use_collision_loss": False}
    (tmp_path / "e.json").write_text(json.dumps(content))
    assert load_experiment(tmp_path / "e.json").loop.cuda_graphs


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
            "trainer SparseStructureVaeTrainer: unknown key 'lr'; known: .*'lambda_kl'.*'max",
        ),
        ({"arguments": {"lambda": 1}}, "trainer SparseStructureVaeTrainer: unknown key 'lambda'"),
        ({"arguments": {"lambda_kl": -1}}, "VaeTrainer: lambda_kl: expected at least 0, got -1"),
        ({"arguments": {"max_steps": "3"}}, "max_steps: expected int, got '3'"),
        ({"trainer": {"name": "SparseStructureVaeTrainer"}}, "missing key 'max_steps' for LoopConfig"),
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
    message = "dataset: expected SparseStructure or shapes, from which SparseStructureVaeTrainer learns, got"
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


# ---- the released configuration


@pytest.fixture(scope="module")
def released():
    """The configuration of the released scene flow, and its network without weights."""
    experiment = load_experiment(Path(train.__file__).parent / "configs/generation" / RELEASED)
    with torch.device("meta"):
        models = {role: build_model(named) for role, named in experiment.models.items()}
    freeze(models, experiment.loop.freeze_weights, experiment.loop.unfreeze_weights)
    return experiment, models["denoiser"]


def test_the_released_experiment_says_what_was_released(released):
    experiment, _ = released
    loop, settings = experiment.loop, experiment.settings
    assert (loop.max_steps, loop.batch_size, loop.fp16_mode) == (1_000_000, 128, "inflat_all")
    assert (loop.ema_rates, loop.fp16_scale_growth, loop.i_save) == ((0.9999,), 0.005, 50_000)
    assert loop.grad_clip.args == {"max_norm": 1.0, "clip_percentile": 95}
    assert loop.init_global_params is False and not loop.ema_warmup
    assert (settings.trans_weight, settings.rot_weight, settings.scale_weight) == (7, 5, 3)
    assert settings.use_collision_loss and settings.overlap_weight == 0
    assert settings.rotation_loss == "plain" and not settings.shared_t
    assert with_batches(OPTIONS, DATA[experiment.dataset.name], loop, processes=8).batch_size == 16


def test_the_released_network_has_its_size_and_trains_its_scene_attention(released):
    experiment, flow = released
    assert sum(p.numel() for p in flow.parameters()) == pytest.approx(908.8e6, rel=1e-3)
    parts = set()
    for name, parameter in flow.named_parameters():
        words = name.split(".")
        parts |= {words[2] if words[0] == "blocks" else words[0]} if parameter.requires_grad else set()
    assert parts == {"global_attn", "global_cross_attn", "adaLN_modulation_global", "position_token",
                     "register_token", "position_head"}  # fmt: skip
    groups = trained_groups(flow.named_parameters(), experiment.loop.optimizer)
    assert [group.args for group in groups] == [{"lr": 5e-5}] * 3
    assert [group.names[0].split(".")[0] for group in groups] == ["position_head", "position_token", "blocks"]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"lr": 0.1}, "missing key 'regex' for ParameterGroup"),
        ({"regex": "a", "args": {"lr": 0.1}, "lr": 0.1}, "unknown key 'lr' for ParameterGroup"),
        ("decoder", "expected an object for ParameterGroup, got 'decoder'"),
    ],
)
def test_what_is_no_group_of_parameters_is_refused(write, group, message):
    with pytest.raises(ConfigError, match=message):
        load_experiment(write({"optimizer": {"name": "AdamW", "param_groups": [group]}}))


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
