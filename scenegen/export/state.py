"""The state of a scene, ``scene.safetensors`` with ``state.json``: what later changes of it start from.

The tensors hold the photos, the objects as they are, and what the networks sampled for each; the JSON holds
the settings and what belongs to which object. A state is read in full, under limits, before anything is done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from safe_files.json_reader import read_json
from safe_files.limits import MAX_STATE_BYTES
from safe_files.regular import UnreadableFile, shown
from safe_files.weights import read_weights
from scenegen.confidence.calibration import ObjectConfidence
from scenegen.export.names import STATE_FILE, STATE_TENSORS_FILE
from scenegen.export.options import ExportOptions
from scenegen.export.state_tensors import (
    DamagedState,
    Tensors,
    pack_object,
    pack_room_part,
    pack_view,
    unpack_object,
    unpack_room_part,
    unpack_view,
)
from scenegen.hub.digest import file_sha256
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.mask_overlap import MaskOverlap
from scenegen.pipelines.result import SceneResult
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.state import SceneState
from trellis_modules.checkpoint import write_state as write_tensors
from trellis_modules.config import ConfigError, build, to_json

STATE_FORMAT = "scenegen-state-1"


class SceneStateError(ValueError):
    """The state of a scene that cannot be read; the message is one line and names the file."""


def write(result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions) -> list[str]:
    """Write the state of a scene that the pipeline made.

    Raises:
        OSError: the disk refuses.
    """
    state = result.state
    assert state is not None, "write_scene refuses scenes without"
    tensors: Tensors = {}
    for number, view in enumerate(state.views):
        tensors |= pack_view(f"view_{number}", view)
    for item in result.objects:
        tensors |= pack_object(item)
    for number, part in enumerate(result.room):
        tensors |= pack_room_part(f"room_{number}", part)
    write_tensors(tensors, folder / STATE_TENSORS_FILE)
    content = {
        "format": STATE_FORMAT,
        "tensors_sha256": file_sha256(folder / STATE_TENSORS_FILE),
        "networks": state.networks,
        "seed": state.seed,
        "order": list(state.order),
        "query": result.query_id,
        "views": [list(view.object_ids) for view in state.views],
        "objects": [
            {
                "id": item.object_id,
                "name": item.name,
                "problem": item.problem,
                "settings": item.settings,
                "confidence": item.confidence,
            }
            for item in result.objects
        ],
        "left_out": {str(number): why for number, why in result.left_out.items()},
        "camera": None if result.camera is None else _camera_content(result.camera),
        "camera_confidence": result.camera_confidence,
        "overlaps": {str(number): list(overlap) for number, overlap in result.overlaps.items()},
        "room": [{"node": part.node, "seen": part.seen} for part in result.room],
        "settings": _settings_content(state.settings),
        "record": result.settings,
    }
    text = json.dumps(to_json(content), indent=1) + "\n"
    (folder / STATE_FILE).write_text(text, encoding="utf-8")
    return [STATE_TENSORS_FILE, STATE_FILE]


def read_state(folder: Path) -> SceneResult:
    """Read a scene as the pipeline returned it, from a folder that was written with its state.

    Gaussians and radiance fields are left out: `SceneGenPipeline.with_representations` decodes them again.

    Raises:
        SceneStateError: there is no state, or it is damaged, of another version, or beyond the limits.
    """
    path, tensors_path = folder / STATE_FILE, folder / STATE_TENSORS_FILE
    if not (path.is_file() and tensors_path.is_file()):
        missing = tensors_path if path.is_file() else path
        raise SceneStateError(
            f"{missing}: expected the state of a scene, found no file; make the scene again with --keep-state"
        )
    try:
        content = read_json(path)
        _check_version(content)
        return _scene(content, read_tensors(tensors_path, content["tensors_sha256"]))
    except SceneStateError as error:
        raise SceneStateError(f"{path}: {error}") from error
    except (UnreadableFile, DamagedState, ConfigError, OSError) as error:
        raise SceneStateError(
            f"{path}: expected the state of a scene, got a damaged one ({error}); copy the folder again or "
            "make the scene again with --keep-state"
        ) from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # A damaged document can break any look-up; each of these means that the file contradicts itself.
        raise SceneStateError(
            f"{path}: expected the state of a scene, got an inconsistent one ({type(error).__name__}: "
            f"{str(error)[:80]}); make the scene again with --keep-state"
        ) from error


def _check_version(content: Any) -> None:
    found = content.get("format") if isinstance(content, dict) else None
    if found != STATE_FORMAT:
        raise SceneStateError(
            f"expected a state of the format {STATE_FORMAT!r}, got {shown(found)}; it is of another version "
            "of this project: make the scene again with --keep-state"
        )


def read_tensors(path: Path, digest: str) -> Tensors:
    """The tensors of a state.

    Args:
        path: their file.
        digest: its sha256 as the state noted it.

    Raises:
        UnreadableFile: it is too large, or no whole safetensors file.
        DamagedState: it is another file.
        OSError: it cannot be read.
    """
    if (size := path.stat().st_size) > MAX_STATE_BYTES:
        raise UnreadableFile(f"{path.name}: expected at most {MAX_STATE_BYTES} bytes, got {size}")
    if file_sha256(path) != digest:
        raise DamagedState(f"{path.name} is not the file that was written with it")
    return read_weights(path)


def _scene(content: Mapping[str, Any], tensors: Tensors) -> SceneResult:
    views = tuple(
        unpack_view(f"view_{number}", [_number(n) for n in ids], tensors)
        for number, ids in enumerate(content["views"])
    )
    objects = tuple(
        unpack_object(
            _number(entry["id"]),
            tensors,
            name=_text(entry["name"]),
            problem=None if entry["problem"] is None else _text(entry["problem"]),
            settings=None if entry["settings"] is None else dict(entry["settings"]),
            confidence=_confidence(entry["confidence"]),
        )
        for entry in content["objects"]
    )
    order, query = tuple(_number(n) for n in content["order"]), _number(content["query"])
    numbers = {item.object_id for item in objects}
    same = all(set(view.object_ids) == numbers for view in views)
    if not views or not same or len(numbers) != len(objects) or set(order) != numbers or query not in numbers:
        raise DamagedState("photos, order and objects contradict each other")
    camera = None if content["camera"] is None else _camera(content["camera"])
    settings = _settings(content["settings"])
    state = SceneState(views, order, settings, _text(content["networks"]), _number(content["seed"]))
    left_out = {int(number): _text(why) for number, why in content["left_out"].items()}
    sure = content["camera_confidence"]
    return SceneResult(
        objects,
        query,
        camera,
        dict(content["record"]),
        left_out=left_out,
        overlaps={int(number): _overlap(pair) for number, pair in content["overlaps"].items()},
        room=tuple(
            unpack_room_part(f"room_{number}", _text(part["node"]), float(part["seen"]), tensors)
            for number, part in enumerate(content["room"])
        ),
        state=state,
        camera_confidence=None if sure is None else float(sure),
    )


def _overlap(content: Any) -> MaskOverlap:
    modal, alone = content
    return MaskOverlap(None if modal is None else float(modal), float(alone))


def _confidence(content: Any) -> ObjectConfidence | None:
    return None if content is None else build(ObjectConfidence, content, "confidence")


def _settings_content(settings: RunSettings) -> dict[str, Any]:
    """Settings as JSON; structures that were given are in the objects already."""
    content = {name: value for name, value in to_json(settings).items() if name != "structure"}
    return content | {"representations": sorted(settings.representations)}


def _settings(content: Any) -> RunSettings:
    if not isinstance(content, dict):
        raise DamagedState("its settings are no object")
    return build(RunSettings, content | {"representations": tuple(content["representations"])}, "settings")


def _camera_content(camera: PhotoCamera) -> dict[str, Any]:
    return {
        "extrinsics": camera.extrinsics.tolist(),
        "focal": camera.focal,
        "aspect": camera.aspect,
        "overlap": camera.overlap,
        "modal_overlap": camera.modal_overlap,
    }


def _camera(content: Mapping[str, Any]) -> PhotoCamera:
    extrinsics = np.array(content["extrinsics"], dtype=np.float64)
    lens = [float(content[name]) for name in ("focal", "aspect")]
    overlaps = [content[name] for name in ("overlap", "modal_overlap")]
    known = [float(value) for value in overlaps if value is not None]
    if extrinsics.shape != (4, 4) or not np.isfinite([*extrinsics.ravel(), *lens, *known]).all():
        raise DamagedState("its camera has other numbers than a camera has")
    return PhotoCamera(extrinsics, *lens, *overlaps)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise DamagedState(f"expected a whole number, got {shown(value)}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise DamagedState(f"expected a text, got {shown(value)}")
    return value
