"""How wrong the objects of a sample of a scene are, for `benchmarks.confidence`.

A symmetric query looks the same after some turns, and so the whole scene may be turned about it: of these
turns the one counts with which the objects are nearest to their places.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scenegen.evaluation.clouds import CloudPair
from scenegen.evaluation.loading import ObjectMesh, ScenePoses, load_poses, load_scene, sample_surface
from scenegen.evaluation.metrics import (
    box_iou,
    f_score,
    normalise_object,
    symmetric_rotation_errors_deg,
)
from scenegen.geometry import (
    CONTINUOUS_SYMMETRY,
    ROTATION,
    TRANSLATION,
    compose_poses,
    invert_pose,
    place_yup,
    pose_differences,
    relative_pose,
    world_pose,
)
from scenegen.pipelines.candidates import Candidate
from scenegen.pipelines.decoding import occupancy_surface

_POINTS = 3_000
_THRESHOLD = 0.1  # of clouds whose longest side is 1.9: 5 % of it
_TURNS_OF_ROUND = 24  # tried for an object that looks the same after any turn
_FAR = 10.0

Errors = dict[str, float]


@dataclass(frozen=True)
class TrueScene:
    """The true objects of a scene, in the networks' order.

    Attributes:
        meshes: surfaces in the objects' own frames.
        poses: (B, 8) relative to the first object.
        symmetry: orders of their symmetry about the vertical.
        forward: (3,) direction in which the camera looks, in the frame of the first object.
    """

    meshes: list[ObjectMesh]
    poses: Tensor
    symmetry: list[int]
    forward: np.ndarray

    @classmethod
    def load(cls, folder: Path, name: str, order: Sequence[int]) -> TrueScene:
        """Read the truth of a scene; ``order`` are the numbers of its objects, the query first."""
        poses: ScenePoses = load_poses(folder / f"{name}.json")
        scene = load_scene(folder / f"{name}.glb")
        record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        scale, centre = record["glb"]["scale"], np.array(record["glb"]["centre"])
        meshes = []
        for number in order:
            placed = scene.objects[number]
            in_query = torch.from_numpy(placed.vertices / scale + centre)
            own = place_yup(in_query, invert_pose(poses.poses[number]))
            meshes.append(ObjectMesh(number, own.numpy(), placed.faces))
        frame = poses.poses[order[0]]
        relative = relative_pose(torch.stack([poses.poses[number] for number in order]), frame)
        forward = np.array(record["camera"]["extrinsics"])[2, :3]
        turned = place_yup(torch.from_numpy(forward)[None], _rotation_only(invert_pose(frame)))[0]
        return cls(meshes, relative, [poses.symmetry[number] for number in order], turned.numpy())

    def errors_of(self, candidate: Candidate) -> tuple[list[Errors], Errors]:
        """Errors of every object and of the camera of a judged sample."""
        poses = torch.stack([draft.pose for draft in candidate.drafts]).double()
        turn = self._best_turn(poses)
        truth = compose_poses(turn.expand(len(poses), -1), self.poses)
        differences = pose_differences(poses, truth)
        turns = torch.zeros(len(poses), dtype=torch.float64)
        if len(poses) > 1:
            turns[1:] = symmetric_rotation_errors_deg(
                poses[1:, ROTATION], self.poses[1:, ROTATION], self.symmetry[1:], self.symmetry[0]
            )
        found = []
        for row, mesh in enumerate(self.meshes):
            surface = occupancy_surface(candidate.drafts[row].logits.numpy())[0].astype(np.float64)
            box = 0.0
            if len(surface):
                placed = place_yup(torch.from_numpy(surface), poses[row]).numpy()
                box = box_iou(placed, place_yup(torch.from_numpy(mesh.vertices), truth[row]).numpy())
            found.append(
                {
                    "turn_deg": float(turns[row]),
                    "place": min(float(differences["translation_error"][row]), _FAR),
                    "size": float(differences["size_agreement"][row]),
                    "fscore": _shape_score(surface, mesh),
                    "box_iou": box,
                }
            )
        return found, {"direction_deg": self._direction_error(candidate)}

    def _best_turn(self, poses: Tensor) -> Tensor:
        """The pose (8,) of the turn of the query with which the true places are nearest to the given ones."""
        candidates = _turns(self.symmetry[0])
        places = [
            compose_poses(turn.expand(len(poses), -1), self.poses)[:, TRANSLATION] for turn in candidates
        ]
        errors = [float((place - poses[:, TRANSLATION]).norm(dim=1).mean()) for place in places]
        return candidates[int(np.argmin(errors))]

    def _direction_error(self, candidate: Candidate) -> float:
        """Degrees between the directions in which the fitted and the true camera look."""
        assert candidate.camera is not None, "of a judged sample"
        looks = candidate.camera.extrinsics[2, :3]
        turns = _turns(self.symmetry[0])
        forwards = [place_yup(torch.from_numpy(self.forward)[None], turn)[0].numpy() for turn in turns]
        cosines = [looks @ forward / np.linalg.norm(forward) / np.linalg.norm(looks) for forward in forwards]
        return float(np.rad2deg(np.arccos(np.clip(max(cosines), -1, 1))))


def _turns(symmetry: int) -> list[Tensor]:
    """Poses (8,) of the turns about the vertical after which an object looks the same."""
    count = _TURNS_OF_ROUND if symmetry == CONTINUOUS_SYMMETRY else symmetry
    angles = torch.arange(count, dtype=torch.float64) * (2 * np.pi / count)
    one, zero = torch.tensor(1.0, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    return [world_pose(zero, angle, one) for angle in angles]


def _shape_score(surface: np.ndarray, truth: ObjectMesh) -> float:
    """F-score of two surfaces in their own frames, both brought to one size."""
    if not len(surface):
        return 0.0
    rng = np.random.default_rng(0)
    points = surface[rng.choice(len(surface), min(len(surface), _POINTS), replace=False)]
    drawn = sample_surface(truth, _POINTS, rng)
    pair = CloudPair(
        normalise_object(points, surface, isotropic=True),
        normalise_object(drawn, truth.vertices, isotropic=True),
    )
    return f_score(pair.match(), _THRESHOLD)


def _rotation_only(pose: Tensor) -> Tensor:
    return torch.cat([torch.zeros(3, dtype=pose.dtype), pose[ROTATION], torch.ones(1, dtype=pose.dtype)])
