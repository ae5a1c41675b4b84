"""Assets drawn by Blender, where there is one: silhouettes, depths and meshes are the ray caster's."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_toolkits import render
from dataset_toolkits.asset_views import View, multiview, view_generator
from dataset_toolkits.ray_cast_asset import AssetScene, draw_asset, load_normalised
from scenegen.blender.program import SCRIPTS, default_blender, run_blender
from scenegen.datasets.asset_pictures import read_transforms
from scenegen.datasets.metadata import ASSETS_NAME, read_assets
from scenegen.synthesis.pictures.render_mesh import load_model
from trellis_modules.renderers.mesh_renderer import render_mesh

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which(default_blender()) is None, reason="needs Blender 3.4 or newer"),
]
SIZE = 128


def alpha(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))[..., 3] > 127


def draw_with_blender(model: Path, folder: Path, views: list[View], **options: object) -> None:
    job = {
        "object": str(model),
        "views": [asdict(view) for view in views],
        "output_folder": str(folder),
        "resolution": SIZE,
        "samples": 4,
    }
    run_blender(SCRIPTS / "render.py", job | options, folder / "log", 300)


@pytest.mark.parametrize("name", ["desk/raw_model.obj", "made.glb", "cone.ply"])
def test_silhouettes_meshes_and_cameras_are_those_of_the_ray_caster(models, tmp_path, name):
    views = multiview(3, view_generator("rendered", name))
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    draw_asset(models / name, views, ours, SIZE, with_mesh=True)
    draw_with_blender(models / name, theirs, views, save_mesh=True)
    content = [json.loads((folder / "transforms.json").read_text()) for folder in (ours, theirs)]
    assert content[0].keys() == content[1].keys() and content[0]["aabb"] == content[1]["aabb"]
    np.testing.assert_allclose(content[0]["offset"], content[1]["offset"], atol=1e-6)
    np.testing.assert_allclose(content[0]["scale"], content[1]["scale"], rtol=1e-6)
    for first, second in zip(*(part["frames"] for part in content)):
        np.testing.assert_allclose(first["transform_matrix"], second["transform_matrix"], atol=1e-6)
        assert first["camera_angle_x"] == second["camera_angle_x"]
        drawn = [alpha(folder / first["file_path"]) for folder in (ours, theirs)]
        assert (drawn[0] & drawn[1]).sum() >= 0.98 * (drawn[0] | drawn[1]).sum()
    meshes = [load_model(folder / "mesh.ply") for folder in (ours, theirs)]
    assert len(meshes[0].faces) == len(meshes[1].faces)
    boxes = [np.stack([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)]) for mesh in meshes]
    np.testing.assert_allclose(boxes[0], boxes[1], atol=1e-5)


def test_optional_pictures_hold_what_they_say(models, tmp_path):
    view = multiview(1, view_generator("rendered", "passes"))[0]
    passes = {f"save_{name}": True for name in ("depth", "normal", "albedo", "mist")}
    draw_with_blender(models / "made.glb", tmp_path / "drawn", [view], **passes)
    (frame,) = json.loads((tmp_path / "drawn" / "transforms.json").read_text())["frames"]
    near, far = frame["depth"]["min"], frame["depth"]["max"]
    np.testing.assert_allclose([near, far], [view.radius - 3**0.5 / 2, view.radius + 3**0.5 / 2])
    stored = np.asarray(Image.open(tmp_path / "drawn" / "000_depth.png")).astype(float) / 65535
    mesh, _, _ = load_normalised(models / "made.glb")
    cameras = read_transforms(tmp_path / "drawn")
    depth = render_mesh(
        torch.from_numpy(mesh.vertices),
        torch.from_numpy(mesh.faces),
        cameras.extrinsics.float(),
        cameras.intrinsics.float(),
        SIZE,
        near=0.01,
    ).depth[0].numpy()  # fmt: skip
    inside = alpha(tmp_path / "drawn" / "000.png") & (depth > 0)
    error = np.abs(near + stored * (far - near) - depth)[inside]
    assert np.median(error) < 2e-3 and (error < 0.02).mean() > 0.9
    for name in ("normal.exr", "albedo.png", "mist.png"):
        assert (tmp_path / "drawn" / f"000_{name}").stat().st_size > 100


def test_grey_pictures_have_no_colours(models, tmp_path):
    view = multiview(1, view_generator("rendered", "grey"))[0]
    draw_with_blender(models / "made.glb", tmp_path / "drawn", [view], geo_mode=True)
    seen = np.asarray(Image.open(tmp_path / "drawn" / "000.png")).astype(int)
    grey = seen[seen[..., 3] == 255][:, :3]
    assert np.median(np.ptp(grey, axis=1)) <= 4 and len(grey) > 100  # denoisers tint single samples
    coloured = np.asarray(AssetScene(load_normalised(models / "made.glb")[0]).draw(view, SIZE)).astype(int)
    assert np.median(np.ptp(coloured[coloured[..., 3] == 255][:, :3], axis=1)) > 8


def test_the_step_draws_the_same_bytes_again(downloaded):
    arguments = ["--resolution", "32", "--samples", "2", "--num_views", "1", "--max_workers", "1"]
    key = read_assets(downloaded / ASSETS_NAME)[2].sha256
    drawn = []
    for _ in range(2):
        assert render.main(["folder", "--output_dir", str(downloaded), *arguments, "--instances", key]) == 0
        folder = downloaded / "renders" / key
        drawn.append({path.name: path.read_bytes() for path in folder.iterdir()})
        shutil.rmtree(folder)
    assert drawn[0] == drawn[1] and sorted(drawn[0]) == ["000.png", "mesh.ply", "transforms.json"]


def test_a_model_that_blender_cannot_use_is_named(downloaded, caplog):
    (downloaded / "raw" / "folder" / "desk" / "raw_model.obj").write_bytes(
        b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n"
    )
    key = {row.file_identifier: row.sha256 for row in read_assets(downloaded / ASSETS_NAME)}["desk/raw_model"]
    assert render.main(["folder", "--output_dir", str(downloaded), "--instances", key]) == 1
    assert "ended with status 1: ValueError: expected a model with a size" in caplog.text
