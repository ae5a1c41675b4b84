"""Counting solids: a closed box is one, an open, an inverted and a pinched one are not."""

import json

import numpy as np
import pytest
import trimesh

from benchmarks import solid_objects


def box(change=lambda mesh: mesh) -> trimesh.Trimesh:
    return change(trimesh.creation.box((1.0, 0.5, 0.25)))


def opened(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    mesh.update_faces(~np.isclose(mesh.face_normals[:, 2], 1.0))
    return mesh


def inverted(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    mesh.invert()
    return mesh


def pinched(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    beside = mesh.copy().apply_translation((1.0, 0.5, 0.0))  # the two share one edge
    return trimesh.util.concatenate([mesh, beside])


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda mesh: mesh, {"watertight", "manifold", "outward"}),
        (opened, {"manifold"}),
        (inverted, {"watertight", "manifold"}),
        (pinched, {"outward"}),
    ],
)
def test_figures_of_an_object(tmp_path, change, kept):
    path = tmp_path / "obj_0.glb"
    box(change).export(path)
    record = solid_objects.measure(path)
    assert {name for name in ("watertight", "manifold", "outward") if record[name]} == kept


def test_report_tells_the_shares_and_misses_an_aim(tmp_path, capsys):
    for scene, change in (("a", lambda mesh: mesh), ("b", opened)):
        (tmp_path / scene).mkdir()
        box(change).export(tmp_path / scene / "obj_0.glb")
    arguments = ["--prediction", str(tmp_path), "--workers", "1", "--output", str(tmp_path / "solids.json")]
    assert solid_objects.main(arguments) == 1
    assert "| watertight | 50.0% | 98% |" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "solids.json").read_text())) == 2


def test_a_folder_without_objects_is_told(tmp_path, capsys):
    assert solid_objects.main(["--prediction", str(tmp_path)]) == 2
    assert "expected <scene>/obj_<k>.glb" in capsys.readouterr().err
