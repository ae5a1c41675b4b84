"""A model for MuJoCo: ``scene.xml`` with a floor, free bodies and convex colliders, z up, in metres."""

from __future__ import annotations

from pathlib import Path

import trimesh

from scenegen.export.options import ExportOptions
from scenegen.export.rigid_scene import RigidScene
from scenegen.export.wavefront_obj import write_object
from scenegen.physics.mujoco_model import VisualFiles, mjcf
from scenegen.pipelines.result import SceneResult

MODEL_FILE = "scene.xml"


def write(result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions) -> list[str]:
    """Write ``scene.xml`` and what it shows: ``obj_<k>_visual.obj`` with a picture each.

    Convex parts are in the model itself. MuJoCo reads PNG pictures only.
    """
    rigid = RigidScene.of(result, scene, options)
    names, visuals = [MODEL_FILE], {}
    for body in rigid.bodies:
        mesh = scene.geometry[scene.graph[body.name][1]]
        files = write_object(f"{body.name}_visual", mesh, folder, ExportOptions())
        visuals[body.name] = VisualFiles(mesh=files[0], picture=files[2])
        names += files
    (folder / MODEL_FILE).write_text(mjcf(rigid.bodies, visuals), encoding="utf-8")
    return names
