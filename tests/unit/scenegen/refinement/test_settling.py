"""Objects that come to rest, where it is known how."""

import math

import pytest
import torch
import trimesh

from scenegen.refinement.placement import refine_scene
from scenegen.refinement.settings import RefinementSettings
from scenegen.refinement.settling import settle_scene

pytest.importorskip("manifold3d")
pytest.importorskip("mujoco")

CUBE = trimesh.creation.box((1, 1, 1))
POST = trimesh.creation.box((0.05, 1, 0.05))


def pose(x=0.0, y=0.0, z=0.0, scale=1.0, lean_deg=0.0) -> torch.Tensor:
    half = math.radians(lean_deg) / 2
    return torch.tensor([x, y, z, math.cos(half), 0, 0, math.sin(half), scale])


def test_a_box_above_the_floor_comes_down_and_a_tilted_one_lies_flat():
    poses = torch.stack([pose(), pose(3, 0.05), pose(6, 0.05, lean_deg=4)])
    found = settle_scene([CUBE] * 3, poses, floor=-0.5, query=0)
    torch.testing.assert_close(found.poses[0], poses[0])
    assert float(found.poses[1, 1]) == pytest.approx(0.0, abs=0.005)
    assert found.report[2]["turn_deg"] == pytest.approx(4, abs=0.3)
    assert float(found.poses[2, 6]) == pytest.approx(0, abs=0.003)
    assert [entry["kept"] for entry in found.report] == ["query", None, None]
    torch.testing.assert_close(found.poses[:, 7], poses[:, 7])


def test_what_would_fall_over_stays_upright_and_is_told():
    poses = torch.stack([pose(), pose(3, 0.01), pose(6, lean_deg=9)])
    found = settle_scene([CUBE, CUBE, POST], poses, floor=-0.5, query=0)
    assert [entry["kept"] for entry in found.report] == ["query", None, "falls over"]
    torch.testing.assert_close(found.poses[2], poses[2])
    assert float(found.poses[1, 1]) == pytest.approx(0.0, abs=0.005)


def test_what_hangs_stays():
    poses = torch.stack([pose(), pose(3, 2.0, scale=0.4)])
    found = settle_scene([CUBE] * 2, poses, floor=-0.5, query=0, hanging=[1])
    torch.testing.assert_close(found.poses, poses)
    assert found.report[1]["kept"] == "hangs"


def test_refinement_settles_last():
    poses = torch.stack([pose(), pose(3, 0.03, lean_deg=3)])
    settings = RefinementSettings(resolution=32, contact_points=400, settle=True)
    refined = refine_scene([CUBE, CUBE], poses, 0, settings=settings)
    settled = refined.report["objects"][1]["settled"]
    assert settled["kept"] is None and settled["shift"] < 0.02
    assert float(refined.poses[1, 1]) == pytest.approx(0, abs=0.01)
