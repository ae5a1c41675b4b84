"""The record of a scene, ``poses.json``: poses, frames, camera and settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import trimesh

from scenegen.geometry import pose_to_transform
from scenegen.photo.camera import PhotoView
from scenegen.pipelines.result import QUERY_FRAME, GeneratedObject, SceneResult


def poses_record(result: SceneResult, scene: trimesh.Scene, scene_id: str) -> dict[str, Any]:
    """The content of ``poses.json``; an object without a surface keeps its pose and tells why."""
    return {
        "scene_id": scene_id,
        "frame": QUERY_FRAME,
        "query": result.query_id,
        "objects": [_object_record(item) for item in result.objects],
        "camera": None if result.view is None else _camera_record(result.view),
        "glb": _normalisation(result, scene),
        "settings": result.settings,
        "seconds": {stage: round(seconds, 3) for stage, seconds in result.timings.items()},
        "peak_gib": {stage: round(peak / 2**30, 3) for stage, peak in result.peak_bytes.items()},
    }


def _object_record(item: GeneratedObject) -> dict[str, Any]:
    values = [float(value) for value in item.pose]
    record: dict[str, Any] = {
        "id": item.object_id,
        "node": item.node if item.mesh is not None else None,
        "name": f"object {item.object_id}",
        "translation": values[:3],
        "rotation_wxyz": values[3:7],
        "scale": values[7],
    }
    if item.problem is not None:
        record["skipped" if item.mesh is None else "problem"] = item.problem
    return record


def _camera_record(view: PhotoView) -> dict[str, Any]:
    """The fitted camera: query frame to camera (x right, y down, z forward), intrinsics in image sizes."""
    focal_y = view.focal / view.aspect
    return {
        "extrinsics": view.extrinsics.tolist(),
        "intrinsics": [[view.focal, 0.0, 0.5], [0.0, focal_y, 0.5], [0.0, 0.0, 1.0]],
        "mask_overlap": view.overlap,
    }


def _normalisation(result: SceneResult, scene: trimesh.Scene) -> dict[str, Any]:
    """The numbers in ``x_glb = scale * (x_query - centre)``."""
    item = next(item for item in result.objects if item.mesh is not None)
    query_to_glb = scene.graph[item.node][0] @ np.linalg.inv(pose_to_transform(item.pose.double()).numpy())
    scale = float(query_to_glb[0, 0])
    return {"scale": scale, "centre": (-query_to_glb[:3, 3] / scale).tolist()}
