"""Drawing assets: cameras, the ray caster's pictures, and a Blender that fails, hangs or forgets."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dataset_toolkits import render
from dataset_toolkits.asset_views import (
    View,
    camera_to_world,
    conditioning_views,
    multiview,
    view_generator,
    write_transforms,
)
from dataset_toolkits.ray_cast_asset import AssetScene, load_normalised
from dataset_toolkits.rendering import without_text
from dataset_toolkits.surface_features import face_colours
from scenegen.datasets.asset_pictures import read_transforms
from scenegen.datasets.metadata import ASSETS_NAME, read_assets
from scenegen.datasets.records import read_records
from scenegen.synthesis.pictures.render_mesh import load_model
from trellis_modules.renderers.cameras import to_camera, to_pixels

FRONT = View(yaw=-math.pi / 2, pitch=0.0, radius=2.0, fov=math.radians(40))


def test_views_depend_on_the_asset_and_the_step_alone():
    first, again = (multiview(4, view_generator("rendered", "a")) for _ in range(2))
    assert first == again
    assert first != multiview(4, view_generator("rendered", "b"))
    assert first != multiview(4, view_generator("cond_rendered", "a"))


def test_directions_are_spread_with_most_of_them_above():
    views = multiview(150, view_generator("rendered", "a"))
    backward = np.array([camera_to_world(view)[:3, 2] for view in views])
    assert np.linalg.norm(backward[:, :2].mean(axis=0)) < 0.05
    assert 0.2 < (backward[:, 2] < 0).mean() < 0.3


def test_conditioning_views_are_within_their_fields_of_view():
    views = conditioning_views(400, view_generator("cond_rendered", "a"))
    fov = np.degrees([view.fov for view in views])
    assert 10 < fov.min() < 15 and 65 < fov.max() < 70
    inverse = np.array([view.radius**-2.0 for view in views])  # evenly drawn
    assert abs(inverse.mean() - (inverse.min() + inverse.max()) / 2) < 0.03 * inverse.max()


@pytest.mark.parametrize("pitch", [-math.pi / 2, -0.3, 0.0, 1.2, math.pi / 2])
def test_cameras_look_at_the_origin_with_z_upwards(pitch):
    matrix = camera_to_world(View(0.7, pitch, 3.0, 1.0))
    np.testing.assert_allclose(matrix[:3, :3].T @ matrix[:3, :3], np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix[:3, :3]) > 0 and matrix[2, 1] >= -1e-12
    np.testing.assert_allclose(np.linalg.inv(matrix)[:3, 3], [0, 0, -3], atol=1e-12)


def test_transforms_come_back_as_opencv_cameras(tmp_path):
    write_transforms(tmp_path / "transforms.json", [FRONT], 0.5, np.array([0.0, 0.1, 0.2]))
    read = read_transforms(tmp_path)
    assert read.files == [tmp_path / "000.png"] and (read.scale, read.offset) == (0.5, (0.0, 0.1, 0.2))
    right_and_up = torch.tensor([[0.1, 0.0, 0.2]], dtype=torch.float64)
    x, y, depth = to_pixels(to_camera(right_and_up, read.extrinsics[0]), read.intrinsics[0], 100)[0].tolist()
    focal = 50 / math.tan(math.radians(20))
    np.testing.assert_allclose([x, y, depth], [50 + focal * 0.05, 50 - focal * 0.1, 2.0])


@pytest.mark.parametrize("content", ["", "{}", '{"frames": [{"transform_matrix": [[1]]}]}'])
def test_damaged_transforms_are_named(tmp_path, content):
    (tmp_path / "transforms.json").write_text(content)
    with pytest.raises(ValueError, match="transforms.json: expected the cameras of pictures"):
        read_transforms(tmp_path)


def test_a_picture_has_silhouette_texture_and_light(models):
    """The desk is 2 x 1 x 0.5, y up: half as high as wide when its painted front is seen."""
    mesh, scale, offset = load_normalised(models / "desk" / "raw_model.obj")
    np.testing.assert_allclose([scale, *offset], [0.5, 0, 0, -0.25], atol=1e-12)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [1, 0.25, 0.5])
    picture = np.asarray(AssetScene(mesh).draw(FRONT, 128)).astype(int)
    rows, columns = np.nonzero(picture[..., 3] > 127)
    focal = 64 / math.tan(math.radians(20)) / (2 - 0.125)
    assert abs(np.ptp(columns) + 1 - focal) <= 2 and abs(np.ptp(rows) + 1 - focal / 2) <= 2
    red, green, blue, _ = picture[picture[..., 3] == 255].T
    assert (blue < 30).all() and (red > 60).any() and (green > 60).any()  # its paint, no other side
    above = np.asarray(AssetScene(mesh).draw(View(0.0, 1.5, 2.0, 0.7), 64)).astype(int)
    assert (above[above[..., 3] == 255][:, 2] > 120).all()  # the blue top, well lit


def test_face_colours_are_means_of_material_and_texture(models):
    mesh = load_model(models / "desk" / "raw_model.obj")
    colours = face_colours(mesh)
    painted = mesh.face_textures >= 0
    assert painted.sum() == 2 and (colours[painted, 2] == 0).all()
    assert (colours[painted, :2] > 0.05).all() and (colours[painted, :2] < 0.86).all()
    np.testing.assert_allclose(colours[~painted], np.tile([0.1, 0.2, 0.9], (10, 1)), atol=0.005)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.fbx", b"", "expected one of .obj, .glb, .gltf, .ply, .stl, got '.fbx'"),
        ("a.glb", b"glTF", "not readable as a model"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 3\n", "not readable as a model"),
        ("a.obj", b"v 0 0 0\n", "expected a model with triangles"),
    ],
)
def test_what_is_no_model_is_named(tmp_path, name, content, complaint):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        load_model(tmp_path / name)


def test_a_texture_that_was_cut_off_is_named(models):
    path = models / "desk" / "textures" / "paint.png"
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(ValueError, match="raw_model.obj: not readable as a model: image file is truncated"):
        load_model(models / "desk" / "raw_model.obj")


# --- Blender -----------------------------------------------------------------------------------------------


def fake_blender(folder: Path, body: str) -> str:
    """A program that gets what Blender gets, and runs Python code with the job."""
    path = folder / "fake_blender"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys, time\njob = json.load(open(sys.argv[-1]))\n{body}\n"
    )
    path.chmod(0o755)
    return str(path)


DRAWS = """
folder, frames = job["output_folder"], [{"file_path": f"{n:03d}.png"} for n in range(len(job["views"]))]
picture = bytes([137, 80, 78, 71, 13, 10, 26, 10])
for frame in frames: open(os.path.join(folder, frame["file_path"]), "wb").write(picture)
if job["save_mesh"]: open(os.path.join(folder, "mesh.ply"), "w").write("mesh")
json.dump({"frames": frames}, open(os.path.join(folder, "transforms.json"), "w"))
"""


def run(root: Path, blender: str, *arguments: str) -> int:
    return render.main(["folder", "--output_dir", str(root), "--blender", blender, *arguments])


def test_blender_gets_one_job_for_each_asset(downloaded, tmp_path):
    copy = f"json.dump(job, open({str(tmp_path)!r} + '/job_' + os.path.basename(job['object']), 'w'))"
    assert run(downloaded, fake_blender(tmp_path, copy + DRAWS), "--num_views", "2") == 0
    job = json.loads((tmp_path / "job_raw_model.obj").read_text())
    assert (
        job["engine"] == "CYCLES" and job["resolution"] == 512 and job["save_mesh"] and len(job["views"]) == 2
    )
    assert len(read_records(downloaded / "rendered_0.csv")) == 3 and not list(
        downloaded.glob(".cache/logs/*")
    )


def test_texts_and_dates_of_pictures_are_removed_and_nothing_else():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    info = PngInfo()
    info.add_text("cycles.total_time", "00:03.14")
    info.add_itxt("note", "drawn today")
    files = [io.BytesIO(), io.BytesIO()]
    Image.fromarray(pixels).save(files[0], "PNG", pnginfo=info)
    Image.fromarray(pixels).save(files[1], "PNG")
    assert files[0].getvalue() != files[1].getvalue()
    assert without_text(files[0].getvalue()) == files[1].getvalue()


def test_a_crash_costs_its_own_asset(downloaded, tmp_path):
    crash = "if job['object'].endswith('cone.ply'): sys.exit('RuntimeError: no memory left')"
    assert run(downloaded, fake_blender(tmp_path, crash + DRAWS)) == 1
    key = {row.file_identifier: row.sha256 for row in read_assets(downloaded / ASSETS_NAME)}["cone"]
    (failed,) = read_records(downloaded / "failed_rendered_0.csv").values()
    assert (
        failed["sha256"] == key
        and "ended with status 1: RuntimeError: no memory left; see" in failed["error"]
    )
    assert "no memory left" in (downloaded / ".cache" / "logs" / f"rendered_{key}.log").read_text()
    assert (
        len(read_records(downloaded / "rendered_0.csv")) == 2 and not (downloaded / "renders" / key).exists()
    )


def test_a_hanging_blender_is_ended(downloaded, tmp_path):
    hang = "if job['object'].endswith('made.glb'): time.sleep(60)"
    assert run(downloaded, fake_blender(tmp_path, hang + DRAWS), "--timeout", "2") == 1
    (failed,) = read_records(downloaded / "failed_rendered_0.csv").values()
    assert "took more than 2 s (--timeout)" in failed["error"]


def test_a_blender_that_leaves_the_mesh_out_has_not_drawn(downloaded, tmp_path):
    assert run(downloaded, fake_blender(tmp_path, DRAWS.replace("mesh.ply", "other"))) == 1
    assert len(read_records(downloaded / "failed_rendered_0.csv")) == 3


def test_missing_blender_is_named_for_every_asset(downloaded):
    assert run(downloaded, "no-such-blender", "--max_failures", "0") == 1
    (failed,) = read_records(downloaded / "failed_rendered_0.csv").values()
    assert "no-such-blender: no such program" in failed["error"]


def test_meshes_of_pictures_are_in_their_frame(tmp_path):
    mesh = trimesh.creation.box((4, 2, 1))
    mesh.apply_translation((7, 8, 9))
    (tmp_path / "a.stl").write_bytes(mesh.export(file_type="stl"))
    normalised, scale, offset = load_normalised(tmp_path / "a.stl")
    np.testing.assert_allclose([scale, *offset], [0.25, -1.75, -2, -2.25])
    np.testing.assert_allclose(np.abs(normalised.vertices).max(axis=0), [0.5, 0.25, 0.125])
