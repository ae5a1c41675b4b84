"""Point clouds in files: read back by another library, and what cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh

from vggt.point_cloud import PointCloud

XYZ = np.array([[0, 1, 2], [3, 4, 5], [-1, 0.5, 9]], np.float32)
RGB = np.array([[0, 10, 255], [128, 64, 1], [255, 255, 255]], np.uint8)


def test_ply_keeps_frame_and_colours(tmp_path: Path) -> None:
    PointCloud(XYZ, RGB).save_ply(tmp_path / "a.ply")
    cloud = trimesh.load(tmp_path / "a.ply")
    assert np.array_equal(cloud.vertices, XYZ) and np.array_equal(cloud.colors[:, :3], RGB)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_glb_is_upright_with_linear_colours(count: int, tmp_path: Path) -> None:
    PointCloud(XYZ[:count], RGB[:count]).save_glb(tmp_path / "a.glb")
    (cloud,) = trimesh.load(tmp_path / "a.glb", force="scene").dump()
    np.testing.assert_allclose(cloud.vertices, XYZ[:count] * (1, -1, -1), atol=1e-6)
    linear = [[0, 1, 255], [55, 13, 0], [255, 255, 255]]  # of the sRGB levels 10: 0.8, 128: 55.0, 64: 13.1
    assert cloud.colors[:, :3].tolist() == linear[:count] and (cloud.colors[:, 3] == 255).all()


def test_files_say_their_frame_and_the_glb_names_its_parts(tmp_path: Path) -> None:
    PointCloud(XYZ, RGB).save_ply(tmp_path / "a.ply")
    PointCloud(XYZ, RGB).save_glb(tmp_path / "a.glb")
    assert b"comment frame of cameras.json" in (tmp_path / "a.ply").read_bytes()
    content = (tmp_path / "a.glb").read_bytes()
    tree = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    assert "y up" in tree["asset"]["extras"]["frame"] and "matrix" not in tree["nodes"][0]
    names = [tree[kind][0]["name"] for kind in ("nodes", "meshes", "materials")]
    assert names == ["points"] * 3 and tree["meshes"][0]["primitives"][0]["material"] == 0


def test_thinning_keeps_the_order_and_the_ends() -> None:
    cloud = PointCloud(XYZ, RGB)
    assert np.array_equal(cloud.thinned(2).xyz, XYZ[[0, 2]]) and cloud.thinned(3) is cloud


def test_no_point_and_infinite_points(tmp_path: Path) -> None:
    PointCloud(XYZ[:0], RGB[:0]).save_ply(tmp_path / "a.ply")
    assert b"element vertex 0" in (tmp_path / "a.ply").read_bytes()
    for xyz in (XYZ[:0], np.full_like(XYZ, np.inf)):
        with pytest.raises(ValueError, match="at least one point"):
            PointCloud(xyz, RGB[: len(xyz)]).save_glb(tmp_path / "a.glb")
    with pytest.raises(ValueError, match="expected xyz float32"):
        PointCloud(XYZ.astype(np.float64), RGB)
    with pytest.raises(ValueError, match=r"\(N, 3\), got \(3, 3\), \(2, 3\)"):
        PointCloud(XYZ, RGB[:2])
