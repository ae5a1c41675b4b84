"""The command line of training: what it takes, and what it says to wrong arguments."""

from pathlib import Path

import pytest
import torch

from scenegen.cli.train_options import parse_arguments

NEEDED = ["--config", "e.json", "--output_dir", "out"]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No launcher, and a machine without GPUs."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr("scenegen.cli.train_options.default_device", lambda: "cpu")


@pytest.fixture
def gpus(monkeypatch):
    """A machine with four GPUs."""
    monkeypatch.setattr("scenegen.cli.train_options.default_device", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


def parsed(*arguments):
    return parse_arguments("Train.", [*NEEDED, *arguments], "train.py")


def test_defaults_are_the_released_ones():
    options = parsed()
    assert (options.ckpt, options.auto_retry, options.tryrun, options.profile) == ("latest", 3, False, False)
    assert (options.num_nodes, options.node_rank, options.master_addr) == (1, 0, "localhost")
    assert options.load_dir is None and options.data_dir == () and options.processes == 1


def test_flags_of_released_scripts_are_understood():
    options = parsed(
        "--load_dir", "", "--data_dir", "a,b/c", "--ckpt", "50000", "--num_gpus", "-1", "--auto_retry", "0",
        "--master_port", "12345", "--num_nodes", "2", "--node_rank", "1", "--master_addr", "node0",
    )  # fmt: skip
    assert options.load_dir is None and options.data_dir == (Path("a"), Path("b/c"))
    assert options.ckpt == 50000 and options.processes == 1 and options.master_port == 12345


def test_all_gpus_are_used_unless_one_is_named(gpus):
    assert parsed().processes == 4 and parsed("--num_gpus", "-1").processes == 4
    assert parsed("--num_gpus", "2").processes == 2


def test_processes_on_the_cpu_are_asked_for_by_its_name():
    assert parsed("--device", "cpu", "--num_gpus", "3").processes == 3


def test_torchrun_decides_over_processes(monkeypatch):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1"), ("MASTER_PORT", "29500")):
        monkeypatch.setenv(name, value)
    options = parsed()
    assert options.torchrun.rank == 1 and options.torchrun.size == 2 and options.processes == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--ckpt", "last"], "argument --ckpt: expected latest, none or a step, got 'last'"),
        (["--ckpt", "-5"], "argument --ckpt: expected"),
        (["--data_dir", "a,,b"], "argument --data-dir: expected folders separated by commas, got 'a,,b'"),
        (["--num_gpus", "0"], "argument --num-gpus: expected a whole number above 0, got '0'"),
        (["--num_gpus", "2"], "argument --num-gpus: expected GPUs on this machine, found none, got 2"),
        (["--node_rank", "2", "--num_nodes", "2"], "--node-rank: expected 0 to --num-nodes - 1 = 1, got 2"),
        (["--master_port", "70000"], "argument --master-port: expected a whole number from 1 to 65535"),
        (["--seed", "-1"], "argument --seed: expected a whole number of at least 0"),
        (["--seed", str(2**40)], "argument --seed: expected a whole number from 0 to"),
        (["--auto_retry", "often"], "argument --auto-retry: expected a whole number"),
        (["--anneal"], "--anneal needs --time-limit"),
    ],
)
def test_wrong_arguments_end_with_one_line(arguments, says, capsys):
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    line = capsys.readouterr().err
    assert ended.value.code == 2 and says in line and line.count("\n") == 1


def test_more_gpus_than_there_are_end_with_one_line(gpus, capsys):
    with pytest.raises(SystemExit):
        parsed("--num_gpus", "8")
    assert "argument --num-gpus: expected at most 4 with --device cuda, got 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "arguments", "says"),
    [
        ("x", [], "RANK of the environment: expected a whole number, got 'x'"),
        ("0", ["--device", "cpu", "--num_gpus", "2"], "another launcher started this process (RANK is set"),
    ],
)
def test_an_environment_that_contradicts_ends_with_one_line(monkeypatch, capsys, value, arguments, says):
    monkeypatch.setenv("RANK", value)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    assert ended.value.code == 2 and says in capsys.readouterr().err
