"""How many generated objects are solids, for printing and physics.

    python -m benchmarks.solid_objects --prediction outputs --output solids.json

reads every ``obj_<k>.glb`` of a folder of scenes, as inference.py writes them, and counts

* ``watertight``: every edge has two faces that agree about what is outside;
* ``manifold``: no edge has more than two faces;
* ``outward``: the enclosed volume is positive, and at most 0.1 % of the rays from outside meet the back of a
  face first;
* ``mujoco``: MuJoCo takes the object with exact inertia, where the package mujoco is installed.

Exit status: 0 every share reaches its aim, 1 one does not, 2 there is no object.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from tqdm import tqdm

from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from trellis_modules.postprocess import report_solid
from trellis_modules.representations.mesh.triangle_arrays import weld

AIMS = {"watertight": 0.98, "manifold": 1.0, "outward": 1.0, "mujoco": 0.98}
RAYS = 20_000
MAX_BACK_FACES = 0.001  # of the rays: those that graze an edge may meet either side


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = CommandParser(__doc__)
    parser.add_argument("--prediction", type=Path, required=True, help="folder of scenes")
    parser.add_argument("--output", type=Path, help="JSON file for the figures of every object")
    parser.add_argument("--workers", type=positive_int, default=2, help="processes (%(default)s)")
    options = parser.parse_args(arguments)
    paths = sorted(options.prediction.glob("*/obj_*.glb"))
    if not paths:
        print(f"{options.prediction}: expected <scene>/obj_<k>.glb, found none", file=sys.stderr)
        return 2
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        records = list(tqdm(pool.map(measure, paths), total=len(paths), unit="object"))
    if options.output is not None:
        options.output.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return report(records)


def measure(path: Path) -> dict[str, Any]:
    """The figures of one object."""
    mesh = trimesh.load(path, force="mesh", process=False)
    vertices, faces, _ = weld(np.asarray(mesh.vertices), np.asarray(mesh.faces))
    solid = report_solid(vertices, faces)
    back_faces = share_of_back_faces(vertices, faces)
    return {
        "path": str(path),
        "faces": solid.faces,
        "volume": solid.volume,
        "back_faces": back_faces,
        "watertight": solid.watertight,
        "manifold": bool(edge_degrees(faces).max(initial=0) <= 2),
        "outward": solid.volume > 0 and back_faces <= MAX_BACK_FACES,
        "mujoco": accepted_by_mujoco(vertices, faces) if importlib.util.find_spec("mujoco") else None,
    }


def edge_degrees(faces: np.ndarray) -> np.ndarray:
    """(E,) number of faces at each edge."""
    sides = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2), axis=1)
    return np.unique(sides, axis=0, return_counts=True)[1]


def share_of_back_faces(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Share of the rays from outside, through the object's box, that first meet the back of a face."""
    rng = np.random.default_rng(0)
    away = rng.normal(size=(RAYS, 3))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    start = rng.uniform(vertices.min(axis=0), vertices.max(axis=0), size=(RAYS, 3)) + 3 * away
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    first = mesh.ray.intersects_first(start, -away)
    hit = first >= 0
    facing = (mesh.face_normals[first[hit]] * away[hit]).sum(axis=1)
    return float((facing < 0).mean()) if hit.any() else 1.0


def accepted_by_mujoco(vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Whether MuJoCo compiles the mesh with the inertia of its exact volume."""
    import mujoco

    spec = mujoco.MjSpec()
    mesh = spec.add_mesh(name="object", uservert=vertices.ravel(), userface=faces.ravel())
    mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_EXACT
    body = spec.worldbody.add_body()
    body.add_freejoint()
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="object")
    try:
        spec.compile()
    except ValueError:  # what MuJoCo raises for a mesh that it refuses
        return False
    return True


def report(records: Sequence[dict[str, Any]]) -> int:
    """Print the shares beside their aims; 1 where one is missed."""
    print(f"{len(records)} objects\n\n| | share | aim |\n|---|---:|---:|")
    missed = False
    for name, aim in AIMS.items():
        values = [record[name] for record in records if record[name] is not None]
        if not values:
            print(f"| {name} | not measured | {aim:.0%} |")
            continue
        share = sum(values) / len(values)
        missed |= share < aim
        print(f"| {name} | {share:.1%} | {aim:.0%} |")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
