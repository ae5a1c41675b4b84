"""Legs that symmetry tells of, where the true object is known."""

import numpy as np
import pytest
import trimesh
from PIL import Image

from scenegen.refinement.legs import complete_legs
from tests.furniture_shapes import table
from trellis_modules.postprocess.hole_filling import fill_holes
from trellis_modules.postprocess.solid import report_solid
from trellis_modules.representations.mesh.triangle_arrays import weld


def box(size, centre) -> trimesh.Trimesh:
    return (
        trimesh.creation.box(size, trimesh.transformations.translation_matrix(centre)).subdivide().subdivide()
    )


def furniture(legs, top=(1.0, 0.1, 0.7), height=0.6) -> trimesh.Trimesh:
    """A top on legs at places (x, z), each with the height at which it ends above the floor."""
    parts = [box(top, (0.0, height / 2 - top[1] / 2, 0.0))]
    for x, z, above in legs:
        parts.append(box((0.08, height - above - 0.05, 0.08), (x, (above - 0.05) / 2, z)))
    return trimesh.util.concatenate(parts)


FOUR = [(x, z, 0.0) for x in (-0.45, 0.45) for z in (-0.3, 0.3)]


def volume(mesh: trimesh.Trimesh) -> float:
    return report_solid(np.asarray(mesh.vertices), np.asarray(mesh.faces)).volume


def without_corner(mesh: trimesh.Trimesh, x: int, z: int, below: float) -> trimesh.Trimesh:
    """A mesh without what it has in one corner below a height, closed again."""
    middles = mesh.triangles_center
    gone = (np.sign(middles[:, 0]) == x) & (np.sign(middles[:, 2]) == z) & (middles[:, 1] < below)
    vertices, faces, _ = weld(np.asarray(mesh.vertices), np.asarray(mesh.faces)[~gone])
    return trimesh.Trimesh(*fill_holes(vertices, faces, 200), process=False)


@pytest.mark.parametrize("missing", range(4))
def test_a_table_gets_its_fourth_leg_back(missing):
    whole = furniture(FOUR)
    found = complete_legs(furniture(FOUR[:missing] + FOUR[missing + 1 :]))
    assert (found.added, found.steady) == (1, True)
    assert volume(found.mesh) == pytest.approx(volume(whole), rel=0.05)
    np.testing.assert_allclose(found.mesh.bounds, whole.bounds, atol=0.01)
    x, z, _ = FOUR[missing]
    vertices = np.asarray(found.mesh.vertices)
    new = vertices[(np.abs(vertices[:, 0] - x) < 0.08) & (np.abs(vertices[:, 2] - z) < 0.08)]
    low = new[new[:, 1] < -0.2]
    np.testing.assert_allclose([low[:, 0].mean(), low[:, 2].mean()], [x, z], atol=0.02)
    assert report_solid(np.asarray(found.mesh.vertices), np.asarray(found.mesh.faces)).watertight


def test_a_leg_cut_off_one_closed_surface_comes_back():
    whole = table()
    cut = without_corner(whole, 1, 1, 0.0)
    assert cut.is_watertight and volume(cut) < 0.98 * volume(whole)
    found = complete_legs(cut)
    assert (found.added, found.steady) == (1, True)
    assert volume(found.mesh) == pytest.approx(volume(whole), rel=0.004)
    assert found.mesh.is_watertight, "no vertex is there twice"


def test_two_short_legs_are_lengthened():
    short = [(x, z, 0.3 if x > 0 else 0.0) for x, z, _ in FOUR]
    found = complete_legs(furniture(short))
    assert (found.added, found.steady) == (2, True)
    assert volume(found.mesh) == pytest.approx(volume(furniture(FOUR)), rel=0.05)


def test_a_leg_that_both_of_its_mirror_images_lack_comes_from_across():
    only = [leg for leg in FOUR if leg[0] * leg[1] > 0]  # two legs on a diagonal
    found = complete_legs(furniture(only))
    assert (found.added, found.steady) == (2, True)


@pytest.mark.parametrize(
    "legs",
    [FOUR, [(0.0, 0.25, 0.0), (-0.3, -0.2, 0.0), (0.3, -0.2, 0.0)]],
    ids=["four legs", "three legs that it stands on"],
)
def test_what_stands_stays_as_it_is(legs):
    mesh = furniture(legs)
    found = complete_legs(mesh)
    assert found.mesh is mesh and (found.added, found.steady) == (0, True)


def test_what_symmetry_does_not_tell_is_left_alone():
    mesh = furniture(FOUR[:1])  # one leg in a corner tells of all four
    assert complete_legs(mesh).added == 3
    lone = furniture([(0.45, 0.0, 0.0)], top=(1.0, 0.1, 0.3))
    lone.vertices[:, 0] += 0.4 * (lone.vertices[:, 1] < 0)  # a leg beside the top, as of a lamp that leans
    assert not complete_legs(lone).steady
    ball = trimesh.creation.icosphere(3, 0.5)
    assert complete_legs(ball).mesh is ball


def test_new_legs_have_the_texture_of_the_old_ones():
    mesh = furniture(FOUR[1:])
    uvs = np.stack([(mesh.vertices[:, 1] + 0.5), np.abs(mesh.vertices[:, 0])], axis=1)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.new("RGB", (4, 4)))
    mesh.visual = trimesh.visual.TextureVisuals(uv=uvs, material=material)
    found = complete_legs(mesh)
    assert found.added == 1 and found.mesh.visual.material is material
    vertices, new_uvs = np.asarray(found.mesh.vertices), np.asarray(found.mesh.visual.uv)
    old = len(mesh.vertices)
    np.testing.assert_array_equal(new_uvs[:old], uvs)
    np.testing.assert_allclose(new_uvs[old:, 1], np.abs(vertices[old:, 0]), atol=0.03)
    assert found.mesh.vertex_normals.shape == vertices.shape


def test_new_legs_have_the_colours_of_the_old_ones():
    mesh = furniture(FOUR[1:])
    colours = np.full((len(mesh.vertices), 4), 255, np.uint8)
    colours[mesh.vertices[:, 2] < 0] = (200, 10, 10, 255)  # the missing leg is on this side
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=colours)
    found = complete_legs(mesh)
    new = np.asarray(found.mesh.visual.vertex_colors)[len(mesh.vertices) :]
    assert found.added == 1 and (new[:, :3] == (200, 10, 10)).all(axis=1).mean() > 0.9
