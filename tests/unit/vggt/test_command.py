"""``python -m vggt`` on toy checkpoints: what it writes, for which images, and how it fails."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from safetensors.torch import save_file

from vggt.__main__ import main
from vggt.geometry import depth_to_world_points
from vggt.models.vggt import VGGT

DENSE = {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]}
HEADS = {
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "point_head": DENSE,
    "depth_head": DENSE,
    "track_head": None,
}
SIZES = ((60, 40), (40, 60), (30, 90))


def save_checkpoint(folder: Path, nan: str = "", **changes: object) -> Path:
    """The released layout at toy size; ``nan`` names a part of the weights to spoil."""
    torch.manual_seed(0)
    args = {
        "img_size": 56,
        "patch_size": 14,
        "embed_dim": 16,
        "aggregator": {"depth": 2, "num_heads": 2, "patch_embed": "conv"},
        **HEADS,
        **changes,
    }
    model = VGGT(**args)
    if model.camera_head is not None:
        last = model.camera_head.pose_branch.fc2
        torch.nn.init.normal_(last.weight, std=0.01)
        # Added up over four iterations: a turned camera with fields of view of about a radian.
        last.bias.data = torch.tensor([0.1, 0.2, 0.3, 0.05, 0.1, 0.1, 0.9, 0.25, 0.3])
    state = model.state_dict()
    for name, tensor in state.items():
        if nan and nan in name:
            state[name] = torch.full_like(tensor, torch.nan)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(args))
    save_file(state, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("weights") / "toy")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for name, (width, height) in zip("abc", SIZES):
        pixels = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return [str(path) for path in sorted(folder.iterdir())]


def run(photos: list[str], checkpoint: Path, output: Path, *flags: str) -> int:
    return main([*photos, "--checkpoint", str(checkpoint), "--output", str(output), *flags])


@pytest.mark.parametrize("mode", ["crop", "pad"])
def test_images_of_different_sizes(mode: str, photos: list[str], checkpoint: Path, tmp_path: Path) -> None:
    assert run(photos, checkpoint, tmp_path, "--mode", mode, "--keep", "1") == 0
    cameras = json.loads((tmp_path / "cameras.json").read_text())["cameras"]
    assert [(camera["width"], camera["height"]) for camera in cameras] == list(SIZES)
    maps = [np.load(path) for path in sorted((tmp_path / "depth").glob("*.npz"))]
    assert all(entry["depth"].shape == (56, 56) for entry in maps)
    assert 0 < maps[0]["mask"].mean() < 1  # a landscape image has margins beside the portraits
    for camera, entry in zip(cameras, maps):
        assert np.array_equal(np.array(camera["extrinsics"], np.float32), entry["extrinsics"])
    cloud = trimesh.load(tmp_path / "points.ply")
    assert len(cloud.vertices) == sum(entry["mask"].sum() for entry in maps)


def test_points_are_the_unprojected_depth_in_both_formats(
    photos: list[str], checkpoint: Path, tmp_path: Path
) -> None:
    assert run(photos[:1], checkpoint, tmp_path, "--keep", "1") == 0
    entry = {name: torch.from_numpy(value) for name, value in np.load(tmp_path / "depth/000_a.npz").items()}
    expected = depth_to_world_points(entry["depth"], entry["extrinsics"], entry["intrinsics"])[entry["mask"]]
    cloud = trimesh.load(tmp_path / "points.ply")
    np.testing.assert_allclose(cloud.vertices, expected, rtol=1e-6)
    (glb,) = trimesh.load(tmp_path / "points.glb", force="scene").dump()
    np.testing.assert_allclose(glb.vertices, expected * torch.tensor([1, -1, -1]), atol=1e-5)  # glTF is y-up


def test_intrinsics_belong_to_the_image_file(photos: list[str], checkpoint: Path, tmp_path: Path) -> None:
    run(photos, checkpoint, tmp_path)
    cameras = json.loads((tmp_path / "cameras.json").read_text())["cameras"]
    for camera in cameras:
        centre = np.array(camera["intrinsics"])[:2, 2]
        np.testing.assert_allclose(centre, (camera["width"] / 2, camera["height"] / 2), rtol=1e-5)
    # The network sees a landscape image of 60 pixels at a width of 56.
    seen = np.load(tmp_path / "depth/000_a.npz")["intrinsics"]
    np.testing.assert_allclose(cameras[0]["intrinsics"][0][0], seen[0, 0] * 60 / 56, rtol=1e-5)


def test_previews_and_limits(photos: list[str], checkpoint: Path, tmp_path: Path) -> None:
    flags = ("--max_points", "50", "--formats", "ply", "--points", "head", "--dtype", "bfloat16")
    assert run(photos, checkpoint, tmp_path, *flags) == 0
    assert len(trimesh.load(tmp_path / "points.ply").vertices) == 50
    assert not (tmp_path / "points.glb").exists()
    grey = np.asarray(Image.open(tmp_path / "depth/000_a_depth.png"))
    mask = np.load(tmp_path / "depth/000_a.npz")["mask"]
    assert grey.dtype == np.uint8 and grey[mask].max() == 255 and not grey[~mask].any()


def test_stem_of_a_named_configuration(photos: list[str], checkpoint: Path, tmp_path: Path) -> None:
    config = {"name": "VGGT", "args": json.loads((checkpoint / "config.json").read_text())}
    (tmp_path / "toy.1.json").write_text(json.dumps(config))
    (tmp_path / "toy.1.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    assert run(photos[:1], tmp_path / "toy.1", tmp_path / "out") == 0


@pytest.mark.parametrize(
    "heads, written",
    [
        (("camera_head",), {"cameras.json"}),
        (("depth_head",), {"depth"}),
        (("point_head",), {"points.glb", "points.ply"}),
        ((), set()),
    ],
)
def test_what_has_no_head_is_left_out(
    heads: tuple[str, ...],
    written: set[str],
    photos: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = save_checkpoint(tmp_path / "toy", **{name: None for name in HEADS if name not in heads})
    status = run(photos[:1], folder, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").glob("*")}
    assert names == (written | {"files.json"} if written else set())
    assert status == (0 if heads else 2)
    assert heads or "neither camera, depth nor point head" in caplog.text


def test_no_field_of_view_is_null_and_spoils_no_more_than_points_from_depth(
    photos: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_checkpoint(tmp_path / "toy")
    weights = folder / "model.safetensors"
    state = dict(VGGT(**json.loads((folder / "config.json").read_text())).state_dict())
    state["camera_head.pose_branch.fc2.weight"].zero_()
    state["camera_head.pose_branch.fc2.bias"] = torch.tensor([0.0] * 6 + [1, -1, -1])  # -1: rectified to 0
    save_file(state, weights)
    assert run(photos[:1], folder, tmp_path / "out") == 0
    assert len(trimesh.load(tmp_path / "out/points.ply").vertices)
    assert run(photos[:1], folder, tmp_path / "out", "--points", "depth") == 2
    assert json.loads((tmp_path / "out/cameras.json").read_text())["cameras"][0]["intrinsics"] is None
    assert "field of view came out as 0" in caplog.text and "finite coordinates" in caplog.text


@pytest.mark.parametrize("part", ["frame_blocks.0", "depth_head", "camera_head"])
def test_spoilt_weights_are_reported(
    part: str, photos: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(photos, save_checkpoint(tmp_path / "toy", nan=part), tmp_path / "out") == 2
    assert "is finite; the weights are damaged" in caplog.text


def test_bad_files_are_named(
    photos: list[str], checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(photos, tmp_path / "absent", tmp_path) == 2
    assert "no such checkpoint" in caplog.text and "facebook/VGGT-1B" in caplog.text
    assert run([str(tmp_path / "absent.png")], checkpoint, tmp_path) == 2
    assert "absent.png" in caplog.text
    (tmp_path / "text.png").write_text("no image")
    assert run([str(tmp_path / "text.png")], checkpoint, tmp_path) == 2
    assert "text.png: expected a picture, got other content" in caplog.text


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--device", "tpu"], "expected cpu, cuda"),
        (["--device", "cuda:99"], "device of this machine"),
        (["--keep", "0"], r"share in \(0, 1\]"),
        (["--keep", "most"], "expected a number"),
        (["--max-points", "0"], "whole number above 0"),
        (["--max_points", "0"], "whole number above 0"),
        (["--formats", "obj"], "unknown format 'obj'"),
    ],
)
def test_bad_flags_are_explained(flags: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["a.png", *flags])
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)
