"""How the objects of a predicted scene stand: upright boxes, distances in place, floor, shared space.

All scenes are normalised ones, y up, in units in which the longest side of a scene is 1.96.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import torch
import trimesh
from scipy.optimize import linear_sum_assignment
from scipy.spatial import ConvexHull, QhullError

from scenegen.evaluation.loading import EvaluationScene, ObjectMesh
from scenegen.evaluation.metrics import box_iou
from scenegen.evaluation.neighbours import Neighbours
from scenegen.refinement.solid import Solid, shared_volume, solid_of

_SOLID_RESOLUTION = 48  # voxels along the longest side of an object
_DISTANCE_POINTS = 2048  # of the true object, at least, for the mean distance of an object in place
_EPS = 1e-8


def upright_box(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box around points (V, 3) that stands upright and, seen from above, has the least area.

    Returns:
        (4, 2) corners x, z of its outline, in the order of a walk around it; (2,) lowest and highest y.
    """
    plan, heights = vertices[:, [0, 2]], vertices[:, 1]
    try:
        plan = plan[ConvexHull(plan).vertices]
    except QhullError:  # all on one line seen from above: any of its directions will do
        pass
    edges = np.roll(plan, -1, axis=0) - plan
    angles = np.unique(np.arctan2(edges[:, 1], edges[:, 0]) % (np.pi / 2))
    best = min((_turned_bounds(plan, angle) for angle in angles), key=lambda found: found[0])
    return best[1], np.array([heights.min(), heights.max()])


def _turned_bounds(plan: np.ndarray, angle: float) -> tuple[float, np.ndarray]:
    """Area and corners (4, 2) of the rectangle around points (N, 2) that is turned by an angle."""
    cosine, sine = np.cos(angle), np.sin(angle)
    axes = np.array([[cosine, sine], [-sine, cosine]])
    turned = plan @ axes.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    corners = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
    return float(np.prod(high - low)), corners @ axes


def upright_box_iou(vertices: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union, in [0, 1], of the upright boxes of two point sets (N, 3) and (M, 3)."""
    (plan, heights), (other_plan, other_heights) = upright_box(vertices), upright_box(other)
    shared_height = min(heights[1], other_heights[1]) - max(heights[0], other_heights[0])
    shared = max(float(shared_height), 0.0) * _area(_clip(plan, other_plan))
    volumes = _area(plan) * np.ptp(heights) + _area(other_plan) * np.ptp(other_heights)
    return float(shared / (volumes - shared + _EPS))


def _area(polygon: np.ndarray) -> float:
    """Area of a polygon (N, 2) whose corners are in the order of a walk around it."""
    x, y = polygon[:, 0], polygon[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _clip(polygon: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """The part of a convex polygon (N, 2) inside another (M, 2) that is walked with its inside on the left.

    Source: I. Sutherland, G. Hodgman, Reentrant polygon clipping, CACM 1974.
    """
    for start, end in zip(clip, np.roll(clip, -1, axis=0)):
        edge = end - start
        sides = edge[0] * (polygon[:, 1] - start[1]) - edge[1] * (polygon[:, 0] - start[0])
        kept = []
        for index in range(len(polygon)):
            following = (index + 1) % len(polygon)
            side, next_side = sides[index], sides[following]
            if side >= 0:
                kept.append(polygon[index])
            if side * next_side < 0:
                share = side / (side - next_side)
                kept.append(polygon[index] + share * (polygon[following] - polygon[index]))
        polygon = np.array(kept).reshape(-1, 2)
        if len(polygon) == 0:
            break
    return polygon


def mean_closest_distance(prediction: np.ndarray, truth: np.ndarray, true_vertices: np.ndarray) -> float:
    """ADD-S: mean distance of the true points (M, 3) of an object to its predicted points (N, 3), in place.

    Both stand in the scene. Unit: diagonal of the box of the true object's vertices.

    Source: Y. Xiang et al., PoseCNN, RSS 2018, sec. V.B, with the predicted shape in the predicted pose.
    """
    few = truth[:: max(1, len(truth) // _DISTANCE_POINTS)]
    return float(Neighbours(prediction).of(few)[0].mean() / diagonal(true_vertices))


def diagonal(vertices: np.ndarray) -> float:
    """Diagonal of the axis-aligned box of vertices (V, 3)."""
    return float(np.linalg.norm(np.ptp(vertices, axis=0)))


def floor_heights(scene: EvaluationScene) -> dict[int, float]:
    """How far the lowest point of each object is above the floor, which is the lowest point of the scene."""
    lowest = {index: float(item.vertices[:, 1].min()) for index, item in scene.objects.items()}
    floor = min(lowest.values())
    return {index: height - floor for index, height in lowest.items()}


def collision_volume(objects: Mapping[int, ObjectMesh]) -> float:
    """Volume that objects take from each other, summed over pairs, in cubed scene units."""
    solids: dict[int, Solid] = {}
    total = 0.0
    for pair in combinations(objects, 2):
        first, second = (objects[index].vertices for index in pair)
        if (np.minimum(first.max(0), second.max(0)) <= np.maximum(first.min(0), second.min(0))).any():
            continue
        for index in pair:
            if index not in solids:
                solids[index] = _solid(objects[index])
        poses = [_box_pose(objects[index]) for index in pair]
        total += shared_volume(solids[pair[0]], poses[0], solids[pair[1]], poses[1])
    return total


def object_volume(item: ObjectMesh) -> float:
    """Volume of an object with what it encloses, in cubed scene units."""
    return _solid(item).volume * float(_box_pose(item)[-1]) ** 3


def _solid(item: ObjectMesh) -> Solid:
    pose = _box_pose(item).numpy()
    mesh = trimesh.Trimesh((item.vertices - pose[:3]) / pose[-1], item.faces, process=False)
    return solid_of(mesh, _SOLID_RESOLUTION)


def _box_pose(item: ObjectMesh) -> torch.Tensor:
    """Pose (8,) of an object whose own frame has the axes of the scene, its box centred with side 1."""
    low, high = item.vertices.min(axis=0), item.vertices.max(axis=0)
    return torch.tensor([*(low + high) / 2, 1.0, 0.0, 0.0, 0.0, (high - low).max()], dtype=torch.float32)


def best_pairing(
    truth: Mapping[int, np.ndarray], prediction: Mapping[int, np.ndarray]
) -> dict[int, tuple[int, float]]:
    """Pair objects so that the overlaps of their axis-aligned boxes have the greatest sum, names apart.

    Args:
        truth, prediction: vertices (V, 3) by index, in one frame.

    Returns:
        For each true object with a partner, the partner's index and the overlap of their boxes in [0, 1].

    Source: H. Kuhn, The Hungarian method for the assignment problem, 1955.
    """
    true_indices, indices = list(truth), list(prediction)
    overlaps = np.array([[box_iou(prediction[j], truth[i]) for j in indices] for i in true_indices])
    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    return {
        true_indices[row]: (indices[column], float(overlaps[row, column]))
        for row, column in zip(rows, columns)
    }
