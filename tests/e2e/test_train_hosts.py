"""Training on two hosts, which are two launchers on this machine, one of which is lost and comes back."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.doc_pages import ROOT
from tests.e2e.test_train_commands import pack, write_experiment
from tests.process_trees import kill_tree

__all__ = ["pack"]

pytestmark = pytest.mark.slow

STEPS = 60


def host(
    folder: Path, config: Path, pack: Path, port: int, name: str, output: str
) -> subprocess.Popen[bytes]:
    command = ["bash", ROOT / "scripts/train.sh", config, "--gpus", "0", "--output", output]
    command += ["--nnodes", "2", "--rendezvous", f"127.0.0.1:{port}", "--packs", pack, "--workers", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PYTHON"] = sys.executable
    environment["SCENEGEN_CACHE"] = str(folder / name)  # a disk of its own
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            list(map(str, command)),
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "file://"], ids=["folder", "store"])
def test_a_host_that_is_lost_costs_the_steps_since_the_last_state(tmp_path, pack, scheme):
    config = write_experiment(tmp_path, max_steps=STEPS, i_save=5)
    port = free_port()
    given = config, pack, port
    output = f"{scheme}{tmp_path / 'out'}"
    first, second = (host(tmp_path, *given, name, output) for name in ("first", "second"))
    log = tmp_path / "out" / "log.jsonl"

    def steps() -> list[int]:
        lines = log.read_text().splitlines() if log.is_file() else []
        return [json.loads(line)["step"] for line in lines if line.endswith("}")]

    def wait_for(step: int) -> None:
        end = time.monotonic() + 200
        while max(steps(), default=0) < step:
            assert time.monotonic() < end and first.poll() is None, (tmp_path / "first.log").read_text()[
                -3000:
            ]
            time.sleep(0.1)

    try:
        wait_for(10)
        kill_tree(second.pid)
        second.wait()
        second = host(tmp_path, *given, "second", output)
        assert first.wait(timeout=300) == 0, (tmp_path / "first.log").read_text()[-3000:]
        assert second.wait(timeout=60) == 0
    finally:
        for process in (first, second):
            if process.poll() is None:
                kill_tree(process.pid)
                process.wait()
    assert max(steps()) == STEPS
    assert list((tmp_path / "out" / "ckpts").glob("encoder*.safetensors"))
