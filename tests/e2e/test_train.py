"""Training through its own command: signals, limits, export, and what is made of trained networks."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from dataset_toolkits import build_picture_set
from scenegen.datasets.source import SourceOptions
from scenegen.inputs.scene_folder import read_scene
from scenegen.models.registry import load_checkpoint
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.procedural.pack import generate_pack
from scenegen.synthesis.sources.picture_set import PictureSet
from scenegen.synthesis.sources.shape_pool import ShapeSource
from scenegen.trainers.data import build_source
from scripts import assemble_checkpoint
from tests.toy_experiments import (
    IMAGE_SIZE,
    ONLINE,
    STEPS,
    STRUCTURE_DECODER,
    STRUCTURE_ENCODER,
    TOYS,
    TRAINER,
    look_quickly,
)
from trellis_modules.config import NamedConfig

STAGES = {  # its networks, and the name of its source
    "structure_vae": ({"encoder": STRUCTURE_ENCODER, "decoder": STRUCTURE_DECODER}, "shapes"),
    "image_encoder": (TOYS["image_encoder"].models, "scenes"),
    "scene_flow": (TOYS["scene_flow"].models, "scene_latents"),
    "object_flow": (TOYS["object_flow"].models, "object_latents"),
    "structured_latent_vae": (TOYS["structured_latent_vae"].models, "voxel_fields"),
    "structured_latent_flow": (TOYS["structured_latent_flow"].models, "latent_pictures"),
}
SETTINGS = {
    "structure_vae": {"loss_type": "dice", "lambda_bce": 5.0, "lambda_kl": 0.001},
    "scene_flow": {"append_places": True, "draws": 2},
    "object_flow": {"append_places": True, "draws": 2},
}
SOURCES = {"object_flow": TOYS["object_flow"].data}
TRAINERS = {"structure_vae": "SparseStructureVaeTrainer"}  # where it is not the stage's


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """A training pack of six procedural models."""
    path = tmp_path_factory.mktemp("packs") / "train.safetensors"
    generate_pack(6, seed=1, remove_hidden=False).save(path)
    return path


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    """See `look_quickly`."""
    look_quickly(monkeypatch)


@pytest.fixture
def run(tmp_path, pack):
    """Function (objective, output folder) that calls train.py's main."""

    def call(
        objective: str, output: Path, *more: str, changes: dict[str, Any] | None = None, status: int = 0
    ) -> None:
        config = {
            "models": STAGES[objective][0],
            "dataset": {"name": STAGES[objective][1], "args": SOURCES.get(objective, ONLINE)},
            "trainer": {
                "name": TRAINERS.get(objective, objective),
                "args": TRAINER | SETTINGS.get(objective, {}),
            },
        }
        path = tmp_path / f"{objective}.json"
        path.write_text(json.dumps(config | (changes or {})))
        arguments = ["--config", path, "--output_dir", output, "--packs", pack, "--workers", "0", *more]
        assert train.main(["--device", "cpu", *map(str, arguments)]) == status

    return call


def losses(folder: Path) -> list[tuple[int, float]]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(record["step"], record["loss"]) for record in records]


def exported(folder: Path) -> set[str]:
    """Names of the networks that a run wrote at its end."""
    stems = {path.stem for path in (folder / "ckpts").glob("*.safetensors")}
    return {stem for stem in stems if "_step" not in stem}


@pytest.fixture
def encoder(tmp_path, run) -> Path:
    """Stem of a trained structure encoder."""
    return trained_encoder(run, tmp_path, "structure_vae")


def trained_encoder(run, folder: Path, autoencoder: str) -> Path:
    """Train an autoencoder in the folder; the stem of its encoder."""
    run(autoencoder, folder / autoencoder)
    return folder / autoencoder / "ckpts" / "encoder"


def test_trained_networks_become_a_checkpoint_of_the_pipeline(
    tmp_path, run, encoder, monkeypatch, write_scene
):
    run("scene_flow", tmp_path / "scene_flow", "--latent_encoder", str(encoder))
    folders = f"--structure_vae {tmp_path}/structure_vae --scene_flow {tmp_path}/scene_flow"
    arguments = f"assemble_checkpoint.py {folders} --output {tmp_path}/checkpoint --steps 3"
    monkeypatch.setattr(sys, "argv", arguments.split())
    assemble_checkpoint.main()
    pipeline = SceneGenPipeline.from_pretrained(tmp_path / "checkpoint")
    assert pipeline.config.sparse_structure_sampler.params.steps == 3
    assert pipeline.config.normalize_geometry and pipeline.config.append_places
    assert pipeline.config.image_size == IMAGE_SIZE
    scene = read_scene(write_scene(tmp_path / "room", 2))
    assert len(pipeline.run(scene).objects) == 2


