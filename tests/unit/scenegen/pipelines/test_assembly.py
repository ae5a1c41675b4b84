"""Placement of meshes in a scene file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from scenegen.geometry import SCENE_EXTENT, apply_transform, pose_to_transform, sanitize_pose
from scenegen.pipelines.assembly import row_poses, scene_transforms


def _boxes(count: int) -> list[trimesh.Trimesh]:
    generator = np.random.default_rng(count)
    return [trimesh.creation.box(extents=generator.uniform(0.3, 1.0, 3)) for _ in range(count)]


def _poses(count: int, seed: int = 0) -> Tensor:
    poses = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    poses[:, :3] *= 4
    poses[:, 7] = 0.3 + poses[:, 7].abs()
    poses[0] = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
    return poses


def _corners(meshes: list[trimesh.Trimesh], transforms: np.ndarray) -> np.ndarray:
    return np.concatenate([apply_transform(t, np.asarray(m.vertices)) for t, m in zip(transforms, meshes)])


@pytest.mark.parametrize("count", [1, 2, 12])
def test_scene_fills_the_centred_box(count: int) -> None:
    meshes = _boxes(count)
    points = _corners(meshes, scene_transforms([mesh.vertices for mesh in meshes], _poses(count)))
    np.testing.assert_allclose(points.min(axis=0) + points.max(axis=0), 0, atol=1e-12)
    assert np.ptp(points, axis=0).max() == pytest.approx(SCENE_EXTENT)


def test_arrangement_is_that_of_the_poses() -> None:
    meshes, poses = _boxes(4), _poses(4)
    transforms = scene_transforms([mesh.vertices for mesh in meshes], poses)
    expected = pose_to_transform(sanitize_pose(poses.double())).numpy()
    for index in range(1, 4):
        np.testing.assert_allclose(
            np.linalg.inv(transforms[0]) @ transforms[index],
            np.linalg.inv(expected[0]) @ expected[index],
            atol=1e-9,
        )
    linear = transforms[0][:3, :3]
    np.testing.assert_allclose(linear, linear[0, 0] * np.eye(3), atol=1e-9)


@pytest.mark.parametrize("count", [1, 12])
def test_scene_survives_a_glb_file(count: int, tmp_path: Path) -> None:
    meshes = _boxes(count)
    transforms = scene_transforms([mesh.vertices for mesh in meshes], _poses(count))
    scene = trimesh.Scene()
    for index, (mesh, transform) in enumerate(zip(meshes, transforms, strict=True)):
        scene.add_geometry(mesh, node_name=f"obj_{index}", geom_name=f"obj_{index}", transform=transform)
    path = tmp_path / "scene.glb"
    scene.export(path)
    reopened = trimesh.load(path)
    assert sorted(reopened.graph.nodes_geometry) == sorted(f"obj_{index}" for index in range(count))
    for index in range(count):
        transform, name = reopened.graph[f"obj_{index}"]
        placed = trimesh.transform_points(reopened.geometry[name].vertices, transform)
        expected = apply_transform(transforms[index], meshes[index].vertices)
        np.testing.assert_allclose(
            [placed.min(axis=0), placed.max(axis=0)], [expected.min(axis=0), expected.max(axis=0)], atol=1e-5
        )


def test_object_without_geometry_keeps_its_place_but_not_the_size() -> None:
    meshes, poses = _boxes(3), _poses(3)
    vertices = [meshes[0].vertices, np.zeros((0, 3)), meshes[2].vertices]
    transforms = scene_transforms(vertices, poses)
    assert transforms.shape == (3, 4, 4)
    points = _corners([meshes[0], meshes[2]], transforms[[0, 2]])
    assert np.ptp(points, axis=0).max() == pytest.approx(SCENE_EXTENT)


def test_predicted_zero_scale_and_zero_rotation_give_a_finite_scene() -> None:
    poses = _poses(2)
    poses[1, 3:] = 0
    transforms = scene_transforms([mesh.vertices for mesh in _boxes(2)], poses)
    assert np.isfinite(transforms).all() and abs(np.linalg.det(transforms[1])) > 0
    assert poses[1, 7] == 0, "the input must not change"


def test_bad_input_is_explained() -> None:
    vertices = [mesh.vertices for mesh in _boxes(2)]
    broken = _poses(2)
    broken[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"objects \[1\] are not finite"):
        scene_transforms(vertices, broken)
    with pytest.raises(ValueError, match="got 3 poses for 2 meshes"):
        scene_transforms(vertices, _poses(3))
    with pytest.raises(ValueError, match="at least one of 2 objects"):
        scene_transforms([np.zeros((0, 3))] * 2, _poses(2))
    with pytest.raises(ValueError, match="one point"):
        scene_transforms([np.zeros((1, 3))], _poses(1))


def test_row_stands_on_one_floor_without_overlap() -> None:
    boxes = [
        np.array([[-0.5, -0.1, 0.0], [0.5, 0.1, 0.2]]),
        np.zeros((0, 3)),
        np.array([[-0.2, -0.5, -0.1], [0.2, 0.5, 0.1]]),
    ]
    poses = row_poses(boxes, query=2)
    assert poses[2].tolist() == [0, 0, 0, 1, 0, 0, 0, 1]
    placed = [box + poses[row, :3].numpy() for row, box in enumerate(boxes)]
    assert placed[0][1, 0] < placed[2][0, 0]
    assert placed[0][0, 1] == pytest.approx(placed[2][0, 1])
