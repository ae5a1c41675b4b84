"""Small scenes on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh


def _mesh(size):
    """An L-shaped body, different from each of its turns about the vertical."""
    seat = trimesh.creation.box((1.0, 0.3, 0.8))
    back = trimesh.creation.box((1.0, 0.7, 0.2))
    back.apply_translation((0.0, 0.5, -0.3))
    side = trimesh.creation.box((0.2, 0.3, 0.5))
    side.apply_translation((0.4, 0.3, 0.15))
    return trimesh.util.concatenate([seat, back, side]).apply_scale(size)


@pytest.fixture
def write_scene():
    """Write `<root>/<id>.glb` and `<id>.json` with objects in a row; `yaws` are their turns in degrees."""

    def write(
        root, scene_id, count=3, *, names=None, yaws=None, moved=None, skip=(), poses=True, symmetry=None
    ):
        root.mkdir(parents=True, exist_ok=True)
        scene, entries = trimesh.Scene(), []
        moved = np.eye(4) if moved is None else moved
        for index in range(count):
            if index in skip:
                continue
            yaw = np.deg2rad(yaws[index]) if yaws else 0.0
            local = trimesh.transformations.rotation_matrix(yaw, (0, 1, 0))
            local[:3, 3] = (1.5 * index, 0.0, 0.4 * index**2)
            name = names[index] if names else f"obj_{index}"
            scene.add_geometry(
                _mesh(1 - 0.03 * index), node_name=name, geom_name=f"mesh_{index}", transform=moved @ local
            )
            entries.append(
                {
                    "id": index,
                    "node": name,
                    "translation": local[:3, 3].tolist(),
                    "rotation_wxyz": [np.cos(yaw / 2), 0.0, np.sin(yaw / 2), 0.0],
                    "scale": 1 - 0.03 * index,
                    "symmetry": symmetry[index] if symmetry else 1,
                }
            )
        path = Path(root) / f"{scene_id}.glb"
        scene.export(path)
        if poses:
            path.with_suffix(".json").write_text(
                json.dumps({"scene_id": scene_id, "query": 0, "objects": entries})
            )
        return path

    return write
