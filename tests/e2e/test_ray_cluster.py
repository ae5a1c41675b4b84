"""Batches on a Ray cluster of two nodes on this machine, whose workers, nodes and drivers are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import inference
from scenegen.batch.engines.ray_cluster import RayEngine
from scenegen.batch.engines.tasks import EngineError, Task, WorkerNeeds
from tests.e2e.test_interruptions import content
from tests.engine_works import Deeds
from tests.ray_nodes import ROOT, RayNode, ray_nodes

pytest.importorskip("ray", reason="needs the package ray: bash setup.sh --ray")
pytestmark = pytest.mark.slow

SCENES = 10


@pytest.fixture
def nodes(tmp_path_factory):
    # paths of sockets have at most 107 characters
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"scenegen-ray-{os.getpid()}"
    with ray_nodes(folder, 2) as started:
        yield started


def engine(nodes: list[RayNode], workers: int = 2, **needs) -> RayEngine:
    return RayEngine(workers, WorkerNeeds(1, **needs), nodes[0].address)


def test_tasks_come_back_from_workers_that_die(nodes, tmp_path):
    work = Deeds(tmp_path)
    deeds = {str(number): "" for number in range(500)}
    deeds |= {"once": "die-once", "always": "die", "warned": "warn", "failed": "fail"}
    records = {r.id: r for r in engine(nodes).run((Task(*deed) for deed in deeds.items()), work)}
    assert records.keys() == deeds.keys()
    assert {name for name, r in records.items() if r.status == "failed"} == {"always", "failed"}
    assert "always: its worker died" in records["always"].error
    assert (work.times("always"), records["once"].attempts) == (2, 2)
    assert records["warned"].messages == (("scenegen.inputs.engine_works", 30, "warned: warned"),)
    with pytest.raises(EngineError, match=r"worker on 127.0.0.1|worker on .*: no weights"):
        list(engine(nodes).run([Task("a")], Deeds(tmp_path, fault=OSError("no weights"))))


def test_what_a_cluster_cannot_give_is_one_line(nodes, tmp_path):
    for workers, needs, expected in (
        (3, {}, r"3 workers with 1 CPUs and 0 GPUs each, the cluster has 2 CPUs and 0 GPUs, enough for 2"),
        (1, {"gpus": 0.25}, r"1 workers with 1 CPUs and 0.25 GPUs each, .* enough for 0; give fewer"),
    ):
        with pytest.raises(EngineError, match=expected):
            list(engine(nodes, workers, **needs).run([Task("a")], Deeds(tmp_path)))
    start = time.monotonic()
    with pytest.raises(EngineError, match="expected a Ray cluster of version .*start one with"):
        list(RayEngine(1, WorkerNeeds(), "127.0.0.1:9").run([Task("a")], Deeds(tmp_path)))
    assert time.monotonic() - start < 10


def _arguments(inputs: Path, output: Path, checkpoint: Path) -> list[str]:
    made = ["--input", str(inputs), "--output", str(output), "--checkpoint", str(checkpoint)]
    return [*made, "--formats", "glb,poses", "--device", "cpu"]


def test_scenes_survive_a_worker_a_node_and_the_driver(nodes, tmp_path, shared_checkpoint, write_scene):
    for number in range(SCENES):
        write_scene(tmp_path / "in" / f"s{number}", 2)
    assert inference.main(_arguments(tmp_path / "in", tmp_path / "local", shared_checkpoint)) == 0
    out = tmp_path / "out"
    command = [
        sys.executable,
        str(ROOT / "inference.py"),
        *_arguments(tmp_path / "in", out, shared_checkpoint),
    ]
    command += ["--engine", "ray", "--address", nodes[0].address, "--cpus-per-worker", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def wait_for(count: int) -> None:
        end = time.monotonic() + 120
        while len(list(out.glob("*/poses.json"))) < count:
            assert time.monotonic() < end, "no progress"
            time.sleep(0.1)

    with start() as driver:
        wait_for(1)
        os.kill(nodes[0].workers()[0], signal.SIGKILL)
        wait_for(3)
        driver.kill()
    assert not list(out.glob("*/.*.part"))
    with start() as driver:
        wait_for(5)
        nodes[1].kill()
        printed, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors
    assert "0 failed" in printed and " skipped" in printed
    lines = [json.loads(line) for line in (out / "tasks.jsonl").read_text().splitlines()]
    assert max(Counter(line["id"] for line in lines if line["status"] == "done").values()) == 1
    (out / "tasks.jsonl").unlink()
    assert content(out) == content(tmp_path / "local")
