"""Making, evaluating and training scenes asks no network: all run where every socket is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_evaluate import write_scene as write_true_scene
from tests.e2e.test_malformed_training import EXPERIMENT

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = ("connect", "bind", "sendto", "sendmsg", "getaddrinfo", "gethostbyname", "gethostbyaddr")
PROGRAM = """
import importlib, sys

FORBIDDEN = {f"socket.{name}" for name in %(forbidden)r}

def refuse(event, arguments):  # Python calls it for whatever opens a socket, also inside other packages
    if event in FORBIDDEN:
        raise AssertionError(f"{event} {arguments}: the network was asked")

sys.addaudithook(refuse)
module, *arguments = sys.argv[1:]
sys.exit(importlib.import_module(module).main(arguments))
"""


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", PROGRAM % {"forbidden": FORBIDDEN}, module, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(program, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=300)


def test_the_guard_refuses_a_socket():
    result = run("tests.e2e.asks_the_network")
    assert result.returncode != 0 and "the network was asked" in result.stderr


def test_making_a_scene(tmp_path, shared_checkpoint, write_scene):
    write_scene(tmp_path / "in" / "room", 2)
    folders = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--checkpoint", shared_checkpoint)
    result = run("inference", *folders)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "room" / "scene.glb").is_file()


def test_evaluating_a_scene(tmp_path):
    for folder in ("truth", "prediction"):
        write_true_scene(tmp_path / folder / "a.glb", tmp_path / folder / "a.json")
    folders = ("--prediction", tmp_path / "prediction", "--truth", tmp_path / "truth")
    few = ("--num-points", "100", "--alignment", "filterreg", "--workers", "1")
    result = run("evaluate", *folders, "--output", tmp_path / "report.json", *few)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_training(tmp_path):
    from scenegen.synthesis.furniture.procedural.pack import generate_pack

    generate_pack(6, seed=1, remove_hidden=False).save(tmp_path / "pack")
    (tmp_path / "e.json").write_text(json.dumps(EXPERIMENT))
    files = ("--config", tmp_path / "e.json", "--packs", tmp_path / "pack", "--output-dir", tmp_path / "out")
    result = run("train", *files, "--workers", "0", "--device", "cpu")
    assert result.returncode == 0, result.stderr


def test_a_checkpoint_that_is_not_there_is_not_fetched_from_anywhere(tmp_path, write_scene):
    write_scene(tmp_path / "in" / "room", 1)
    result = run("inference", "--input", tmp_path / "in", "--checkpoint", tmp_path / "gone")
    assert result.returncode == 2 and "gone/pipeline.json: expected a checkpoint folder" in result.stderr
