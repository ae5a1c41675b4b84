"""The steps of scenes on a data root in an object store: the files of the disk, also after interruptions."""

import os
import shutil
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset_toolkits import build_metadata_scene, build_scene, encode_cond, pack_scenes
from scenegen.datasets.metadata import read_assets
from scenegen.datasets.tables import read_lines
from scenegen.models.registry import build_model
from scenegen.stores.store import Store
from scenegen.stores.urls import StoreError, StoreUrl
from tests.ray_nodes import ray_nodes
from trellis_modules.checkpoint import save_checkpoint
from trellis_modules.files import locked

MODEL = "ss_enc_conv3d_16l8_fp16"
ENCODER = {"name": "VisionTransformer", "args": {"img_size": 28, "embed_dim": 32, "depth": 1, "num_heads": 2}}
INTERRUPTED = 130


@pytest.fixture(scope="module")
def picture_encoder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    stem = tmp_path_factory.mktemp("encoder") / "toy_encoder"
    save_checkpoint(build_model(ENCODER), stem)
    return stem


@pytest.fixture
def bucket(lookalike, tmp_path, monkeypatch):
    """Function (faults=False) -> a data root, and the same in a store: the folder and its URL."""
    monkeypatch.setenv("SCENEGEN_CACHE", str(tmp_path / "cache"))

    def make(faults: bool = False) -> tuple[Path, Path, str]:
        root, stored = lookalike(faults), tmp_path / "bucket" / "root"
        (root / "ss_latents" / MODEL).mkdir(parents=True)
        for number, asset in enumerate(read_assets(root / "metadata.csv")):
            mean = np.random.default_rng(number).normal(size=(8, 16, 16, 16)).astype(np.float32)
            np.savez_compressed(root / "ss_latents" / MODEL / f"{asset.sha256}.npz", mean=mean)
        shutil.copytree(root, stored)
        return root, stored, f"file://{stored}"

    return make


@pytest.fixture
def walk(geometry_encoder, picture_encoder):
    """Function (root, further flags) -> exit status of every step."""

    def steps(root: Path | str, *flags: str) -> list[int]:
        where = ["--output-dir", str(root), *flags]
        scenes = ["3D-FUTURE", *where, "--vggt-ckpt", str(geometry_encoder), "--save-mask", "--device", "cpu"]
        tokens = [*where, "--model", str(picture_encoder), "--image-size", "28", "--device", "cpu"]
        return [
            build_metadata_scene.main([*scenes, "--set", "train"]),
            build_metadata_scene.main([*scenes, "--set", "test"]),
            build_scene.main(["3D-FUTURE", *where, "--engine", "EMBREE"]),
            encode_cond.main(tokens),
            pack_scenes.main([*where, "--image-size", "42", "--samples-per-shard", "1"]),
            pack_scenes.main([*where, "--kind", "latents"]),
        ]

    return steps


def contents(root: Path) -> dict[str, bytes]:
    """Every file but those that say when something happened, and the lists of failures, which have paths."""
    files = [path for path in root.rglob("*") if path.is_file() and ".cache" not in path.parts]
    named = {path.relative_to(root).as_posix(): path for path in files if path.suffix != ".source"}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith("failed_")}


def left_here(tmp_path: Path) -> list[Path]:
    found = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    return [path for path in found if path.suffix not in (".csv", ".txt", ".json")]


def test_a_root_in_a_store_is_that_of_the_disk_and_made_once(bucket, walk, tmp_path, monkeypatch):
    root, stored, url = bucket()
    assert walk(root) == [0] * 6 and walk(url) == [0] * 6
    assert contents(stored) == contents(root)
    assert {"scene_test_render/render_cfg.json", "metadata_scene.csv"} < contents(stored).keys()
    assert len(list((stored / "shards").glob("scenes_train-*.safetensors"))) == 2
    assert left_here(tmp_path) == []
    delivered = []
    monkeypatch.setattr(Store, "deliver", lambda self, folder, name: delivered.append(name))
    assert walk(url) == [0] * 6
    assert set(delivered) <= {"scene_test_render/render_cfg.json", "failed_scene_test_0.csv"}


