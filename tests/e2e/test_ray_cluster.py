"""Batches on a Ray cluster of two nodes on this machine, whose workers, nodes and drivers are killed."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import trimesh

import inference
from dataset_toolkits import build_metadata, download
from scenegen.batch.engines.ray_cluster import RayEngine
from scenegen.batch.engines.tasks import EngineError, Task, WorkerNeeds
from scenegen.synthesis.furniture.procedural.pack import generate_pack
from tests.e2e.test_interruptions import content
from tests.engine_works import Deeds
from tests.ray_nodes import ROOT, RayNode, ray_nodes
from tests.s3_server import content as content_of
from tests.s3_server import environment, make_bucket, s3_server

pytest.importorskip("ray", reason="needs the package ray: bash setup.sh --ray")
pytestmark = pytest.mark.slow

SCENES, ASSETS = (int(os.environ.get(f"SCENEGEN_TEST_{name}", 10)) for name in ("SCENES", "ASSETS"))
"""Smaller than what a release is tried with: 100 and 40."""

BUCKET = "bucket"


@pytest.fixture
def nodes():
    # paths of sockets have at most 107 characters
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"scenegen-ray-{os.getpid()}"
    try:
        with ray_nodes(folder, 2) as started:
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    # a worker may end before its answer to the task before has left it, which is then the one to be blamed
    assert 2 <= work.times("always") <= 3 and work.times("once") == 2
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


class Driver:
    """A command on the cluster, in a process that can be killed and started again."""

    def __init__(self, nodes: list[RayNode], *command: str) -> None:
        self._command = [sys.executable, *command]
        self._command += ["--engine", "ray", "--address", nodes[0].address, "--cpus-per-worker", "1"]
        self._environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(self) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(self._command, env=self._environment, **pipes)


def wait_for(condition: Callable[[], bool], driver: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while driver.poll() is None and not condition():
        assert time.monotonic() < end, "no progress"
        time.sleep(0.1)
    assert not driver.returncode, driver.communicate()[0]


def kill_a_worker(nodes: list[RayNode]) -> None:
    for worker in [worker for node in nodes for worker in node.workers()][:1]:
        os.kill(worker, signal.SIGKILL)


def _arguments(inputs: Path, output: Path, checkpoint: Path) -> list[str]:
    made = ["--input", str(inputs), "--output", str(output), "--checkpoint", str(checkpoint)]
    return [*made, "--formats", "glb,poses", "--device", "cpu", "--keep-holes"]


def test_scenes_survive_a_worker_a_node_and_the_driver(nodes, tmp_path, shared_checkpoint, write_scene):
    for number in range(SCENES):
        write_scene(tmp_path / "in" / f"s{number}", 2)
    assert inference.main(_arguments(tmp_path / "in", tmp_path / "local", shared_checkpoint)) == 0
    out = tmp_path / "out"
    command = [str(ROOT / "inference.py"), *_arguments(tmp_path / "in", out, shared_checkpoint)]
    batch = Driver(nodes, *command)

    def made(share: float) -> Callable[[], bool]:
        return lambda: len(list(out.glob("*/poses.json"))) >= share * SCENES

    with batch.start() as driver:
        wait_for(made(0.1), driver)
        kill_a_worker(nodes)
        wait_for(made(0.3), driver)
        driver.kill()
    with batch.start() as driver:
        wait_for(made(0.6), driver)
        nodes[1].kill()
        printed, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, printed
    assert "0 failed" in printed and " skipped" in printed
    lines = [json.loads(line) for line in (out / "tasks.jsonl").read_text().splitlines()]
    assert max(Counter(line["id"] for line in lines if line["status"] == "done").values()) == 1
    (out / "tasks.jsonl").unlink()
    assert not (out / ".partial").exists()
    assert content(out) == content(tmp_path / "local")


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    pytest.importorskip("moto", reason="needs the packages moto[server] and s3fs")
    monkeypatch.setenv("SCENEGEN_CACHE", str(tmp_path / "cache"))
    with s3_server() as address:
        make_bucket(address, BUCKET)
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)
        yield address


def _steps(encoder: Path) -> list[tuple[str, list[str], str]]:
    """Module, arguments and folder of the results of each step."""
    drawn = ["--engine", "EMBREE", "--resolution", "64"]
    encoded = ["--enc-pretrained", str(encoder), "--device", "cpu"]
    return [
        ("render", ["folder", *drawn], "renders"),
        ("voxelize", ["folder"], "voxels"),
        ("encode_ss_latent", encoded, f"ss_latents/{encoder.name}"),
    ]


def test_assets_in_a_bucket_survive_a_worker_a_node_and_the_driver(bucket, nodes, tmp_path):
    (tmp_path / "models").mkdir()
    for number, (mesh, _) in zip(range(ASSETS), generate_pack(ASSETS, seed=3).models()):
        model = trimesh.Trimesh(mesh.vertices, mesh.faces, face_colors=mesh.face_colours, process=False)
        (tmp_path / "models" / f"m{number:02d}.glb").write_bytes(model.export(file_type="glb"))
    source = ["folder", "--source", str(tmp_path / "models"), "--output-dir"]
    root, url = tmp_path / "root", f"s3://{BUCKET}/root"
    for place in (str(root), url):
        assert build_metadata.main([*source, place]) == download.main([*source, place]) == 0
        assert build_metadata.main([*source, place]) == 0
    encoder = ROOT / "checkpoints" / "scenegen-small" / "ckpts" / "ss_enc"
    for module, arguments, folder in _steps(encoder):
        step = importlib.import_module(f"dataset_toolkits.{module}")
        assert step.main([*arguments, "--output-dir", str(root)]) == 0

        def made(share: float, folder: str = folder) -> Callable[[], bool]:
            last = ("transforms.json", ".ply", ".npz")
            return lambda: (
                sum(name.endswith(last) for name in content_of(bucket, BUCKET, f"root/{folder}/"))
                >= share * ASSETS
            )

        batch = Driver(nodes, "-m", f"dataset_toolkits.{module}", *arguments, "--output-dir", url)
        with batch.start() as driver:
            wait_for(made(0.1), driver)
            kill_a_worker(nodes)
            wait_for(made(0.4), driver)
            driver.kill()
        with batch.start() as driver:
            if module == "render":
                wait_for(made(0.7), driver)
                nodes[1].kill()
            printed, _ = driver.communicate(timeout=600)
        assert driver.returncode == 0, printed
        for place in (str(root), url):
            assert build_metadata.main(["folder", "--output-dir", place]) == 0
    stored = content_of(bucket, BUCKET, "root/")
    made_here = {name: value for name, value in content(root).items() if not name.startswith((".", "merged"))}
    assert {
        name for name in stored if not name.startswith("merged") and not name.endswith(".jsonl")
    } == made_here.keys()
    assert all(stored[name] == value for name, value in made_here.items())
