"""All eleven steps from raw data that looks like 3D-FUTURE's to true scenes and shards, without Blender."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dataset_toolkits import build_lookalike, inspect_root, pack_scenes
from scenegen.datasets.metadata import read_assets, read_scenes
from scenegen.datasets.scene_samples import LatentSamples, SceneSampleConfig, SceneSamples
from scenegen.datasets.shards import shard_paths
from tests.scene_road import ENCODER, FUTURE, LATENT_MODEL, ROOT, drawn_with_embree, walk


@pytest.fixture(scope="module")
def encoder(finished_roots: dict[str, Path]) -> Path:
    return finished_roots[FUTURE].with_name(ENCODER)


@pytest.fixture(scope="module")
def walked(finished_roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root that went the whole road."""
    root = tmp_path_factory.mktemp("road") / "root"
    shutil.copytree(finished_roots[FUTURE], root)
    return root


def test_every_step_left_its_files(walked: Path) -> None:
    assets = read_assets(walked / "metadata.csv")
    assert len(assets) == 3 and all(asset.rendered and asset.voxelized for asset in assets)
    assert all(asset.cond_rendered and all(asset.status.values()) for asset in assets)
    for name, suffix in (("train", ""), ("test", "_test")):
        rows = read_scenes(walked / f"metadata_scene{suffix}.csv")
        scenes = [row for row in rows if row.kind == "scene"]
        assert len({row.scene_id for row in scenes}) == 1 and len(scenes) == 2
        assert all(row.status[f"ss_latent_{LATENT_MODEL}"] for row in rows)
        assert len(rows) - len(scenes) == (3 if name == "train" else 0), "assets alone, in their own renders"
        assert (walked / f"statistics_scene{suffix}.txt").read_text().startswith("Number of scenes: 1\n")
    assert sorted(path.name for path in (walked / "scene_test").iterdir()) == ["1000000.glb", "1000000.json"]
    assert (walked / "scene_test_render" / "1000000.png").is_file()
    assert list(json.loads((walked / "scene_test_render" / "render_cfg.json").read_text())) == ["1000000"]
    assert not list(walked.glob("failed_*"))


def test_nothing_is_broken(walked: Path, capsys: pytest.CaptureFixture) -> None:
    assert inspect_root.main([str(walked)]) == 0
    printed = capsys.readouterr().out
    assert "assets: 3, with a model: 3" in printed
    assert "poses of 2 objects: 0 tilted, 0 not on the floor" in printed
    assert (walked / "contact_sheet.png").stat().st_size > 1000


def test_shards_give_what_training_reads(walked: Path) -> None:
    where = ["--output_dir", str(walked), "--latent_model", LATENT_MODEL, "--image_size", "42"]
    assert pack_scenes.main(where) == 0
    assert pack_scenes.main([*where, "--kind", "latents"]) == 0
    config = SceneSampleConfig(use_single_asset=True)
    samples = SceneSamples(shard_paths(walked / "shards", "scenes", "train"), config)
    assert samples.num_objects() == [2, 2, 1, 1, 1]
    shapes = {name: tuple(tensor.shape) for name, tensor in samples[0].items()}
    assert shapes == {
        "x_0": (2, 16, 8, 8, 8), "cond": (2, 3, 42, 42), "mask_cond": (2, 3, 42, 42),
        "scene_image": (3, 42, 42), "vggt_feature": (1, 9, 64), "positions": (2, 8),
    }  # fmt: skip
    latents = LatentSamples(shard_paths(walked / "shards", "latents", "train"), None)
    assert len(latents) == 3
    with np.load(next((walked / "ss_latents" / LATENT_MODEL).glob("*.npz"))) as stored:
        assert any(np.array_equal(stored["mean"], latents[index]["x_0"].numpy()) for index in range(3))


def test_the_road_a_second_time_makes_nothing_again(walked: Path, encoder: Path) -> None:
    folders = ("masked_images", "masked_images_test", "vggt_features", "scene_test", "renders_cond", "voxels")
    files = [path for folder in folders for path in (walked / folder).rglob("*") if path.is_file()]
    times = {path: path.stat().st_mtime_ns for path in files}
    assert set(walk(walked, encoder, *drawn_with_embree())) == {0}
    assert times == {path: path.stat().st_mtime_ns for path in files}


def contents(root: Path) -> dict[str, bytes]:
    """Files that the steps of scenes make, without what says when something happened."""
    parts = ("masked_images", "vggt_features", "metadata_scene", "statistics_scene", "scene_test", "shards")
    files = [p for p in root.rglob("*") if p.is_file() and p.relative_to(root).parts[0].startswith(parts)]
    files = [path for path in files if path.suffix != ".source"]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


SCRIPT = """
import sys
from dataset_toolkits import build_metadata_scene, build_scene, pack_scenes
root, encoder = sys.argv[1:]
print("ready", flush=True)
scenes = ["3D-FUTURE", "--output_dir", root, "--vggt_ckpt", encoder, "--save_mask", "--flush_every", "1"]
build_metadata_scene.main([*scenes, "--use_render_cond"])
build_metadata_scene.main([*scenes, "--set", "test"])
build_scene.main(["3D-FUTURE", "--output_dir", root, "--engine", "EMBREE"])
pack_scenes.main(["--output_dir", root, "--latent_model", "ss_enc", "--samples_per_shard", "1"])
"""


def run_scene_steps(root: Path, encoder: Path, kill_after: float | None = None) -> float:
    """Run the steps of scenes in a process of their own, and kill it if asked; seconds that it worked."""
    command = [sys.executable, "-c", SCRIPT, str(root), str(encoder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        process.stdout.readline()
        begun = time.monotonic()
        try:
            process.communicate(timeout=kill_after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    return time.monotonic() - begun


def with_scene_steps_to_do(walked: Path, folder: Path) -> Path:
    """A copy of a root as it is before its scenes are made."""
    shutil.copytree(walked, folder)
    for name in contents(folder):
        (folder / name).unlink()
    return folder


@pytest.mark.slow
def test_steps_of_scenes_that_are_killed_ten_times_end_with_the_same_bytes(
    walked: Path, encoder: Path, tmp_path: Path
) -> None:
    whole, killed = (with_scene_steps_to_do(walked, tmp_path / name) for name in ("whole", "killed"))
    seconds = run_scene_steps(whole, encoder)
    drawn = random.Random(0)
    for _ in range(10):
        run_scene_steps(killed, encoder, kill_after=drawn.uniform(0.05, 0.9) * seconds)
    run_scene_steps(killed, encoder)
    ours, theirs = contents(killed), contents(whole)
    assert theirs and {name for name in ours if ".part" not in name} == set(theirs)
    assert {name: ours[name] for name in theirs} == theirs


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("blender") is None, reason="needs Blender on the search path")
def test_twenty_assets_and_ten_scenes_go_the_road_with_blender(encoder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert build_lookalike.main(["--output_dir", str(root), "--assets", "20", "--scenes", "10"]) == 0
    drawn = ("--engine", "CYCLES", "--resolution", "128", "--samples", "8", "--max-workers", "2")
    assert set(walk(root, encoder, *drawn)) == {0}
    assert inspect_root.main([str(root)]) == 0
    assert len(list((root / "scene_test").glob("*.glb"))) == 3
    assert len(list((root / "scene_test_render").glob("*.png"))) == 3
