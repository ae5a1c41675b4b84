"""Processes that train together: the same numbers as one alone, however they share; lost ones are told of."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scenegen.trainers.distributed import World, average_gradients, tensor_hashes
from tests.toy_processes import run_processes
from tests.toy_training import records

STEPS = 10
KILLED = {"rank": 1, "step": 5, "signal": "SIGKILL"}
STOPPED = {"rank": 1, "step": 4, "signal": "SIGTERM"}
CLIPPER = {"name": "AdaptiveGradClipper", "args": {"max_norm": 1.0, "buffer_size": 3}}
GROUPS = (  # in this order; each is one run
    {"output": "one", "size": 1, "batch_split": 2},
    {"output": "ddp", "size": 2},
    {"output": "fsdp2", "size": 2, "parallel": "fsdp2"},
    {"output": "validated_one", "size": 1, "batch_split": 2, "validated": 5},
    {"output": "validated", "size": 2, "validated": 5},
    {"output": "validated_parts", "size": 2, "parallel": "fsdp2", "validated": 5},
    {"output": "flat_one", "size": 1, "batch_split": 2, "fp16_mode": "inflat_all", "grad_clip": CLIPPER},
    {"output": "flat", "size": 2, "fp16_mode": "inflat_all", "grad_clip": CLIPPER},
    {"output": "stopped", "size": 2, "trouble": STOPPED},
    {"output": "stopped", "size": 2, "resume": True},
    {"output": "sharded", "size": 2, "parallel": "fsdp2", "trouble": STOPPED},
    {"output": "sharded", "size": 2, "parallel": "fsdp2", "resume": True},
    {"output": "apart", "size": 2, "trouble": {"differ": 1}},
    {"output": "killed", "size": 2, "trouble": KILLED},
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, dict[str, list[int]]]:
    """Folder of all runs, and the exit statuses of the last run of each output."""
    folder = tmp_path_factory.mktemp("processes")
    statuses = run_processes(folder, *({"max_steps": STEPS, "i_save": 3, **group} for group in GROUPS))
    return folder, {group["output"]: status for group, status in zip(GROUPS, statuses, strict=True)}


def state(folder: Path, output: str, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_file(folder / f"{output}{rank}.safetensors")


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys() and first
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize(("one", "two"), [("one", "ddp"), ("one", "fsdp2"), ("flat_one", "flat")])
def test_two_processes_learn_as_one_with_the_same_batches(runs, one, two):
    folder, statuses = runs
    assert statuses[two] == [0, 0]
    expected, found = records(folder / one), records(folder / two)
    assert [list(record) for record in expected] == [list(record) for record in found]
    assert sum("validation" in record for record in expected) == 4  # at the start, 4, 8 and the end
    assert len(expected) == STEPS + 4 and any("rare/error" in record for record in expected)
    for first, second in zip(expected, found, strict=True):
        assert second == pytest.approx(first, rel=1e-6 if two != "fsdp2" else 2e-6, nan_ok=True), first[
            "step"
        ]
    assert_close(state(folder, one), state(folder, two))


@pytest.mark.parametrize("two", ["validated", "validated_parts"])
def test_two_processes_measure_what_one_measures(runs, two):
    """Before the first step too, when weights that are spread were never gathered."""
    folder, statuses = runs
    assert statuses[two] == [0, 0]
    one, both = ([r for r in records(folder / name) if "validation" in r] for name in ("validated_one", two))
    assert [record["step"] for record in both] == [0, 5, 10]
    for first, second in zip(one, both, strict=True):
        assert second == pytest.approx(first, rel=2e-6) and "validation/translation_error" in first


def test_weights_spread_over_processes_are_those_that_all_hold(runs):
    folder, _ = runs
    ddp, fsdp2 = state(folder, "ddp"), state(folder, "fsdp2")
    assert_close(ddp, fsdp2)
    assert_close(fsdp2, state(folder, "fsdp2", rank=1))  # whole again in every process
    assert torch.equal(ddp["objective.mean_loss"], state(folder, "ddp", rank=1)["objective.mean_loss"])


@pytest.mark.parametrize(("whole", "parts"), [("ddp", "stopped"), ("fsdp2", "sharded")])
def test_what_stops_one_process_stops_all_and_both_go_on_exactly(runs, whole, parts):
    folder, statuses = runs
    assert statuses[parts] == [0, 0]
    assert [line for line in records(folder / parts) if "loss" in line] == [
        line for line in records(folder / whole) if "loss" in line
    ]
    for name, value in state(folder, whole).items():
        assert torch.equal(value, state(folder, parts)[name]), name


def test_spread_states_are_safetensors_and_complete_themselves_last(runs):
    folder, _ = runs
    files = sorted(path.name for path in (folder / "sharded" / "ckpts" / "shards_step0000009").iterdir())
    assert len(files) == 2 and all(name.endswith(".safetensors") for name in files)
    content = json.loads((folder / "sharded" / "ckpts" / "misc_step0000009.json").read_text())
    assert sum(name.startswith("shards_step0000009/") for name in content["sha256"]) == 2


def test_processes_that_have_run_apart_are_found(runs):
    folder, statuses = runs
    assert statuses["apart"] == [1, 1]
    lines = (folder / "apart.rank0.log").read_text().splitlines()
    assert "rank 1: expected net." in lines[-1] and "Traceback" not in "".join(lines)


def test_the_end_of_one_process_ends_the_others_with_one_line(runs):
    folder, statuses = runs
    assert statuses["killed"] == [1, -9]
    lines = (folder / "killed.rank0.log").read_text().splitlines()
    assert lines[-1].startswith("rank 0 of 2 on ") and "another process of the run ended" in lines[-1]
    assert not any("Traceback" in line for line in lines)
    assert json.loads((folder / "killed" / "ckpts" / "latest.json").read_text()) == {"step": 4}


@pytest.mark.gpu
def test_two_gpus_learn_as_one(tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    pairs = (("one", "ddp"), ("one", "fsdp2"), ("flat_one", "flat"))
    compared = [group for group in GROUPS if any(group["output"] in pair for pair in pairs)]
    assert len(compared) == 5
    statuses = run_processes(
        tmp_path, *({"max_steps": STEPS, "i_save": 3, "gpu": True, **group} for group in compared)
    )
    assert all(status == 0 for group in statuses for status in group), statuses
    for one, two in pairs:
        for first, second in zip(records(tmp_path / one), records(tmp_path / two), strict=True):
            assert second == pytest.approx(first, rel=1e-4, nan_ok=True), (two, first["step"])


@pytest.mark.gpu
def test_the_end_of_one_gpu_ends_the_other_with_one_line(tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    assert run_processes(tmp_path, {"max_steps": STEPS, "gpu": True, **GROUPS[-1]}) == [[1, -9]]
    assert "another process of the run ended" in (tmp_path / "killed.rank0.log").read_text()


def test_hashes_see_every_bit_and_every_place():
    values = {"a": torch.randn(7), "b": torch.arange(5), "c": torch.zeros(()), "d": torch.zeros(3).half()}
    before = tensor_hashes(values)
    assert before == tensor_hashes({name: value.clone() for name, value in values.items()})
    for name, value in values.items():
        changed = value.clone()
        changed.view(-1).view(torch.uint8)[-1] ^= 1
        assert tensor_hashes({**values, name: changed})[name] != before[name]
    assert tensor_hashes({"a": values["a"].flip(0)})["a"] != before["a"]
    assert tensor_hashes({}) == {}


def test_a_single_process_is_a_world_of_its_own():
    world = World.current()
    assert world.is_first and world.gather(3) == [3] and world.from_first("x") == "x"
    world.check_equal({"a": torch.zeros(2)})
    with pytest.raises(RuntimeError, match="^gloo"), world.watched():
        raise RuntimeError("gloo says what it likes: nobody else is here")


def test_gradients_of_recorded_passes_are_averaged_and_missing_ones_are_zeros():
    class Two(World):
        """A world whose other process has gradients of ones everywhere."""

        def sum_(self, values):
            return values.add_(1.0)

    first, second = (torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(4)))
    first.grad = torch.full((2, 3), 3.0)
    average_gradients([first, second], Two(rank=0, size=2))
    torch.testing.assert_close(first.grad, torch.full((2, 3), 2.0))
    torch.testing.assert_close(second.grad, torch.full((4,), 0.5))