def test_shapes_of_held_out_furniture_are_measured(tmp_path, run, encoder, pack, caplog):
    held_out = tmp_path / "validation.safetensors"
    models = [(mesh, replace(info, split="validation")) for mesh, info in MeshPack.load(pack).models()]
    MeshPack.from_meshes(models).save(held_out)
    settings = {**TRAINER, **SETTINGS["object_flow"], "validate_every": 2}
    changes = {"trainer": {"name": "object_flow", "args": settings}}
    decoder = ["--structure-decoder", str(encoder.with_name("decoder"))]
    more = ["--latent_encoder", str(encoder), *decoder]
    run("object_flow", tmp_path / "measured", *more, "--validation-packs", str(held_out), changes=changes)
    records = [json.loads(line) for line in (tmp_path / "measured" / "log.jsonl").read_text().splitlines()]
    measured = {record["step"]: record for record in records if "structure/fscore" in record}
    assert list(measured) == [0, 2, 4]
    for record in measured.values():
        assert 0 <= record["structure/iou"] <= record["structure/fscore"] <= 1 and record["validation"] > 0

    run(
        "object_flow", tmp_path / "refused", *more, "--validation-packs", str(pack), changes=changes, status=1
    )
    assert "expected models of the validation split only" in caplog.messages[-1]
    with caplog.at_level("INFO"):
        run("object_flow", tmp_path / "without", *more, changes=changes)
    assert "trainer.validate_every: nothing is measured without --validation-packs" in caplog.text


def test_a_run_starts_from_the_networks_of_another(tmp_path, run, encoder, caplog):
    more = ["--latent_encoder", str(encoder)]
    run("object_flow", tmp_path / "first", *more)
    changes = {
        "trainer": {"name": "object_flow", "args": {**TRAINER, **SETTINGS["object_flow"], "max_steps": 1}}
    }
    start = tmp_path / "first" / "ckpts"
    run("object_flow", tmp_path / "second", *more, "--start-from", str(start), changes=changes)
    run("object_flow", tmp_path / "fresh", *more, changes=changes)
    names = ("fresh", "first", "second")
    fresh, first, second = (load_checkpoint(tmp_path / name / "ckpts/flow").state_dict() for name in names)
    moved = sum(float((second[name] - first[name]).abs().sum()) for name in first)
    apart = sum(float((second[name] - fresh[name]).abs().sum()) for name in first)
    assert 0 < moved < apart / 2
    run("object_flow", tmp_path / "third", *more, "--start-from", str(tmp_path), changes=changes, status=1)
    assert caplog.messages[-1].startswith("trainer.finetune_ckpt: flow: expected ")


def test_stored_pictures_take_the_place_of_packs(tmp_path, run, pack, caplog):
    latents = trained_encoder(run, tmp_path, "structured_latent_vae")
    run("structured_latent_flow", tmp_path / "flow", "--latent_encoder", str(latents))
    config, pictures = tmp_path / "structured_latent_flow.json", tmp_path / "pictures.safetensors"
    making = ["--config", config, "--packs", pack, "--latent_encoder", latents, "--output", pictures]
    sizes = ["--steps", "2", "--objects", "4", "--shapes", "3", "--device", "cpu"]
    make = [*map(str, making), *sizes]
    assert build_picture_set.main(make) == 0
    assert 4 <= len(PictureSet.load(pictures)) <= 8

    experiment = json.loads(config.read_text())
    stored = {"files": [str(pictures)], "objects_per_step": 3}
    config.write_text(json.dumps(experiment | {"dataset": {"name": "picture_set", "args": stored}}))
    options = ["--device", "cpu", "--config", str(config), "--output-dir", str(tmp_path / "stored")]
    assert train.main([*options, "--packs", str(pack)]) == 1
    assert caplog.messages[-1].startswith("dataset picture_set: expected no --packs")
    assert train.main(options) == 0
    assert [step for step, _ in losses(tmp_path / "stored")] == [1, 2, 3, 4]
    assert build_picture_set.main(make) == 1
    assert "expected the dataset latent_pictures" in caplog.messages[-1]
    assert "got picture_set" in caplog.messages[-1]


