"""Every JSON file of the project against every fault of JSON: one reader, one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from scenegen.checkpoints.schema import PipelineConfig
from scenegen.evaluation.glb import GlbError, read_glb
from scenegen.evaluation.loading import EvaluationError, load_poses
from scenegen.evaluation.runner import RecordStore
from scenegen.export.kept_files import read_record
from scenegen.hub import HubError
from scenegen.hub.lock import LOCK_FILE, load_lock
from scenegen.hub.releases import load_releases
from scenegen.inputs.boxes import load_boxes
from scenegen.inputs.image_files import SceneInputError
from scenegen.synthesis.furniture.mesh_pack import FORMAT, MeshPack, PackError
from scenegen.synthesis.layouts.scene_list import SceneList, SceneListError
from scenegen.trainers.checkpoints import StateError, StateStore
from scenegen.trainers.experiment import load_experiment
from tests.e2e.malformed import frugal
from tests.glb_files import glb_bytes
from trellis_modules.checkpoint import CheckpointError, load_checkpoint
from trellis_modules.config import ConfigError
from vggt.checkpoint import VggtCheckpointError, load_vggt

HALF = chr(92) + "ud800"  # the first half of a character beyond the first 65,536

FAULTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "line 1 column 1"),
    "half": (b'{"a": [1, 2', "line 1 column"),
    "two values": (b"{} {}", "line 1 column 4"),
    "lists in lists": (b"[" * 100_000 + b"]" * 100_000, "levels of lists and objects"),
    "objects in objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "levels of lists and objects"),
    "200 levels": (b"[" * 200 + b"]" * 200, "levels of lists and objects"),
    "400 digits": (b'{"a": ' + b"9" * 400 + b"}", "characters a number, got 400"),
    "5000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "characters a number, got 5000"),
    "5000 decimals": (b'{"a": 0.' + b"3" * 5000 + b"}", "characters a number, got 5002"),
    "beyond floats": (b'{"a": 1e999}', "expected a finite number, got 1e999"),
    "no number": (b'{"a": NaN}', "expected a finite number, got NaN"),
    "infinite": (b'{"a": [-Infinity]}', "expected a finite number, got -Infinity"),
    "a name twice": (b'{"a": 1, "b": {"c": 2, "c": 3}}', "every name once in an object, got 'c' twice"),
    "half a character": (f'{{"a": ["{HALF}"]}}'.encode(), "half of a character"),
    "half a character in a name": (f'{{"{HALF}": 1}}'.encode(), "half of a character"),
    "a long name": (b'{"' + b"n" * 4000 + b'": 1}', "names of at most 1024 characters"),
    "a million lists": (b"[" + b"[]," * 1_000_000 + b"[]]", "JSON of at most 2000000 values"),
    "another encoding": ('{"a": "é"}'.encode("latin-1"), "cannot be read as text"),
    "sixteen bits": ('{"a": 1}'.encode("utf-16"), "cannot be read as text"),
}


@dataclass(frozen=True)
class Reader:
    """A kind of JSON file: how a test writes and reads it, and the error that it gives."""

    read: Callable[[Path, bytes], object]
    error: type[Exception]


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read_network(folder: Path, content: bytes) -> object:
    save_file({"a": np.zeros(1)}, folder / "net.safetensors")
    write(folder / "net.json", content)
    return load_checkpoint(folder / "net")


def read_vggt(folder: Path, content: bytes) -> object:
    save_file({"a": np.zeros(1)}, folder / "model.safetensors")
    write(folder / "config.json", content)
    return load_vggt(folder)


def read_pipeline(folder: Path, content: bytes) -> object:
    write(folder / "pipeline.json", content)
    return PipelineConfig.load(folder)


def read_lock(folder: Path, content: bytes) -> object:
    write(folder / LOCK_FILE, content)
    return load_lock(folder)


def read_scene(folder: Path, content: bytes) -> object:
    return read_glb(write(folder / "scene.glb", glb_bytes(content, b"")))


def as_note(content: bytes) -> str:
    """Notes of safetensors files are text; what is none is no fault of theirs."""
    return content.decode("utf-8", errors="replace")


def read_pack(folder: Path, content: bytes) -> object:
    save_file({"a": np.zeros(1)}, folder / "pack", {"format": FORMAT, "infos": as_note(content)})
    return MeshPack.load(folder / "pack")


def read_state(folder: Path, content: bytes) -> object:
    write(folder / "misc_step0000001.json", content)
    return StateStore(folder).read(1)


READERS: dict[str, Reader] = {
    "pipeline": Reader(read_pipeline, CheckpointError),
    "network": Reader(read_network, CheckpointError),
    "vggt": Reader(read_vggt, VggtCheckpointError),
    "experiment": Reader(lambda f, c: load_experiment(write(f / "e.json", c)), ConfigError),
    "boxes": Reader(lambda f, c: load_boxes(write(f / "boxes.json", c)), SceneInputError),
    "poses": Reader(lambda f, c: load_poses(write(f / "poses.json", c)), EvaluationError),
    "lock": Reader(read_lock, HubError),
    "releases": Reader(lambda f, c: load_releases(write(f / "releases.json", c)), HubError),
    "scene GLB": Reader(read_scene, GlbError),
    "scene list": Reader(lambda f, c: SceneList.load(write(f / "list.json", c)), SceneListError),
    "mesh pack": Reader(read_pack, PackError),
    "training state": Reader(read_state, StateError),
}
NOT_IN_NOTES = {"another encoding", "sixteen bits"}

CASES = [
    (reader, fault)
    for reader in READERS
    for fault in FAULTS
    if not (reader == "mesh pack" and fault in NOT_IN_NOTES)
]


@pytest.mark.parametrize(("reader", "fault"), CASES)
def test_malformed_json_gives_one_line(tmp_path, reader, fault):
    content, says = FAULTS[fault]
    with frugal(), pytest.raises(READERS[reader].error) as error:
        READERS[reader].read(tmp_path, content)
    message = str(error.value)
    assert says in message and "\n" not in message and len(message) < 1000


@pytest.mark.parametrize("fault", FAULTS)
def test_a_record_of_an_earlier_run_that_is_malformed_is_not_ours(tmp_path, fault):
    write(tmp_path / "poses.json", FAULTS[fault][0])
    with frugal():
        assert read_record(tmp_path) is None


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "nothing"])
def test_a_malformed_line_of_an_evaluation_is_done_again(tmp_path, caplog, fault):
    path = write(tmp_path / "a.records.jsonl", FAULTS[fault][0] + b"\n")
    with frugal(), RecordStore(path) as store:
        assert store.get("a") is None
    assert "line 1 is no record" in caplog.messages[0]
