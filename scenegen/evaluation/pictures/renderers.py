"""What draws the pictures that are compared: ray casting, or Blender by the script of the true pictures."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from safe_files.pictures import open_picture
from safe_files.regular import UnreadableFile
from scenegen.blender.program import SCRIPTS, BlenderError, default_blender, run_blender
from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.pictures.cameras import BACKWARD_TO_FORWARD, ZUP_TO_YUP, SceneCamera
from scenegen.evaluation.pictures.ray_casting import (
    EXPOSURE,
    LIGHTS,
    SAMPLES,
    ColouredTriangles,
    cast,
    load_triangles,
)
from scenegen.evaluation.registration import Similarity

_SCRIPT = SCRIPTS / "render_truth.py"
_SECONDS = 1800.0  # a picture may take in Blender
_SQUARE = 1e-3  # share by which the sides of a pixel may differ


class Renderer(Protocol):
    """Draws a scene file, moved, from a camera, before nothing.

    Attributes:
        default_samples: how finely it draws where nothing else is asked for.
    """

    default_samples: int

    def described(self) -> list[Any]:
        """What its pictures depend on, JSON-ready, for hashes."""

    def draw(self, scene: Path, transform: Similarity, camera: SceneCamera, samples: int) -> Image.Image:
        """An RGBA picture of a scene file.

        Args:
            scene: GLB file.
            transform: moves it, in the frame of the file.
            camera: in the frame that the scene is moved to.
            samples: rays along each edge of a pixel, or paths a pixel.

        Raises:
            EvaluationError: the file cannot be drawn.
        """


class EmbreeRenderer:
    """Ray casting: the lamps of the true pictures, without light from one surface to another."""

    default_samples = SAMPLES

    def __init__(self) -> None:
        """Nothing is loaded; the file that was drawn last is kept, for a scene is drawn once each way."""
        self._last: tuple[Path, ColouredTriangles] | None = None

    def described(self) -> list[Any]:
        """See `Renderer.described`."""
        return ["embree", LIGHTS, EXPOSURE]

    def draw(self, scene: Path, transform: Similarity, camera: SceneCamera, samples: int) -> Image.Image:
        """See `Renderer.draw`."""
        if self._last is None or self._last[0] != scene:
            self._last = scene, load_triangles(scene)
        return cast(self._last[1].moved(transform), camera, samples)


class BlenderRenderer:
    """Cycles, by the script that draws true scenes: paths with bounces, and Blender's tone curve."""

    default_samples = 64

    def __init__(self, executable: str | None = None):
        """Look for the program.

        Args:
            executable: program, the folder that it is in, or a Python with bpy; None takes `default_blender`.

        Raises:
            EvaluationError: there is none.
        """
        wanted = executable or default_blender()
        path = Path(wanted) / "blender" if Path(wanted).is_dir() else wanted
        found = shutil.which(path)
        if found is None:
            raise EvaluationError(
                f"--renderer blender: expected the program {str(path)!r}, found none; install Blender 3.4 or "
                "newer, give --blender, or take --renderer embree"
            )
        self._executable = found

    def described(self) -> list[Any]:
        """See `Renderer.described`."""
        return ["blender", _SCRIPT.read_text(encoding="utf-8")]

    def draw(self, scene: Path, transform: Similarity, camera: SceneCamera, samples: int) -> Image.Image:
        """See `Renderer.draw`."""
        with tempfile.TemporaryDirectory() as folder:
            picture, log = Path(folder) / "picture.png", Path(folder) / "blender.log"
            job = {"glb": str(scene.resolve()), "picture": str(picture), "samples": samples}
            job |= {"matrix": blender_matrix(transform).tolist(), **blender_camera(camera, str(scene))}
            try:
                run_blender(_SCRIPT, job, log, _SECONDS, self._executable)
                with open_picture(picture) as drawn:
                    return drawn.convert("RGBA")
            except (BlenderError, OSError, UnreadableFile) as error:
                reason = str(error).partition("; see ")[0]  # the log goes with the folder
                raise EvaluationError(f"{scene}: expected a picture by Blender, got: {reason}") from error


def blender_matrix(transform: Similarity) -> np.ndarray:
    """A map of scene files, y up, as a matrix (4, 4) of Blender's world, z up."""
    matrix = np.eye(4)
    matrix[:3, :3] = ZUP_TO_YUP.T @ (transform.scale * transform.rotation) @ ZUP_TO_YUP
    matrix[:3, 3] = ZUP_TO_YUP.T @ transform.translation
    return matrix


def blender_camera(camera: SceneCamera, where: str) -> dict[str, Any]:
    """A camera as the script takes it.

    Raises:
        EvaluationError: its pixels are not square.
    """
    if abs(camera.focal[0] / camera.focal[1] - 1) > _SQUARE:
        raise EvaluationError(
            f"{where}: expected a camera with square pixels, which Blender needs, got focal lengths "
            f"{camera.focal[0]:.1f} and {camera.focal[1]:.1f}; take --renderer embree"
        )
    to_camera = camera.extrinsics[:3, :3]
    turn = ZUP_TO_YUP.T @ to_camera.T @ BACKWARD_TO_FORWARD
    longer = max(camera.width, camera.height)
    shift = (camera.width / 2 - camera.centre[0]) / longer, (camera.centre[1] - camera.height / 2) / longer
    return {
        "camera_pos": (ZUP_TO_YUP.T @ (-to_camera.T @ camera.extrinsics[:3, 3])).tolist(),
        "camera_rotation": Rotation.from_matrix(turn).as_euler("xyz", degrees=True).tolist(),
        "camera_shift": shift,
        "fov": 2 * math.atan(longer / 2 / camera.focal[0]),
        "width": camera.width,
        "height": camera.height,
    }


RENDERERS = ("embree", "blender")
"""Names of the renderers."""


def find_renderer(name: str, blender: str | None = None) -> Renderer:
    """The renderer of a name.

    Args:
        name: some of `RENDERERS`.
        blender: the program, see `BlenderRenderer`.

    Raises:
        EvaluationError: Blender is not there.
    """
    return BlenderRenderer(blender) if name == "blender" else EmbreeRenderer()
