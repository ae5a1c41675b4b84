"""The snippets of docs/frames.md: each puts the scene where the photo shows it; and the figure."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from scenegen.export.scene_files import write_scene
from scenegen.geometry import place_yup
from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.pipelines.result import GeneratedObject, SceneResult

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "frames.md"
PHOTO_SIZE = (320, 240)
# The glTF importer of Blender 3.4, Debian's, was written for NumPy before 1.24; the page says so too.
BLENDER_WITH_ANY_NUMPY = """import numpy
if not hasattr(numpy, "bool"):
    numpy.bool = bool
"""
POSES = torch.tensor([[0.0, 0, 0, 1, 0, 0, 0, 1], [1.2, 0.1, -0.4, 0.9238795, 0, 0.3826834, 0, 0.6]])


def _snippet(title: str) -> str:
    """The code block of the page whose first line has this text."""
    blocks = re.findall(r"```\w+\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return next(block for block in blocks if title in block.splitlines()[0])


@pytest.fixture
def folder(tmp_path):
    """A folder with lounge.jpg and outputs/lounge, as the page has it."""
    mesh = trimesh.creation.box((1.0, 0.5, 0.25))
    mesh.visual.vertex_colors = np.tile((200, 100, 50, 255), (len(mesh.vertices), 1))
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(np.deg2rad(25), np.deg2rad(20))
    extrinsics[:3, 3] = (-0.3, 0.1, 4.0)
    view = PhotoCamera(extrinsics, focal=1.3, aspect=PHOTO_SIZE[1] / PHOTO_SIZE[0])
    objects = tuple(GeneratedObject(k, pose, torch.zeros(2, 2, 2), mesh) for k, pose in enumerate(POSES))
    write_scene(SceneResult(objects, 0, view), tmp_path / "outputs" / "lounge", ["glb"])
    Image.new("RGB", PHOTO_SIZE).save(tmp_path / "lounge.jpg")
    return tmp_path


def _expected() -> np.ndarray:
    """Pixels (16, 2) of the corners in the photo, from the camera alone, in the order of `_sorted`."""
    box = trimesh.creation.box((1.0, 0.5, 0.25)).vertices
    query = torch.cat([place_yup(torch.tensor(box, dtype=torch.float32), pose) for pose in POSES]).numpy()
    turn, shift = rotation_of(np.deg2rad(25), np.deg2rad(20)), (-0.3, 0.1, 4.0)
    x, y, z = (query @ turn.T + shift).T
    width, height = PHOTO_SIZE
    return _sorted(np.stack([width / 2 + 1.3 * width * x / z, height / 2 + 1.3 * width * y / z], axis=1))


def _sorted(pixels) -> np.ndarray:
    unique = np.unique(np.round(np.asarray(pixels, float), 1), axis=0)
    return unique[np.lexsort(unique.T)]


def _run(command: list[str], folder: Path) -> np.ndarray:
    """Run a program that prints ``pixels x y`` lines."""
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    lines = re.findall(r"^pixels (\S+) (\S+)$", process.stdout, flags=re.MULTILINE)
    assert lines, process.stdout + process.stderr
    return _sorted(lines)


def test_python_snippet_gives_the_pixels_of_the_photo(folder):
    script = _snippet("Python") + "\nfor x, y in pixels:\n    print('pixels', x, y)\n"
    np.testing.assert_allclose(_run([sys.executable, "-c", script], folder), _expected(), atol=0.11)


@pytest.mark.slow
def test_blender_snippet_looks_through_the_photo(folder):
    if shutil.which("blender") is None:
        pytest.skip("Blender is not installed (Debian package blender)")
    script = (
        BLENDER_WITH_ANY_NUMPY
        + _snippet("Blender")
        + """
from bpy_extras.object_utils import world_to_camera_view
bpy.context.view_layer.update()
assert camera.data.background_images[0].image.size[:] == photo.size[:]
for item in scene.objects:
    for vertex in item.data.vertices if item.type == "MESH" else ():
        seen = world_to_camera_view(scene, camera, item.matrix_world @ vertex.co)
        print("pixels", seen.x * photo.size[0], (1 - seen.y) * photo.size[1])
"""
    )
    (folder / "over_photo.py").write_text(script, encoding="utf-8")
    command = ["blender", "--background", "--factory-startup", "--python-exit-code", "1", "--python"]
    np.testing.assert_allclose(
        _run([*command, str(folder / "over_photo.py")], folder), _expected(), atol=0.21
    )


def test_three_js_snippet_looks_through_the_photo(folder):
    modules = [Path(each) for each in (os.environ.get("NODE_PATH", ""), ROOT / "node_modules") if each]
    found = next((path for path in modules if (path / "three").is_dir()), None)
    if shutil.which("node") is None or found is None:
        pytest.skip(
            "node and the package three are not installed (npm install three, NODE_PATH=node_modules)"
        )
    (folder / "node_modules").symlink_to(found)
    (folder / "snippet.mjs").write_text(_snippet("three.js"), encoding="utf-8")
    (folder / "test.mjs").write_text(
        """
import fs from "node:fs";
import { Vector3 } from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
import { photoCamera } from "./snippet.mjs";

const file = fs.readFileSync("outputs/lounge/scene.glb");
const buffer = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
new GLTFLoader().parse(buffer, "", (gltf) => {
  const camera = photoCamera(gltf);
  gltf.scene.traverse((item) => {
    if (!item.isMesh) return;
    const places = item.geometry.attributes.position;
    for (let index = 0; index < places.count; index += 1) {
      const place = new Vector3().fromBufferAttribute(places, index).applyMatrix4(item.matrixWorld);
      const seen = place.project(camera);
      console.log("pixels", (seen.x + 1) / 2 * WIDTH, (1 - seen.y) / 2 * HEIGHT);
    }
  });
});
""".replace("WIDTH", str(PHOTO_SIZE[0])).replace("HEIGHT", str(PHOTO_SIZE[1])),
        encoding="utf-8",
    )
    np.testing.assert_allclose(_run(["node", "test.mjs"], folder), _expected(), atol=0.11)


def test_figure_is_that_of_its_script(tmp_path):
    script, drawn = ROOT / "scripts" / "draw_frames.py", tmp_path / "frames.svg"
    subprocess.run([sys.executable, script, "--output", drawn], check=True)
    assert drawn.read_bytes() == PAGE.with_suffix(".svg").read_bytes()
