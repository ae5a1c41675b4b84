"""The record of a scene, ``poses.json``: poses, frames, camera and settings."""

from __future__ import annotations

from typing import Any

import trimesh

from scenegen.export.frames import PLY_FRAME, PLY_TO_GLB, SceneFrame
from scenegen.export.photo_facts import PhotoFacts
from scenegen.geometry import CAMERA_FRAME, GLB_FRAME
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.mask_overlap import MaskOverlap
from scenegen.photo.room_parts import RoomPart
from scenegen.pipelines.result import QUERY_FRAME, GeneratedObject, SceneResult
from trellis_modules.postprocess import report_solid


def poses_record(result: SceneResult, scene: trimesh.Scene, scene_id: str) -> dict[str, Any]:
    """The content of ``poses.json``; an object without a surface keeps its pose and tells why."""
    frame, facts = SceneFrame.of(result, scene), PhotoFacts.of(result)
    room = {"room": [_part_record(part) for part in result.room]} if result.room else {}
    return {
        "scene_id": scene_id,
        "frame": QUERY_FRAME,
        "query": result.query_id,
        "objects": [_object_record(item, result.overlaps.get(item.object_id)) for item in result.objects],
        "left_out": [{"id": number, "reason": why} for number, why in sorted(result.left_out.items())],
        "camera": None
        if result.camera is None
        else _camera_record(result.camera, result.camera_confidence) | facts.camera_record(),
        "floor": facts.floor_record(),
        "metric_scale": facts.scale_record(),
        **room,
        "glb": {"frame": GLB_FRAME, "scale": frame.scale, "centre": frame.centre.tolist()},
        "ply_frame": PLY_FRAME,
        "ply_to_glb": PLY_TO_GLB.tolist(),
        "settings": result.settings,
        "seconds": {stage: round(seconds, 3) for stage, seconds in result.timings.items()},
        "peak_gib": {stage: round(peak / 2**30, 3) for stage, peak in result.peak_bytes.items()},
    }


def _object_record(item: GeneratedObject, overlap: MaskOverlap | None) -> dict[str, Any]:
    values = [float(value) for value in item.pose]
    record: dict[str, Any] = {
        "id": item.object_id,
        "node": item.node if item.mesh is not None else None,
        "name": item.name or f"object {item.object_id}",
        "translation": values[:3],
        "rotation_wxyz": values[3:7],
        "scale": values[7],
    }
    if item.mesh is not None:
        record |= _mesh_record(item.mesh)
    if overlap is not None:
        record |= {"modal_overlap": overlap.modal, "mask_overlap": overlap.alone}
    if item.confidence is not None:
        record["confidence"] = {name: round(value, 3) for name, value in item.confidence.known.items()}
    if item.problem is not None:
        record["skipped" if item.mesh is None else "problem"] = item.problem
    return record


def _mesh_record(mesh: trimesh.Trimesh) -> dict[str, Any]:
    """What the mesh is, in the object's own frame: its box, its triangles, and whether it is a solid."""
    low, high = mesh.bounds
    solid = report_solid(mesh.vertices, mesh.faces)
    return {
        "box": {"centre": ((low + high) / 2).tolist(), "size": (high - low).tolist()},
        "faces": solid.faces,
        "watertight": solid.watertight,
        "volume": solid.volume,
    }


def _part_record(part: RoomPart) -> dict[str, Any]:
    """A rectangle of the room: its corners in the query frame, and the share of it that the photo shows."""
    return {"node": part.node, "corners": part.corners.tolist(), "seen": part.seen}


def _camera_record(view: PhotoCamera, confidence: float | None) -> dict[str, Any]:
    """The fitted camera: query frame to camera (x right, y down, z forward), intrinsics in image sizes."""
    sure = {} if confidence is None else {"confidence": round(confidence, 3)}
    return {
        "frame": CAMERA_FRAME,
        "extrinsics": view.extrinsics.tolist(),
        "intrinsics": view.intrinsics().tolist(),
        "modal_overlap": view.modal_overlap,
        "mask_overlap": view.overlap,
        **sure,
    }