@pytest.mark.parametrize("option", ["--workers", "--packs", "--latent-encoder"])
def test_options_that_stored_pictures_make_void_are_refused(tmp_path, monkeypatch, caplog, option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1.safetensors").touch()  # for --latent-encoder, whose file is looked for first
    source = {"name": "picture_set", "args": {"files": ["p.safetensors"], "objects_per_step": 3}}
    config = {
        "models": STAGES["structured_latent_flow"][0],
        "dataset": source,
        "trainer": {"name": "structured_latent_flow", "args": TRAINER},
    }
    (tmp_path / "flow.json").write_text(json.dumps(config))
    options = ["--config", tmp_path / "flow.json", "--output-dir", tmp_path / "out", option, "1"]
    assert train.main([str(value) for value in options]) == 1
    assert f"dataset picture_set: expected no {option}" in caplog.messages[-1]


def test_the_appearance_stage_joins_the_checkpoint(tmp_path, run, encoder, monkeypatch):
    latents = trained_encoder(run, tmp_path, "structured_latent_vae")
    run("scene_flow", tmp_path / "scene_flow", "--latent_encoder", str(encoder))
    run("structured_latent_flow", tmp_path / "structured_latent_flow", "--latent_encoder", str(latents))
    stages = ("structure_vae", "scene_flow", "structured_latent_vae", "structured_latent_flow")
    folders = [part for stage in stages for part in (f"--{stage}", f"{tmp_path}/{stage}")]
    arguments = [
        "assemble_checkpoint.py",
        *folders,
        "--output",
        f"{tmp_path}/checkpoint",
        "--slat_steps",
        "5",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    assemble_checkpoint.main()
    pipeline = SceneGenPipeline.from_pretrained(tmp_path / "checkpoint")
    config = pipeline.config
    assert config.append_places and config.has_appearance and config.default_texture_source == "mesh"
    assert config.slat_sampler.params.steps == 5 and config.slat_normalization.std == (1.0, 1.0, 1.0)
    for role in ("slat_flow_model", "slat_decoder_gs", "slat_decoder_mesh"):
        stem = tmp_path / "checkpoint" / config.models[role]
        assert f"{config.models[role]}.safetensors" in config.sha256
        assert load_checkpoint(stem).config.resolution == 8
    assert (tmp_path / "checkpoint" / "ckpts" / "slat_enc.safetensors").is_file()  # to train another flow


def test_half_an_appearance_stage_is_refused(monkeypatch, capsys):
    options = "--structure_vae a --scene_flow b --structured_latent_vae c"
    monkeypatch.setattr(sys, "argv", ["assemble_checkpoint.py", *options.split()])
    with pytest.raises(SystemExit):
        assemble_checkpoint.main()
    assert "belong together: give both" in capsys.readouterr().err


def test_a_run_saves_its_resolved_configuration(tmp_path, encoder):
    saved = json.loads((tmp_path / "structure_vae" / "config.json").read_text())
    arguments = saved["trainer"]["args"]
    assert saved["trainer"]["name"] == "SparseStructureVaeTrainer"
    assert saved["models"] == STAGES["structure_vae"][0]
    assert arguments["max_steps"] == STEPS and arguments["ema_rate"] == 0.9999  # a default of the loop
    assert arguments["lambda_bce"] == 5.0  # and one of the trainer's own settings
    assert saved["dataset"] == {"name": "shapes", "args": ONLINE}


def test_the_time_limit_ends_a_run_that_a_later_call_finishes(tmp_path, run):
    run("structure_vae", tmp_path / "vae", "--time_limit", "0")
    assert not (tmp_path / "vae" / "log.jsonl").exists()
    run("structure_vae", tmp_path / "vae")
    assert losses(tmp_path / "vae")[-1][0] == STEPS


def test_latents_come_with_unit_spread(encoder, pack):
    source = build_source(NamedConfig("shapes", ONLINE), SourceOptions(torch.device("cpu"), (pack,)))
    latents = load_checkpoint(encoder)(source.batch(STEPS).occupancy.float())
    torch.testing.assert_close(latents.pow(2).mean((0, 2, 3, 4)), torch.ones(4), rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ("objective", "changes", "line"),
    [
        ("scene_flow", {}, "dataset scene_latents: expected --latent-encoder, got none"),
        (
            "structure_vae",
            {"dataset": {"name": "scenes"}},
            "dataset: expected SparseStructure or shapes, from which SparseStructureVae",
        ),
        ("structure_vae", {"sources": {}}, "unknown key 'sources' for ExperimentConfig"),
        (
            "image_encoder",
            {
                "trainer": {
                    "name": "image_encoder",
                    "args": {"max_steps": 1, "finetune_ckpt": {"image_encoder": "nowhere"}},
                }
            },
            "nowhere",
        ),
    ],
)
def test_an_experiment_that_cannot_be_built_is_refused_in_one_line(
    tmp_path, run, caplog, objective, changes, line
):
    run(objective, tmp_path / "out", changes=changes, status=1)
    assert line in caplog.messages[-1] and "\n" not in caplog.messages[-1]


def test_annealing_needs_a_time_limit(tmp_path, run, capsys):
    with pytest.raises(SystemExit):
        run("structure_vae", tmp_path / "vae", "--anneal")
    assert "--anneal needs --time-limit" in capsys.readouterr().err


STEADY = {
    "dataset": {"name": "shapes", "args": ONLINE | {"objects_per_step": 64}},
    "trainer": {"name": "SparseStructureVaeTrainer", "args": {"max_steps": 9999, "fp16_mode": None}},
}


def started(tmp_path: Path, pack: Path, until: str, *more: str) -> subprocess.Popen:
    """Start train.py on a long run and wait until it says something."""
    config = {"models": STAGES["structure_vae"][0]}
    (tmp_path / "long.json").write_text(json.dumps(config | STEADY))
    arguments = ["--config", tmp_path / "long.json", "--output-dir", tmp_path / "run", "--packs", pack]
    process = subprocess.Popen(
        [sys.executable, str(Path(train.__file__)), *map(str, arguments), "--device", "cpu", *more],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stderr:
        if until in line:
            return process
    raise AssertionError(f"ended with {process.wait()}")


@pytest.mark.slow
def test_group_of_processes_that_is_told_to_stop_ends_with_one_line(tmp_path, pack):
    process = started(tmp_path, pack, "first step: ", "--workers", "1")
    os.killpg(process.pid, signal.SIGTERM)  # as schedulers do, with the processes that compose scenes
    lines = process.stderr.read().splitlines()
    assert process.wait(timeout=60) == 143
    assert "SIGTERM: saved at step" in lines[-1] and not any("Traceback" in line for line in lines)


@pytest.mark.parametrize(
    ("number", "name", "status"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)]
)
def test_signal_saves_and_ends_with_one_line(tmp_path, run, monkeypatch, caplog, number, name, status):
    batch = ShapeSource.batch

    def signalled(self, step, *slot):
        if step == 2:
            os.kill(os.getpid(), number)
        return batch(self, step, *slot)

    with monkeypatch.context() as patch, caplog.at_level("INFO"):
        patch.setattr(ShapeSource, "batch", signalled)
        run("structure_vae", tmp_path / "parts", status=status)
    assert f"{name}: saved at step 2 in {tmp_path / 'parts'}; run the command again" in caplog.messages[-1]
    assert not exported(tmp_path / "parts")
    run("structure_vae", tmp_path / "parts")
    run("structure_vae", tmp_path / "whole")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_first_step_is_told_with_an_estimate_and_the_precision(tmp_path, run, caplog):
    arguments = TRAINER | {"max_steps": 100, "fp16_mode": "bfloat16"}
    changes = {"trainer": {"name": "SparseStructureVaeTrainer", "args": arguments}}
    with caplog.at_level("INFO"):
        run("structure_vae", tmp_path / "vae", "--time_limit", "2", changes=changes)
    text = caplog.text
    assert "bfloat16 of the configuration takes several times as long on a CPU: float32 is used" in text
    assert re.search(r"first step: \d+\.\d s; at this rate .+ for the \d+ steps to come", text)


@pytest.mark.slow
def test_smoke_configurations_show_every_stage(tmp_path, pack, monkeypatch):
    """As scripts/train_small.sh --smoke does, in one process."""
    root, folder = Path(train.__file__).parent, Path("outputs/smoke")
    encoders = {
        "scene_flow": "structure_vae",
        "scene_flow_few_steps": "structure_vae",
        "structured_latent_flow": "structured_latent_vae",
    }
    stages = re.findall(r"^train (\w+)", (root / "scripts" / "train_small.sh").read_text(), re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    for stage in stages:
        arguments = ["--config", root / "configs" / "smoke" / f"{stage}.json", "--output-dir", folder / stage]
        if stage in encoders:
            arguments += ["--latent-encoder", folder / encoders[stage] / "ckpts" / "encoder"]
        more = ["--packs", pack, "--workers", "0", "--device", "cpu"]
        assert train.main([*map(str, [*arguments, *more])]) == 0, stage
    assert len(stages) == 8
    assemble_checkpoint.main([
        "--structure-vae", str(folder / "structure_decoder"), "--scene-flow", str(folder / "scene_flow"),
        "--few-steps-flow", str(folder / "scene_flow_few_steps"),
        "--structured-latent-vae", str(folder / "structured_latent_vae"),
        "--structured-latent-flow", str(folder / "structured_latent_flow"),
        "--output", str(folder / "checkpoint"),
    ])  # fmt: skip
    config = SceneGenPipeline.from_pretrained(folder / "checkpoint", "cpu").config
    assert config.has_appearance and config.structure_flow(few_steps=True).sampler.params.steps == 2
