"""All steps of the asset road on three small models, without Blender: files, tables, restarts and ranks."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_toolkits import (
    build_metadata,
    download,
    encode_latent,
    encode_ss_latent,
    extract_feature,
    render,
    render_cond,
    stat_latent,
    voxelize,
)
from scenegen.checkpoints.networks import load_network
from scenegen.datasets.asset_pictures import read_transforms
from scenegen.datasets.metadata import ASSETS_NAME, AssetRow, read_assets
from scenegen.datasets.voxel_files import read_voxels
from tests.asset_models import write_models
from tests.asset_road import first_steps
from trellis_modules.renderers.cameras import to_camera, to_pixels

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "checkpoints" / "scenegen-small" / "ckpts"
DRAWN = ("--engine", "EMBREE", "--resolution", "96", "--max-workers", "1")
SLAT = "surface_fields_slat_enc"


def tables(folder: Path, models: Path) -> None:
    build_metadata.main(["folder", "--output_dir", str(folder), "--source", str(models)])


def walk(folder: Path, models: Path) -> list[int]:
    """All nine steps, the table after each; their exit statuses."""
    root, status = ["--output_dir", str(folder)], []
    tables(folder, models)
    for main, arguments in (
        (download.main, ["folder", *root, "--source", str(models)]),
        (render.main, ["folder", *root, *DRAWN]),
        (voxelize.main, ["folder", *root]),
        (extract_feature.main, [*root, "--model", "surface_fields", "--device", "cpu"]),
        (encode_ss_latent.main, [*root, "--enc_pretrained", str(SMALL / "ss_enc"), "--device", "cpu"]),
        (
            encode_latent.main,
            [
                *(*root, "--feat_model", "surface_fields", "--device", "cpu"),
                *("--enc_pretrained", str(SMALL / "slat_enc")),
            ],
        ),
        (stat_latent.main, [*root, "--model", SLAT]),
        (render_cond.main, ["folder", *root, *DRAWN, "--num_views", "2"]),
    ):
        status.append(main(arguments))
        tables(folder, models)
    return status


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


@pytest.fixture(scope="module")
def walked(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root that all steps went through."""
    folder = tmp_path_factory.mktemp("root")
    assert walk(folder, models) == [0] * 8
    return folder


@pytest.fixture(scope="module")
def rows(walked: Path) -> list[AssetRow]:
    return read_assets(walked / ASSETS_NAME)


def test_the_table_says_that_everything_is_done(walked: Path, rows: list[AssetRow]) -> None:
    assert [row.file_identifier for row in rows] == ["cone", "desk/raw_model", "made"]
    columns = {"feature_surface_fields", f"latent_{SLAT}", "ss_latent_ss_enc"}
    for row in rows:
        assert row.rendered and row.voxelized and row.cond_rendered and row.num_voxels > 500
        assert row.status == dict.fromkeys(columns, True)
        assert (walked / row.local_path).is_file()
    assert (walked / "statistics.txt").read_text().splitlines() == [
        "Statistics:",
        "  - Number of assets: 3",
        "  - Number of assets downloaded: 3",
        "  - Number of assets rendered: 3",
        "  - Number of assets voxelized: 3",
        "  - Number of assets with image features extracted:",
        "    - surface_fields: 3",
        "  - Number of assets with latents extracted:",
        f"    - {SLAT}: 3",
        "  - Number of assets with sparse structure latents extracted:",
        "    - ss_enc: 3",
        "  - Number of assets with captions: 0",
        "  - Number of assets with image conditions: 3",
    ]
    assert len(list((walked / "merged_records").iterdir())) == 7 and not list(walked.glob("*_0.csv"))


def test_pictures_have_the_cameras_of_the_published_files(walked: Path, rows: list[AssetRow]) -> None:
    for row in rows:
        for folder, count in (("renders", 3), ("renders_cond", 2)):
            content = json.loads((walked / folder / row.sha256 / "transforms.json").read_text())
            assert set(content) == {"aabb", "scale", "offset", "frames"}
            assert content["aabb"] == [[-0.5] * 3, [0.5] * 3] and len(content["frames"]) == count
            for number, frame in enumerate(content["frames"]):
                assert frame["file_path"] == f"{number:03d}.png"
                matrix = np.array(frame["transform_matrix"])
                distance = np.linalg.norm(matrix[:3, 3])
                np.testing.assert_allclose(matrix[:3, 2], matrix[:3, 3] / distance, atol=1e-9)
                np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
                if folder == "renders":
                    assert abs(distance - 2) < 1e-9 and abs(frame["camera_angle_x"] - np.radians(40)) < 1e-9
                else:  # the sphere around the unit cube touches the edges of the picture
                    reach = np.sin(frame["camera_angle_x"] / 2) * distance
                    assert abs(reach - np.sqrt(3) / 2) < 1e-9
    alpha = [np.asarray(Image.open(path))[..., 3] for path in walked.glob("renders*/*/*.png")]
    assert len(alpha) == 15 and all(0.01 < (picture > 0).mean() < 0.7 for picture in alpha)


def test_axes_of_a_file_are_turned_as_its_format_asks(walked: Path, rows: list[AssetRow]) -> None:
    """The desk is 2 x 1 x 0.5 with y up and stands on its origin, the cone 1 x 1 x 2 with z up."""
    cone, desk, _ = rows
    content = json.loads((walked / "renders" / desk.sha256 / "transforms.json").read_text())
    np.testing.assert_allclose([content["scale"], *content["offset"]], [0.5, 0, 0, -0.25], atol=1e-9)
    for row, extent in ((desk, (64, 18, 32)), (cone, (32, 32, 64))):
        voxels = read_voxels(walked / "voxels" / f"{row.sha256}.ply")
        found = np.ptp(voxels, axis=0) + 1
        assert (np.abs(found - extent) <= 2).all(), (row.file_identifier, found)


