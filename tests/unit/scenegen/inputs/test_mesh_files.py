"""Meshes that people bring: what is read, how it is brought to the frame of objects, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from PIL import Image

from scenegen.export.glb import glb_bytes
from scenegen.export.meshes import srgb_to_linear, vertex_colours
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.mesh_files import MESH_SUFFIXES, read_mesh


@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
def test_meshes_are_centred_with_longest_side_one(suffix, tmp_path):
    box = trimesh.creation.box((2.0, 8.0, 4.0))
    box.apply_translation((100, -3, 7))
    box.export(tmp_path / f"box{suffix}")
    mesh = read_mesh(tmp_path / f"box{suffix}")
    np.testing.assert_allclose(mesh.bounds, [[-0.125, -0.5, -0.25], [0.125, 0.5, 0.25]], atol=1e-6)


def test_parts_of_a_scene_become_one_mesh_in_their_places(tmp_path):
    scene = trimesh.Scene()
    for number in (0, 1):
        place = trimesh.transformations.translation_matrix([3 * number, 0, 0])
        scene.add_geometry(trimesh.creation.box((1, 1, 1)), transform=place)
    scene.export(tmp_path / "two.glb")
    mesh = read_mesh(tmp_path / "two.glb")
    assert len(mesh.faces) == 24
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [1, 0.25, 0.25], atol=1e-6)


COLOUR = (10, 200, 30)


def _box(**look):
    box = trimesh.creation.box()
    if look:
        material = trimesh.visual.material.PBRMaterial(**look)
        box.visual = trimesh.visual.TextureVisuals(np.zeros((8, 2)), material)
    else:
        box.visual.vertex_colors = np.tile([*COLOUR, 255], (8, 1))
    return box


def _picture(path):
    _box(baseColorTexture=Image.new("RGB", (2, 2), COLOUR)).export(path)


def _factor(path):
    linear = srgb_to_linear(np.array(COLOUR) / 255)
    _box(baseColorFactor=[*linear, 1.0]).export(path)


def _of_ours(path):
    path.write_bytes(glb_bytes(trimesh.Scene({"box": _box()})))


@pytest.mark.parametrize(
    ("name", "write", "kind"),
    [
        ("picture.glb", _picture, "texture"),
        ("one_colour.glb", _factor, "vertex"),
        ("plain_surface.glb", _of_ours, "vertex"),
        ("vertices.ply", lambda path: _box().export(path), "vertex"),
    ],
)
def test_colours_stay_and_can_be_written_again(name, write, kind, tmp_path):
    write(tmp_path / name)
    mesh = read_mesh(tmp_path / name)
    assert mesh.visual.kind == kind
    np.testing.assert_allclose(vertex_colours(mesh), [COLOUR] * len(mesh.vertices), atol=6)
    (tmp_path / "again.glb").write_bytes(glb_bytes(trimesh.Scene({"box": mesh})))
    np.testing.assert_allclose(vertex_colours(read_mesh(tmp_path / "again.glb"))[0], COLOUR, atol=6)


def test_texture_coordinates_without_a_picture_can_be_written(tmp_path):
    lines = [" ".join(["v", *map(str, corner)]) for corner in trimesh.creation.box().vertices]
    faces = ["f " + " ".join(f"{k + 1}/1" for k in face) for face in trimesh.creation.box().faces]
    (tmp_path / "box.obj").write_text("\n".join([*lines, "vt 0.5 0.5", *faces, ""]))
    mesh = read_mesh(tmp_path / "box.obj")
    (tmp_path / "again.glb").write_bytes(glb_bytes(trimesh.Scene({"box": mesh})))
    assert len(read_mesh(tmp_path / "again.glb").faces) == 12


def test_parts_with_and_without_a_picture_become_one_mesh(tmp_path):
    scene = trimesh.Scene()
    for number, box in enumerate((_box(), _box(baseColorTexture=Image.new("RGB", (2, 2), COLOUR)))):
        place = trimesh.transformations.translation_matrix([3 * number, 0, 0])
        scene.add_geometry(box, transform=place)
    scene.export(tmp_path / "two.glb")
    mesh = read_mesh(tmp_path / "two.glb")
    assert len(mesh.faces) == 24 and glb_bytes(trimesh.Scene({"two": mesh}))


def _flat(path):
    trimesh.Trimesh(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], [[0, 1, 2], [1, 3, 2]], process=False
    ).export(path)


def _point(path):
    trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False).export(path)


def _not_finite(path):
    path.write_text("v 0 0 0\nv 1 0 nan\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 3 4\n")


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("flat.ply", _flat, "a mesh with a volume, got a flat one"),
        ("point.ply", _point, "a mesh with a volume, got a flat one"),
        ("nan.obj", _not_finite, "expected finite vertices"),
        ("cut.glb", lambda path: path.write_bytes(b"glTF\x02\0\0\0\xff\0\0\0"), "expected"),
        ("text.ply", lambda path: path.write_text("hello"), "expected"),
        ("empty.stl", lambda path: path.write_bytes(b""), "expected"),
        ("points.obj", lambda path: path.write_text("v 0 0 0\nv 1 0 0\n"), "expected"),
        ("folder.glb", lambda path: path.mkdir(), "expected a readable mesh"),
        ("missing.glb", lambda path: None, "found no such file"),
        ("chair.fbx", lambda path: path.write_bytes(b"x"), "expected a mesh as .glb, .obj, .ply, .stl"),
    ],
)
def test_what_is_no_mesh_is_refused_in_one_line(name, write, words, tmp_path):
    write(tmp_path / name)
    with pytest.raises(SceneInputError, match=words) as error:
        read_mesh(tmp_path / name)
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)
