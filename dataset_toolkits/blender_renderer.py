"""Pictures of scene layouts with Blender (Cycles on the CPU), run as a separate headless program."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scenegen.blender.program import SCRIPTS, BlenderError, run_blender
from scenegen.geometry import pose_to_transform
from scenegen.synthesis.layouts.scene_layout import SceneLayout, world_poses

SURROUNDINGS = Path("/usr/share/blender/datafiles/studiolights/world")
"""Photos of all directions (CC0) of Debian's package blender-data."""


@dataclass(frozen=True)
class BlenderLook:
    """In place of sun and sky the light of a photo of all directions, and patterns on most surfaces."""

    hdri: Path
    turn: float  # radians about the vertical
    strength: float
    seed: int  # of the patterns

    @classmethod
    def draw(cls, number: int, folder: Path = SURROUNDINGS) -> BlenderLook:
        """The look with a number.

        Raises:
            BlenderError: the folder has no photos.
        """
        photos = sorted(folder.glob("*.exr"))
        if not photos:
            raise BlenderError(f"{folder}: expected photos of all directions (.exr), found none; "
                               "install blender-data")  # fmt: skip
        rng = np.random.default_rng([number, len(photos)])
        photo = photos[number % len(photos)]
        return cls(photo, float(rng.uniform(0, math.tau)), float(rng.uniform(1.0, 2.2)), number)


def render_with_blender(
    layout: SceneLayout,
    glbs: Mapping[str, Path],
    size: int,
    samples: int,
    log: Path,
    executable: str | None = None,
    timeout: float | None = None,
    look: BlenderLook | None = None,
) -> np.ndarray:
    """Render a layout with Cycles.

    Args:
        glbs: model id -> GLB in the object frame.
        size: pixels per side.
        samples: paths a pixel.
        log, executable, timeout: see `run_blender`.
        look: light and patterns; None for the sun, the sky and the colours of the layout.

    Returns:
        (size, size, 3) uint8.

    Raises:
        BlenderError: no such program, it failed, or the layout has mirrored or stretched objects.
    """
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        job = blender_job(layout, glbs, size, samples, picture)
        if look is not None:
            job["look"] = {**asdict(look), "hdri": str(look.hdri)}
        try:
            run_blender(SCRIPTS / "render_scene.py", job, log, timeout, executable)
        except BlenderError as error:
            raise BlenderError(f"{layout.scene_id}: {error}") from error
        if not picture.is_file():
            raise BlenderError(f"{layout.scene_id}: Blender wrote no picture; check its version")
        with Image.open(picture) as image:
            return np.asarray(image.convert("RGB"))


def blender_job(
    layout: SceneLayout, glbs: Mapping[str, Path], size: int, samples: int, picture: Path
) -> dict[str, Any]:
    """Everything ``blender_script/render_scene.py`` needs, in the layout's world frame (y up).

    Raises:
        BlenderError: an object is mirrored or stretched; Blender gets the models as they are.
    """
    for placed in layout.objects:
        if placed.mirror or placed.stretch != (1.0, 1.0, 1.0):
            raise BlenderError(
                f"{layout.scene_id}: {placed.model_id} is mirrored or stretched; render it with embree"
            )
    to_world = pose_to_transform(world_poses(layout))
    return {
        "objects": [
            {"glb": str(glbs[placed.model_id].resolve()), "matrix": matrix.tolist()}
            for placed, matrix in zip(layout.objects, to_world)
        ],
        "camera_to_world": np.linalg.inv(layout.camera.extrinsics()).tolist(),
        "fov_deg": layout.camera.fov_deg,
        "sun_direction": layout.lighting.sun_direction,
        "sun_strength": layout.lighting.sun_strength,
        "ambient_strength": layout.lighting.ambient_strength,
        "floor_colour": layout.room.floor_colour,
        "wall_colour": layout.room.wall_colour,
        "walls": [{"point": wall.point, "normal": wall.normal} for wall in layout.room.walls],
        "size": size,
        "samples": samples,
        "picture": str(picture),
    }
