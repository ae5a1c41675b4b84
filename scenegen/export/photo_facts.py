"""What a scene tells of the photo's surroundings: its camera, the floor and the scale in metres, with errors.

All of it follows from the objects and the fitted camera. `measured_errors.json` says how far such figures are
off on test scenes; `benchmarks/photo_camera.py` measures and writes it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from safe_files.json_reader import read_json
from scenegen.export.frames import PHOTO_NODE, SceneFrame
from scenegen.geometry import SCALE, place_yup, sanitize_pose
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.floor import floor_height
from scenegen.photo.metric_scale import MetricScale, furniture_sizes, metric_scale
from scenegen.pipelines.result import SceneResult

ERRORS_FILE = Path(__file__).with_name("measured_errors.json")

FLOOR = "floor"
ELEVATION = "elevation_deg"
FIELD_OF_VIEW = "field_of_view_deg"
CAMERA_HEIGHT = "height_m"
METRES_PER_UNIT = "metres_per_unit"


@dataclass(frozen=True)
class PhotoFacts:
    """Figures in the query frame.

    Attributes:
        floor: height of the floor along y.
        scale: metres per unit.
        camera: of the photo; None where it is not known.
    """

    floor: float
    scale: MetricScale
    camera: PhotoCamera | None

    @classmethod
    def of(cls, result: SceneResult) -> PhotoFacts:
        """Those of a scene in which at least one object has a mesh."""
        shown = [item for item in result.objects if item.mesh is not None]
        poses = [sanitize_pose(item.pose.double()) for item in shown]
        sides = np.array([np.ptp(np.asarray(item.mesh.vertices), axis=0) for item in shown])
        sizes = np.array([float(pose[SCALE]) for pose in poses])
        bottoms = [
            float(place_yup(torch.from_numpy(np.array(item.mesh.vertices)), pose)[:, 1].min())
            for item, pose in zip(shown, poses)
        ]
        ids = [item.object_id for item in shown]
        query = ids.index(result.query_id) if result.query_id in ids else int(sizes.argmax())
        return cls(floor_height(bottoms, sizes, query), metric_scale(sides * sizes[:, None]), result.camera)

    def camera_height(self) -> float | None:
        """Height of the camera above the floor in units of the query frame."""
        return None if self.camera is None else float(self.camera.position()[1]) - self.floor

    def camera_record(self) -> dict[str, Any]:
        """Entries of the camera: directions in degrees, height above the floor in metres, and their errors.

        Nothing where there is no camera.
        """
        if self.camera is None:
            return {}
        azimuth, elevation = self.camera.direction_deg()
        return {
            "azimuth_deg": azimuth,
            ELEVATION: elevation,
            FIELD_OF_VIEW: math.degrees(2 * math.atan(0.5 / self.camera.focal)),
            CAMERA_HEIGHT: self.camera_height() * self.scale.metres_per_unit,
            "error": _errors(ELEVATION, FIELD_OF_VIEW, CAMERA_HEIGHT),
        }

    def floor_record(self) -> dict[str, Any]:
        """The plane of the floor: points x with normal . x = height."""
        return {"normal": [0.0, 1.0, 0.0], "height": self.floor, "error": _errors(FLOOR)}

    def scale_record(self) -> dict[str, Any]:
        """Metres per unit, the range of 68 %, where it comes from, and its error."""
        return {
            **asdict(self.scale),
            "source": f"sizes of furniture: {furniture_sizes()['source']}",
            "error": _errors(METRES_PER_UNIT),
        }

    def of_scene_file(self, frame: SceneFrame) -> dict[str, Any]:
        """All of it, short, in the frame of a scene file."""
        height = frame.scale * (self.floor - float(frame.centre[1]))
        camera = self.camera_record()
        return {
            "camera": {"node": PHOTO_NODE, **camera} if camera else None,
            "floor": {**self.floor_record(), "height": height},
            "metric_scale": {
                name: getattr(self.scale, name) / frame.scale for name in (METRES_PER_UNIT, "low", "high")
            }
            | {"error": _errors(METRES_PER_UNIT)},
        }


@cache
def measured_errors(path: Path = ERRORS_FILE) -> dict[str, Any]:
    """What was measured: ``made_by``, ``scenes``, ``model``; by figure ``unit``, ``median`` and ``p90``."""
    return read_json(path)


def _errors(*figures: str) -> dict[str, Any]:
    """Errors on test scenes, by figure."""
    return {name: dict(measured_errors()["figures"][name]) for name in figures}
