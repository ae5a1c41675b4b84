"""Experiments, packs, saved states and command lines that training cannot use: one line each."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import train
from scenegen.hub.digest import file_sha256
from scenegen.synthesis.furniture.mesh_pack import FORMAT
from scenegen.synthesis.furniture.procedural.pack import generate_pack
from tests.e2e.malformed import frugal
from trellis_modules.files import locked

VAE = {"latent_channels": 4, "num_res_blocks": 1, "num_res_blocks_middle": 1, "channels": [8, 8, 8]}
EXPERIMENT = {
    "models": {
        "encoder": {"name": "SparseStructureEncoder", "args": {"in_channels": 1, **VAE}},
        "decoder": {"name": "SparseStructureDecoder", "args": {"out_channels": 1, **VAE}},
    },
    "dataset": {
        "name": "shapes",
        "args": {"shapes": 4, "objects_per_step": 2, "resolution": 8, "surface_samples": 100},
    },
    "trainer": {
        "name": "SparseStructureVaeTrainer",
        "args": {
            "max_steps": 2,
            "optimizer": {"name": "AdamW", "args": {"lr": 0.001}},
            "lr_scheduler": {"name": "LinearWarmupLRScheduler", "args": {"warmup_steps": 1}},
            "fp16_mode": None,
            "grad_clip": 1.0,
            "i_log": 1,
            "i_save": 1,
            "keep_last": 1,
        },
    },
}


@dataclass
class Run:
    """A run of ``train.py``, for a case to spoil.

    Attributes:
        folder: work folder; the output goes to ``out`` in it.
        pack: a good mesh pack.
        experiment: content of the experiment file, or its text.
        arguments: of the command line, beside the experiment's.
    """

    folder: Path
    pack: Path
    experiment: Any
    arguments: dict[str, str]

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def state(self) -> Path:
        """What makes the saved state of the last step whole."""
        return self.output / "ckpts" / "misc_step0000002.json"

    def change(self, *names: str, **values: Any) -> None:
        """Change values of the experiment at a place in it."""
        place = self.experiment
        for name in names:
            place = place[name]
        place.update(values)

    def start(self) -> int:
        path = Path(self.arguments["--config"])
        if not path.exists() and path.parent.exists():
            text = self.experiment if isinstance(self.experiment, str) else json.dumps(self.experiment)
            path.write_text(text)
        return train.main([text for pair in self.arguments.items() for text in pair])

    def train(self) -> None:
        """Train to the end, so that there is a state."""
        assert self.start() == 0
        Path(self.arguments["--config"]).unlink()

    def rewrite_pack(self, change: Callable[[dict[str, np.ndarray]], Any], **notes: str) -> None:
        """Change tensors of the pack and keep its notes."""
        tensors = load_file(self.pack)
        raw = self.pack.read_bytes()
        head = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
        change(tensors)
        save_file(tensors, self.pack, {**head, **notes})


def set_argument(name: str, value: str) -> Callable[[Run], None]:
    return lambda run: run.arguments.update({name: value})


def in_experiment(*names: str, **values: Any) -> Callable[[Run], None]:
    return lambda run: run.change(*names, **values)


def in_source(**values: Any) -> Callable[[Run], None]:
    return in_experiment("dataset", "args", **values)


def in_trainer(**values: Any) -> Callable[[Run], None]:
    return in_experiment("trainer", "args", **values)


def in_optimizer(**values: Any) -> Callable[[Run], None]:
    return in_experiment("trainer", "args", "optimizer", "args", **values)


def with_groups(*regexes: str) -> Callable[[Run], None]:
    groups = [{"regex": regex, "args": {"lr": 0.5}} for regex in regexes]
    return in_experiment("trainer", "args", "optimizer", param_groups=groups)


def in_encoder(**values: Any) -> Callable[[Run], None]:
    return in_experiment("models", "encoder", "args", **values)


def as_text(text: str) -> Callable[[Run], None]:
    return lambda run: setattr(run, "experiment", text)


def with_text(old: str, new: str) -> Callable[[Run], None]:
    """Change the text of the experiment, for what JSON writers refuse."""
    return lambda run: setattr(run, "experiment", json.dumps(EXPERIMENT).replace(old, new))


def make_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    path.unlink(missing_ok=True)
    here = os.getcwd()
    os.chdir(path.parent)  # addresses of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def with_state(change: Callable[[Run], Any]) -> Callable[[Run], None]:
    """Train first, then spoil what is there."""

    def spoil(run: Run) -> None:
        run.train()
        change(run)

    return spoil


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def foreign_state(run: Run) -> None:
    run.state.write_text('{"a": 1}')


def pickled_state(run: Run) -> None:
    run.output.mkdir()
    torch.save({"step": 1}, run.output / "state.pt")


def in_saved(stem: str, change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Run], None]:
    """Train first, then change tensors of the state, and the digest with them."""

    def spoil(run: Run) -> None:
        path = run.state.with_name(f"{stem}_step0000002.safetensors")
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
        content = json.loads(run.state.read_text())
        content["sha256"][path.name] = file_sha256(path)
        run.state.write_text(json.dumps(content))

    return with_state(spoil)


CASES: dict[str, tuple[Callable[[Run], Any], str]] = {
    # the experiment
    "experiment missing": (as_text("{}"), "missing key 'models'"),
    "experiment not there": (set_argument("--config", "/nowhere/e.json"), "no such configuration file"),
    "experiment empty": (as_text(""), "not valid JSON, line 1 column 1"),
    "experiment a list": (as_text("[]"), "expected an experiment as an object, got list"),
    "experiment a number": (as_text("3"), "expected an experiment as an object, got int"),
    "experiment a folder": (lambda run: Path(run.arguments["--config"]).mkdir(), "got a folder"),
    "experiment a pipe": (lambda run: make_pipe(Path(run.arguments["--config"])), "got a named pipe"),
    "experiment a socket": (lambda run: make_socket(Path(run.arguments["--config"])), "got a socket"),
    "experiment a device": (set_argument("--config", "/dev/zero"), "expected a file, got a device"),
    "experiment not finite": (with_text('"max_steps": 2', '"max_steps": NaN'), "expected a finite number"),
    "unknown key": (in_experiment(colour=1), "unknown key 'colour' for ExperimentConfig"),
    "unknown trainer": (in_experiment("trainer", name="gan"), "trainer: unknown name 'gan'"),
    "trainer a name": (in_experiment(trainer="structure_vae"), "trainer: expected an object for NamedConfig"),
    "unknown weight": (in_trainer(beauty=1.0), "trainer SparseStructureVaeTrainer: unknown key 'beauty'"),
    "weight negative": (in_trainer(lambda_kl=-1.0), "lambda_kl: expected at least 0"),
    "unknown dataset": (in_experiment("dataset", name="web"), "dataset: unknown name 'web'"),
    "unknown network": (in_experiment("models", "encoder", name="os.system"), "unknown name 'os.system'"),
    "network too many": (
        lambda run: run.change("models", painter=run.experiment["models"]["encoder"]),
        "for the trainer SparseStructureVaeTrainer, got 'encoder', 'decoder', 'painter'",
    ),
    "network missing": (lambda run: run.experiment["models"].pop("decoder"), "expected encoder, decoder"),
    "no networks": (in_experiment(models={}), "expected encoder, decoder for the trainer"),
    "networks a list": (in_experiment(models=[]), "models: expected an object, got []"),
    "channels zero": (in_encoder(latent_channels=0), "latent_channels: expected 1 to 65536, got 0"),
    "channels negative": (in_encoder(in_channels=-1), "in_channels: expected 1 to 65536, got -1"),
    "channels of a level zero": (in_encoder(channels=[8, 0, 8]), "channels: expected 1 to 65536, got 0"),
    "channels none": (in_encoder(channels=[]), "channels must name at least one level"),
    "channels a word": (in_encoder(in_channels="many"), "in_channels: expected int, got 'many'"),
    "a billion blocks": (in_encoder(num_res_blocks=10**9), "num_res_blocks: expected 0 to 256"),
    # numbers of the loop
    "no steps": (in_trainer(max_steps=0), "trainer.max_steps: expected at least 1, got 0"),
    "steps negative": (in_trainer(max_steps=-5), "trainer.max_steps: expected at least 1, got -5"),
    "never saved": (in_trainer(i_save=0), "trainer.i_save: expected at least 1, got 0"),
    "never logged": (in_trainer(i_log=0), "trainer.i_log: expected at least 1, got 0"),
    "learning rate negative": (in_optimizer(lr=-1.0), "trainer.optimizer AdamW: Invalid learning rate: -1.0"),
    "learning rate not finite": (
        with_text('"lr": 0.001', '"lr": Infinity'),
        "expected a finite number, got Infinity",
    ),
    "average above 1": (in_trainer(ema_rate=1.5), "trainer.ema_rate: expected 0 to 1, got 1.5"),
    "precision unknown": (in_trainer(fp16_mode="int4"), "trainer.fp16_mode: expected"),
    "clipping negative": (in_trainer(grad_clip=-1.0), "trainer.grad_clip: expected at least 0, got -1.0"),
    "schedule unknown": (in_trainer(lr_scheduler={"name": "Up"}), "trainer.lr_scheduler: unknown name 'Up'"),
    "optimiser unknown": (
        in_trainer(optimizer={"name": "os.system"}), "trainer.optimizer: unknown name 'os.system'"
    ),
    "optimiser's argument unknown": (in_optimizer(momentum=1), "trainer.optimizer AdamW: "),
    "seed negative": (in_trainer(seed=-1), "trainer.seed: expected 0 to"),
    "seed 10^30": (in_trainer(seed=10**30), "trainer.seed: expected 0 to"),
    "group of nothing": (with_groups("head"), "param_groups: expected a regular expression that fits"),
    "group of no expression": (with_groups("head("), "param_groups: expected a regular expression, got"),
    "frozen nothing": (in_trainer(freeze_weights=["head"]), "freeze_weights: expected a regular expression"),
    "frozen everything": (in_trainer(freeze_weights=["."]), "expected something left to train"),
    "started from nothing": (
        in_trainer(finetune_ckpt={"decoder": "nowhere/d"}), "finetune_ckpt: decoder: expected nowhere/d.safe"
    ),
    # numbers of the source
    "no objects": (in_source(objects_per_step=0), "objects_per_step: expected at least 1, got 0"),
    "objects negative": (in_source(objects_per_step=-2), "objects_per_step: expected at least 1, got -2"),
    "no shapes": (in_source(shapes=0), "shapes: expected at least 1, got 0"),
    "object counts not finite": (
        with_text('"shapes": 4', '"shapes": 4, "object_counts": [NaN]'),
        "expected a finite number, got NaN",
    ),
    "object counts of nothing": (in_source(object_counts=[0.0]), "object_counts: expected a weight above 0"),
    "no object counts": (in_source(object_counts=[]), "object_counts: expected a weight above 0"),
    "object counts negative": (in_source(object_counts=[-1.0, 2.0]), "object_counts: expected at least 0"),
    "workers negative": (in_source(workers=-1), "workers: expected 0 to 1024, got -1"),
    "workers a million": (set_argument("--workers", "1000000"), "workers: expected 0 to 1024, got 1000000"),
    "resolution zero": (in_source(resolution=0), "resolution: expected 1 to 256, got 0"),
    "resolution 10^6": (in_source(resolution=10**6), "resolution: expected 1 to 256, got 1000000"),
    "share of two": (in_source(real_share=2.0), "real_share: expected 0 to 1, got 2.0"),
    "refreshed every 0 steps": (in_source(refresh_steps=0), "refresh_steps: expected at least 1, got 0"),
    "source argument unknown": (in_source(beauty=1), "unknown key 'beauty'"),
    # packs
    "pack missing": (set_argument("--packs", "/nowhere/pack"), "expected a readable mesh pack"),
    "pack truncated": (lambda run: truncate(run.pack), "expected a readable mesh pack"),
    "pack of text": (lambda run: run.pack.write_text("mesh"), "expected a readable mesh pack"),
    "pack of other tensors": (
        lambda run: save_file({"a": np.zeros(1)}, run.pack),
        "expected a scenegen-mesh-pack-1 file, got format None",
    ),
    "pack without tensors": (
        lambda run: save_file({"a": np.zeros(1)}, run.pack, {"format": FORMAT, "infos": "[]"}),
        "expected the tensors of a mesh pack, got others (KeyError",
    ),
    "pack without records": (
        lambda run: run.rewrite_pack(lambda t: None, infos="[]"),
        "expected a record for each of 6 meshes, got 0",
    ),
    "pack with records that are none": (
        lambda run: run.rewrite_pack(lambda t: None, infos="[1, 2, 3, 4, 5, 6]"),
        "expected the tensors of a mesh pack",
    ),
    "pack with corners beyond": (
        lambda run: run.rewrite_pack(lambda t: t["faces"].fill(60_000)), "a vertex that does not exist"
    ),
    "pack with offsets beyond": (
        lambda run: run.rewrite_pack(lambda t: t["vertex_offsets"].fill(10**12)), "expected offsets from 0 to"
    ),
    "pack a pipe": (lambda run: make_pipe(run.pack), "expected a file, got a named pipe"),
    "pack a socket": (lambda run: make_socket(run.pack), "expected a file, got a socket"),
    "pack a folder": (set_argument("--packs", "/tmp"), "expected a file, got a folder"),
    "encoder that is not there": (set_argument("--latent-encoder", "a"), "a.safetensors, found none"),
    "encoder that is not used": (
        lambda run: run.arguments.update({"--latent-encoder": str(run.pack.with_suffix(""))}),
        "expected no --latent-encoder",
    ),
    # what was saved
    "state truncated": (with_state(lambda run: truncate(run.state)), "got another or a damaged file"),
    "state empty": (with_state(lambda run: run.state.write_bytes(b"")), "got another or a damaged file"),
    "state of something else": (with_state(foreign_state), "got another or a damaged file ('format')"),
    "network of a state truncated": (
        with_state(lambda run: truncate(run.state.with_name("encoder_step0000002.safetensors"))),
        "encoder_step0000002.safetensors has changed since it was written",
    ),
    "network of a state missing": (
        with_state(lambda run: run.state.with_name("decoder_step0000002.safetensors").unlink()),
        "got another or a damaged file ([Errno 2] No such file",
    ),
    "state lacks a tensor": (
        in_saved("encoder", lambda tensors: tensors.pop("input_layer.weight")),
        "encoder: tensor 'input_layer.weight' of shape",
    ),
    "average lacks a tensor": (
        in_saved("encoder_ema0.9999", lambda tensors: tensors.pop("input_layer.weight")),
        "encoder_ema0.9999: tensor 'input_layer.weight' of shape",
    ),
    "state of another optimiser": (
        in_saved("misc", lambda tensors: tensors.update({"optimizer.0.exp_avg": np.zeros((3, 3))})),
        "expected a tensor of shape (8, 1, 3, 3, 3), got (3, 3)",
    ),
    "state a pipe": (with_state(lambda run: make_pipe(run.state)), "expected a file, got a named pipe"),
    "state a pickle": (pickled_state, "state.pt: expected a state of safetensors and JSON, got a pickle"),
    "state of an earlier version": (
        lambda run: (run.output.mkdir(), (run.output / "state.safetensors").touch()),
        "state.safetensors: expected states in ckpts/, got one of an earlier version",
    ),
    "state of another rate": (
        with_state(in_optimizer(lr=0.5)),
        "a state with trainer.args.optimizer.args.lr = 0.5, as the experiment has, got 0.001; choose another",
    ),
    "state of other networks": (
        with_state(in_encoder(channels=[8, 16, 8])),
        "models.encoder.args.channels = [8, 16, 8], as the experiment has, got [8, 8, 8]",
    ),
    "state of another source": (
        with_state(in_source(shapes=5)), "expected a state with dataset.args.shapes = 5"
    ),
    # the folder
    "output a file": (lambda run: run.output.write_text("mine"), "out: expected a folder to write to"),
    "output below a file": (set_argument("--output-dir", "/dev/null/out"), "expected a folder to write to"),
    "output of the system": (set_argument("--output-dir", "/proc/out"), "expected a folder to write to"),
}  # fmt: skip

USAGE: dict[str, tuple[str, str, str]] = {
    "device tpu": ("--device", "tpu", "argument --device: expected"),
    "device not there": ("--device", "cuda:99", "argument --device: expected"),
    "workers negative": ("--workers", "-1", "argument --workers: expected"),
    "workers a word": ("--workers", "many", "argument --workers: expected a whole number"),
    "workers of 5000 digits": ("--workers", "9" * 5000, "argument --workers: expected a whole number"),
    "limit not a number": ("--time-limit", "nan", "argument --time-limit: expected a number of at least 0"),
    "limit infinite": ("--time-limit", "inf", "argument --time-limit: expected a number of at least 0"),
    "limit negative": ("--time-limit", "-3", "argument --time-limit: expected"),
    "limit a word": ("--time-limit", "long", "argument --time-limit: expected a number, got 'long'"),
    "flag unknown": ("--stepz", "3", "unrecognized arguments: --stepz 3"),
}


@pytest.fixture(scope="module")
def made_pack(tmp_path_factory) -> Path:
    """A training pack of six procedural models."""
    path = tmp_path_factory.mktemp("packs") / "train.safetensors"
    generate_pack(6, seed=1, remove_hidden=False).save(path)
    return path


@pytest.fixture
def run(tmp_path, made_pack) -> Run:
    pack = tmp_path / "pack.safetensors"
    shutil.copy(made_pack, pack)
    arguments = {
        "--config": str(tmp_path / "e.json"),
        "--output-dir": str(tmp_path / "out"),
        "--packs": str(pack),
        "--workers": "0",
        "--device": "cpu",
    }
    return Run(tmp_path, pack, json.loads(json.dumps(EXPERIMENT)), arguments)


@pytest.mark.parametrize("name", CASES)
def test_malformed_training_gives_one_line(run, caplog, name):
    spoil, says = CASES[name]
    spoil(run)
    before = run.state.read_bytes() if run.state.is_file() else None
    caplog.clear()
    with frugal():
        assert run.start() == 1
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert says in line and "\n" not in line and len(line) < 1000
    assert not any(record.exc_info for record in caplog.records)
    assert (run.state.read_bytes() if run.state.is_file() else None) == before


@pytest.mark.parametrize("name", USAGE)
def test_malformed_command_line_of_training_gives_one_line(run, capsys, name):
    flag, value, says = USAGE[name]
    run.arguments[flag] = value
    with pytest.raises(SystemExit) as error:
        run.start()
    (line,) = capsys.readouterr().err.splitlines()
    assert error.value.code == 2 and says in line and len(line) < 1000


def test_the_folder_of_a_run_that_goes_on_is_refused(run, caplog):
    run.output.mkdir()
    with locked(run.output, wait=False):
        assert run.start() == 1
    assert "another run writes to it; wait for its end, or choose another folder" in caplog.messages[-1]
    assert run.start() == 0


def test_a_full_disk_ends_training_in_one_line_and_it_goes_on_later(run, caplog, monkeypatch):
    run.change("trainer", "args", max_steps=1)
    run.train()
    run.change("trainer", "args", max_steps=2)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("scenegen.trainers.checkpoints.write_state", full)
        assert run.start() == 1
    line = caplog.messages[-1]
    assert "No space left on device" in line and "it goes on from the last state" in line
    assert run.start() == 0
    steps = [json.loads(line)["step"] for line in (run.output / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2]


@pytest.mark.parametrize(
    "change",
    [
        in_trainer(max_steps=3),
        in_trainer(i_save=2, i_log=3),
        in_source(workers=1),
        in_trainer(fp16_mode="bfloat16"),
    ],
)
def test_settings_that_do_not_decide_over_what_is_learnt_may_change(run, change):
    run.train()
    change(run)
    run.arguments["--workers"] = "0"
    assert run.start() == 0
