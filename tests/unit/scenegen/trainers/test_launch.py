"""Processes of a run: their places, what torchrun says, and how they end together."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from scenegen.trainers.launch import AGAIN, Place, places, run_processes, torchrun_place
from trellis_modules.config import ConfigError

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}


def test_places_of_the_second_machine_follow_those_of_the_first():
    found = places(4, 2, 1, "node0", 1234)
    assert [place.rank for place in found] == [4, 5, 6, 7]
    assert [place.local_rank for place in found] == [0, 1, 2, 3]
    assert {(place.size, place.address, place.port) for place in found} == {(8, "node0", 1234)}


def test_port_is_free_on_one_machine_and_the_released_one_on_several():
    first, second = places(2, 1, 0, "localhost", None), places(2, 1, 0, "localhost", None)
    assert first[0].port == first[1].port and first[0].port != second[0].port
    assert places(2, 2, 0, "node0", None)[0].port == 12345


def test_each_process_has_the_gpu_of_its_number_on_the_machine():
    place = Place(rank=5, local_rank=1, size=8)
    assert place.device(torch.device("cuda")) == torch.device("cuda", 1)
    assert place.device(torch.device("cuda", 3)) == torch.device("cuda", 3)
    assert place.device(torch.device("cpu")) == torch.device("cpu")


def test_torchrun_tells_the_place():
    assert torchrun_place(TORCHRUN) == Place(3, 1, 4, "node0", 29500)
    assert torchrun_place({"PATH": "/bin"}) is None
    assert torchrun_place({"RANK": "0", "WORLD_SIZE": "1"}) == Place()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": "first"}, "RANK of the environment: expected a whole number, got 'first'"),
        ({"RANK": "4"}, "RANK of the environment: expected 0 to WORLD_SIZE - 1 = 3, got 4"),
        ({"MASTER_PORT": ""}, "MASTER_PORT of the environment: expected a whole number, got ''"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE of the environment: expected a whole number, got '-1'"),
    ],
)
def test_what_makes_no_sense_in_the_environment_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        torchrun_place({**TORCHRUN, **changes})


# ---- running; these functions are run in processes of their own


def note(place, folder, *statuses):
    """Leave the environment in a file and end with the status of the rank."""
    (folder / str(place.rank)).write_text(os.environ["RANK"] + os.environ["WORLD_SIZE"])
    return statuses[place.rank]


def die_or_wait(place, folder):
    """Rank 1 is killed; rank 0 would wait for an hour."""
    if place.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    time.sleep(3600)
    return 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statuses", "together"), [((0, 0), 0), ((0, AGAIN), AGAIN), ((AGAIN, 1), 1), ((143, 143), 143)]
)
def test_processes_end_with_one_status(tmp_path: Path, statuses, together):
    assert run_processes(note, (tmp_path, *statuses), places(2, 1, 0, "localhost", None)) == together
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "02", "1": "12"}


@pytest.mark.slow
def test_a_process_that_is_killed_takes_the_others_with_it(tmp_path, caplog):
    start = time.monotonic()
    status = run_processes(die_or_wait, (tmp_path,), places(2, 1, 0, "localhost", None), grace_s=10.0)
    assert status == AGAIN and time.monotonic() - start < 120
    assert caplog.messages == ["rank 1 was ended by SIGKILL"]
