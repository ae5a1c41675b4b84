"""The ways to train: trials, traces, seeds, states to go on from, retries, and several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from scenegen.models.registry import load_checkpoint
from scenegen.synthesis.furniture.procedural.pack import generate_pack
from scenegen.trainers import experiment as experiments
from scenegen.trainers.learner import Learner

VAE = {"latent_channels": 4, "num_res_blocks": 1, "num_res_blocks_middle": 1, "channels": [8, 8, 8]}
MODELS = {
    "encoder": {"name": "SparseStructureEncoder", "args": {"in_channels": 1, **VAE}},
    "decoder": {"name": "SparseStructureDecoder", "args": {"out_channels": 1, **VAE}},
}
SHAPES = {"shapes": 4, "objects_per_step": 2, "resolution": 8, "surface_samples": 100}
TRAINER = {"max_steps": 4, "fp16_mode": None, "i_log": 1, "i_save": 2, "keep_last": None, "ema_rate": 0.5}

Run = Callable[..., int]


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """A training pack of six procedural models."""
    path = tmp_path_factory.mktemp("packs") / "train.safetensors"
    generate_pack(6, seed=1, remove_hidden=False).save(path)
    return path


def write_experiment(folder: Path, **arguments: Any) -> Path:
    """A tiny experiment with other arguments of its trainer."""
    path = folder / "e.json"
    experiment = {
        "models": MODELS,
        "dataset": {"name": "shapes", "args": SHAPES},
        "trainer": {"name": "SparseStructureVaeTrainer", "args": {**TRAINER, **arguments}},
    }
    path.write_text(json.dumps(experiment))
    return path


def command(folder: Path, pack: Path, output: str, *more: str, **arguments: Any) -> list[str]:
    config = write_experiment(folder, **arguments)
    files = ["--config", config, "--output_dir", folder / output, "--packs", pack]
    return [*map(str, files), "--device", "cpu", "--workers", "0", *more]


@pytest.fixture
def run(tmp_path, pack) -> Run:
    """Function (output folder, further flags, arguments of the trainer) -> exit status."""
    return lambda output, *more, **arguments: train.main(command(tmp_path, pack, output, *more, **arguments))


def losses(folder: Path) -> list[tuple[int, float]]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(record["step"], record["loss"]) for record in records]


def steps(folder: Path) -> list[int]:
    """Steps of the saved states."""
    return sorted(int(path.stem.removeprefix("misc_step")) for path in folder.glob("ckpts/misc_step*.json"))


def test_a_trial_tells_sizes_and_times_and_saves_nothing(tmp_path, run, capsys):
    assert run("out", "--tryrun", max_steps=1000, freeze_weights=["^encoder"], batch_size=4) == 0
    told = capsys.readouterr().out
    encoder = sum(p.numel() for p in load_built("encoder").parameters())
    assert f"encoder: 0 parameters trained, {encoder:,} frozen" in told
    assert "memory: " in told and "step: " in told and " for 1000 steps" in told
    assert "trainer.batch_size changes nothing: batches of shapes have the size" in told
    assert not list((tmp_path / "out").iterdir())


def load_built(role: str) -> torch.nn.Module:
    return experiments.build_model(MODELS[role])


def test_a_profile_is_a_trace_of_steps(tmp_path, run, capsys):
    assert run("out", "--profile") == 0
    trace = json.loads((tmp_path / "out" / "profile" / "trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"step 0", "step 2"} <= names and any("conv" in str(name) for name in names)
    assert "perfetto" in capsys.readouterr().out and not (tmp_path / "out" / "ckpts").exists()


def test_a_run_describes_itself(tmp_path, run):
    assert run("out", max_steps=1) == 0
    assert (tmp_path / "out" / "command.txt").read_text().startswith("python train.py --config ")
    summary = (tmp_path / "out" / "encoder_model_summary.txt").read_text().splitlines()
    count = sum(p.numel() for p in load_built("encoder").parameters())
    assert summary[0].split() == ["name", "shape", "dtype", "trained"]
    assert summary[-2:] == [f"parameters: {count:,}", f"trained: {count:,}"]
    assert any(line.startswith("input_layer.weight") and "float32" in line for line in summary)


def test_seed_of_the_command_line_decides_over_weights_and_data(tmp_path, run):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run(name, "--seed", seed, max_steps=2) == 0
    found = {name: losses(tmp_path / name) for name in "abc"}
    assert found["a"] == found["b"] != found["c"]
    saved = json.loads((tmp_path / "c" / "config.json").read_text())
    assert saved["trainer"]["args"]["seed"] == saved["dataset"]["args"]["seed"] == 2


def test_the_state_to_go_on_from_is_chosen(tmp_path, run, caplog):
    assert run("whole") == 0 and steps(tmp_path / "whole") == [2, 4]
    assert run("branch", "--load_dir", str(tmp_path / "whole"), "--ckpt", "2") == 0
    assert losses(tmp_path / "branch") == losses(tmp_path / "whole")[2:]
    assert run("whole", "--ckpt", "3") == 1
    assert caplog.messages[-1].endswith("expected the saved state of step 3, found none; saved: 2, 4")
    before = losses(tmp_path / "whole")
    assert run("whole", "--ckpt", "none") == 0 and losses(tmp_path / "whole") == before  # all steps again


def test_weights_to_start_from_are_not_needed_to_go_on(tmp_path, run, caplog):
    assert run("first", max_steps=1) == 0
    start = {"finetune_ckpt": {"encoder": str(tmp_path / "first" / "ckpts" / "encoder")}}
    assert run("second", max_steps=2, **start) == 0
    for path in (tmp_path / "first" / "ckpts").glob("encoder.*"):
        path.unlink()
    assert run("second", max_steps=3, **start) == 0 and len(losses(tmp_path / "second")) == 3
    assert run("third", **start) == 1 and "train that stage first" in caplog.messages[-1]


# ---- errors


def failing(monkeypatch, *numbers: int) -> list[int]:
    """Let some of the steps that are begun fail, as a GPU may; which were begun is noted."""
    begun: list[int] = []
    start = Learner.start_step

    def start_step(self):
        begun.append(len(begun))
        if begun[-1] in numbers:
            raise RuntimeError("CUDA error: unspecified launch failure")
        start(self)

    monkeypatch.setattr(Learner, "start_step", start_step)
    return begun


def test_a_run_that_fails_goes_on_from_its_last_state(tmp_path, run, monkeypatch, caplog):
    assert run("whole") == 0
    begun = failing(monkeypatch, 3, 5)  # the fourth step, and the fourth once more
    assert run("parts") == 0
    assert len(begun) == 4 + 2 + 2 and losses(tmp_path / "parts") == losses(tmp_path / "whole")
    told = [record for record in caplog.records if "an error while training" in record.message]
    assert len(told) == 2 and all("launch failure" in str(record.exc_info[1]) for record in told)


def test_a_run_that_fails_again_and_again_ends_with_status_1(run, monkeypatch, caplog):
    begun = failing(monkeypatch, *range(100))
    with pytest.raises(RuntimeError, match="launch failure"):
        run("out", "--auto_retry", "2")
    assert len(begun) == 3
    with pytest.raises(RuntimeError, match="launch failure"):
        run("out", "--auto_retry", "0")
    assert len(begun) == 4


def test_memory_that_does_not_suffice_is_told_in_one_line(run, monkeypatch, caplog):
    def start_step(self):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nmore")

    monkeypatch.setattr(Learner, "start_step", start_step)
    assert run("out", "--auto_retry", "1") == 1
    told = [message for message in caplog.messages if message.startswith("out of memory on cpu (CUDA out of")]
    assert len(told) == 2 and not any("\n" in message for message in told)


def test_what_cannot_be_built_is_not_tried_again(run, monkeypatch, caplog):
    read = []
    load = experiments.load_json
    monkeypatch.setattr(experiments, "load_json", lambda path: read.append(path) or load(path))
    assert run("out", lambda_bce=-1) == 1
    assert len(read) == 1 and "lambda_bce: expected at least 0" in caplog.messages[-1]


# ---- several processes


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_in_two_passes(tmp_path, run):
    assert run("one", batch_split=2) == 0
    assert run("two", "--num_gpus", "2") == 0
    for (step, one), (also, two) in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert step == also and one == pytest.approx(two, rel=1e-5)
    for role in MODELS:
        alone = load_checkpoint(tmp_path / "one" / "ckpts" / role).state_dict()
        for name, value in load_checkpoint(tmp_path / "two" / "ckpts" / role).state_dict().items():
            torch.testing.assert_close(value, alone[name], rtol=2e-3, atol=2e-3)  # of 16 bits


@pytest.mark.slow
def test_torchrun_starts_the_processes_too(tmp_path, pack, run):
    arguments = command(tmp_path, pack, "out")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, train.__file__, *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert [step for step, _ in losses(tmp_path / "out")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_process_that_is_killed_is_replaced(tmp_path, pack):
    arguments = command(tmp_path, pack, "out", "--num_gpus", "2", max_steps=300, i_save=10, i_log=10)
    process = subprocess.Popen(
        [sys.executable, train.__file__, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: steps(tmp_path / "out"))
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    told = process.communicate(timeout=300)[1]
    assert process.returncode == 0, told
    assert "was ended by SIGKILL" in told and "Traceback" not in told
    assert "started again from the last saved state" in told and "resumed" in told
    assert [step for step, _ in losses(tmp_path / "out")] == list(range(10, 301, 10))


def wait_for(condition: Callable[[], Any], timeout_s: float = 180.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the run did not come so far"
        time.sleep(0.05)


def children(parent: int) -> list[int]:
    """Processes that train, of the parent; not the one that tracks shared memory."""
    tasks = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in tasks if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