def test_shards_beyond_the_last_one_go_from_the_store_too(bucket, walk):
    root, stored, url = bucket()
    walk(root)
    walk(url)
    for place in (str(root), url):
        assert pack_scenes.main(["--output-dir", place, "--image-size", "42"]) == 0
    assert [path.name for path in (stored / "shards").glob("scenes_*")] == ["scenes_train-00000.safetensors"]
    assert contents(stored) == contents(root)


def test_what_is_wrong_is_named_as_on_the_disk(bucket, walk):
    root, stored, url = bucket(faults=True)
    statuses = walk(root)
    assert walk(url) == statuses and 1 in statuses
    assert contents(stored) == contents(root)
    lists = sorted(path.name for path in root.glob("failed_*.csv"))
    assert lists == sorted(path.name for path in stored.glob("failed_*.csv"))
    for name in lists:
        here, there = ([line for _, line in read_lines(place / name, ["item"])] for place in (root, stored))
        assert [line["item"] for line in here] == [line["item"] for line in there]
        assert not any("/.work/" in line["error"] for line in there)


@pytest.mark.parametrize("last", [2, 9, 23])
def test_steps_that_are_interrupted_go_on(bucket, walk, monkeypatch, last):
    root, stored, url = bucket()
    assert walk(root) == [0] * 6
    numbers, deliver = count(), Store.deliver

    def interrupted(self, folder, name):
        if next(numbers) == last:
            raise KeyboardInterrupt
        deliver(self, folder, name)

    monkeypatch.setattr(Store, "deliver", interrupted)
    assert INTERRUPTED in walk(url)
    assert walk(url) == [0] * 6
    assert contents(stored) == contents(root)


def test_a_store_that_refuses_ends_a_step_in_one_line(bucket, walk, monkeypatch, caplog):
    _, _, url = bucket()

    def refuse(self, folder, name):
        raise StoreError(f"{self.url}/{name}: expected a store that can be used, got none")

    monkeypatch.setattr(Store, "deliver", refuse)
    assert walk(url)[0] == 1
    assert "Traceback" not in caplog.text and "expected a store that can be used" in caplog.text
    assert build_metadata_scene.main(["3D-FUTURE", "--output-dir", f"{url}/nothing"]) == 1
    assert "run build_metadata.py first" in caplog.records[-1].message
    assert pack_scenes.main(["--output-dir", f"{url}/nothing"]) == 1
    assert caplog.records[-1].message.startswith(f"{url}/nothing/metadata_scene.csv: no such file")


def test_one_step_at_a_time_works_on_a_root_of_a_store(bucket, walk, caplog):
    _, _, url = bucket()
    mirror = StoreUrl.parse(url).mirror
    mirror.mkdir(parents=True)
    with locked(mirror, wait=False):
        assert pack_scenes.main(["--output-dir", url]) == 1
    assert caplog.records[-1].message.startswith(f"{url}: another step on this machine works on it; wait")


@pytest.mark.slow
def test_two_workers_write_what_one_writes(bucket, walk):
    root, stored, url = bucket()
    assert walk(root) == [0] * 6 and walk(url, "--workers", "2", "--cpus-per-worker", "1") == [0] * 6
    assert contents(stored) == contents(root)


@pytest.mark.slow
def test_a_cluster_writes_what_one_process_writes(bucket, walk, tmp_path):
    pytest.importorskip("ray", reason="needs the package ray: bash setup.sh --ray")
    root, stored, url = bucket()
    folder = Path(f"/tmp/scenegen-ray-{os.getpid()}")  # paths of sockets have at most 107 characters
    try:
        with ray_nodes(folder, 2) as nodes:
            assert walk(root) == [0] * 6
            assert walk(url, "--engine", "ray", "--address", nodes[0].address) == [0] * 6
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    logs = list(stored.glob("*.jsonl"))
    assert {path.name for path in logs} >= {"metadata_scene_0.jsonl", "scene_test_0_0.jsonl"}
    made = {name: content for name, content in contents(stored).items() if not name.endswith(".jsonl")}
    assert made == contents(root)