def test_voxels_project_into_the_pictures_of_their_mesh(walked: Path, rows: list[AssetRow]) -> None:
    """At least 99 % of the voxels cover a pixel that the mesh covers, in every picture."""
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], dtype=torch.float64)] * 3) / 64
    for row in rows:
        voxels = read_voxels(walked / "voxels" / f"{row.sha256}.ply")
        centres = torch.from_numpy((voxels + 0.5) / 64 - 0.5)
        boxes = (centres[:, None] + corners).reshape(-1, 3)
        pictures = read_transforms(walked / "renders" / row.sha256)
        for path, extrinsics, intrinsics in zip(pictures.files, pictures.extrinsics, pictures.intrinsics):
            covered = np.asarray(Image.open(path))[..., 3] > 0
            places = to_pixels(to_camera(boxes, extrinsics), intrinsics, len(covered))[:, :2].numpy()
            low, high = np.floor([f(places.reshape(-1, 8, 2), axis=1) for f in (np.min, np.max)]).astype(int)
            hit = [covered[y0 : y1 + 1, x0 : x1 + 1].any() for (x0, y0), (x1, y1) in zip(low, high)]
            assert np.mean(hit) >= 0.99, row.file_identifier


def test_latents_are_those_of_the_encoders_on_the_stored_data(walked: Path, rows: list[AssetRow]) -> None:
    with torch.no_grad():
        decoder = load_network(SMALL / "ss_dec")
        for row in rows:
            voxels = read_voxels(walked / "voxels" / f"{row.sha256}.ply")
            with np.load(walked / "ss_latents" / "ss_enc" / f"{row.sha256}.npz") as stored:
                assert stored["mean"].shape == (16, 8, 8, 8) and stored["mean"].dtype == np.float32
                occupied = decoder(torch.from_numpy(stored["mean"])[None])[0, 0].numpy() > 0
            truth = np.zeros_like(occupied)
            truth[tuple(voxels.T)] = True
            overlap = (truth & occupied).sum() / (truth | occupied).sum()
            assert overlap > 0.5, (row.file_identifier, overlap)
            with np.load(walked / "features" / "surface_fields" / f"{row.sha256}.npz") as stored:
                assert stored["patchtokens"].shape == (len(voxels), 132)
                assert stored["patchtokens"].dtype == np.float16 and stored["indices"].dtype == np.uint8
                np.testing.assert_array_equal(stored["indices"], voxels)
            with np.load(walked / "latents" / SLAT / f"{row.sha256}.npz") as stored:
                assert stored["feats"].shape == (len(voxels), 8) and stored["feats"].dtype == np.float32
                np.testing.assert_array_equal(stored["coords"], voxels)


def test_statistics_of_latents_count_every_asset_the_same(walked: Path) -> None:
    feats = [np.load(path)["feats"] for path in (walked / "latents" / SLAT).glob("*.npz")]
    stats = json.loads((walked / "latents" / SLAT / "stats.json").read_text())
    mean = np.mean([table.mean(axis=0) for table in feats], axis=0)
    square = np.mean([(table.astype(float) ** 2).mean(axis=0) for table in feats], axis=0)
    np.testing.assert_allclose(stats["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stats["std"], np.sqrt(square - mean**2), rtol=1e-5)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a root by path; merged records without the time in their name, and no logs."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            found[name.split("_", 2)[2] if name.startswith("merged_records/") else name] = path.read_bytes()
    return found


def test_two_ranks_write_what_one_writes(models: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    steps = (
        (download.main, ["--source", str(models)]),
        (render.main, ["--engine", "EMBREE", "--resolution", "24", "--num-views", "1"]),
        (voxelize.main, []),
    )
    for root in (one, two):
        tables(root, models)
        for main, arguments in steps:
            ranks = [(0, 1)] if root is one else [(1, 2), (0, 2)]
            records = []
            for rank, size in ranks:
                shared = ["--output-dir", str(root), "--rank", str(rank), "--world-size", str(size)]
                assert main(["folder", *shared, *arguments]) == 0
            for path in sorted(root.glob("*_[01].csv")):
                records += path.read_text().splitlines()[1:]
            assert len(records) == 3
            (root / f"seen_{len(list(root.glob('seen_*')))}").write_text("\n".join(records))
            tables(root, models)
            shutil.rmtree(root / "merged_records")
    assert contents(one) == contents(two)


def run_and_kill(root: Path, models: Path, after: float) -> None:
    """Run the first steps in a process of its own, and kill it so many seconds after it began to work."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.asset_road", str(root), str(models)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        process.stdout.readline()
        try:
            process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_same_bytes_when_it_is_started_again(
    models: Path, tmp_path: Path, kills: int
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begun = time.monotonic()
    first_steps(str(whole), str(models))
    seconds, drawn = time.monotonic() - begun, random.Random(kills)
    for _ in range(kills):
        run_and_kill(killed, models, drawn.uniform(0.1, 1.0) * seconds / (1 if kills == 1 else 3))
    first_steps(str(killed), str(models))
    ours, theirs = contents(killed), contents(whole)
    merged = {name for name in ours if name.endswith("_0.csv")}  # one more for each start
    assert {name: ours[name] for name in ours if name not in merged} == {
        name: theirs[name] for name in theirs if not name.endswith("_0.csv")
    }
