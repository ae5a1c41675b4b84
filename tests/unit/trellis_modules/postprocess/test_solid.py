"""What simplification leaves is solid, and meshes are described as they are."""

import numpy as np
import pytest
import trimesh

from trellis_modules.postprocess import report_solid, tidy_solid


def thin_shell():
    """A ball and two rough thin sheets, which simplification pinches."""
    parts = [trimesh.creation.icosphere(subdivisions=5, radius=0.2)]
    for offset in (0.25, 0.3):
        box = trimesh.creation.box(extents=[0.8, 0.8, 0.012])
        for _ in range(5):
            box = box.subdivide()
        box.apply_translation([0, 0, offset])
        parts.append(box)
    rng = np.random.default_rng(0)
    mesh = trimesh.util.concatenate(parts)
    return (mesh.vertices + rng.normal(scale=2e-3, size=mesh.vertices.shape)).astype(np.float32), mesh.faces


@pytest.mark.parametrize("share", [0.3, 0.1, 0.05])
def test_simplified_surfaces_are_manifold_and_look_outwards(share):
    vertices, faces = thin_shell()
    count = int(share * len(faces))
    vertices, faces = tidy_solid(vertices, faces, count)
    report = report_solid(vertices, faces)
    assert report.watertight and report.faces == len(faces) == pytest.approx(count, rel=0.1)
    assert report.volume == pytest.approx(4 / 3 * np.pi * 0.2**3 + 2 * 0.8**2 * 0.012, rel=0.15)


def test_crumbs_and_cavities_go_and_parts_stay():
    ball = trimesh.creation.icosphere(radius=0.3)
    cavity = trimesh.creation.icosphere(radius=0.2)
    cavity.invert()
    part, crumb = (trimesh.creation.box(extents=[size] * 3) for size in (0.1, 0.01))
    part.apply_translation([0, 0, 0.4])
    crumb.apply_translation([0.4, 0, 0])
    mesh = trimesh.util.concatenate([ball, cavity, part, crumb])
    tidy = trimesh.Trimesh(*tidy_solid(mesh.vertices, mesh.faces), process=False)
    assert tidy.volume == pytest.approx(ball.volume + part.volume) and tidy.body_count == 2
    assert trimesh.Trimesh(*tidy_solid(mesh.vertices, mesh.faces, min_part=0.0)).body_count == 3
    assert trimesh.Trimesh(*tidy_solid(mesh.vertices, mesh.faces, min_part=0.2)).body_count == 1


def test_parts_that_are_all_small_stay():
    leaves = []
    for place in np.ndindex(7, 7, 7):
        leaves.append(trimesh.creation.box(extents=[0.05, 0.05, 0.01]))
        leaves[-1].apply_translation(np.array(place) / 8 - 0.4)
    mesh = trimesh.util.concatenate(leaves)
    assert len(tidy_solid(mesh.vertices, mesh.faces, min_part=0.005)[1]) == len(mesh.faces)


def test_a_mesh_turned_inside_out_is_turned():
    ball = trimesh.creation.icosphere(radius=0.3)
    vertices, faces = tidy_solid(ball.vertices, ball.faces[:, ::-1])
    assert report_solid(vertices, faces).volume == pytest.approx(ball.volume)


def test_share_of_parts_out_of_range_is_refused():
    ball = trimesh.creation.icosphere()
    with pytest.raises(ValueError, match=r"expected min_part in \[0, 1\), got 1"):
        tidy_solid(ball.vertices, ball.faces, min_part=1)


def test_seams_of_a_texture_do_not_open_a_mesh():
    box = trimesh.creation.box(extents=[1, 2, 3])
    report = report_solid(box.vertices[box.faces].reshape(-1, 3), np.arange(36).reshape(-1, 3))
    assert report.watertight and report.volume == pytest.approx(6) and report.faces == 12


@pytest.mark.parametrize(
    "change",
    [
        lambda faces: faces[1:],
        lambda faces: np.concatenate([faces[:1, ::-1], faces[1:]]),
        lambda faces: np.concatenate([faces, faces[:1]]),
        lambda faces: np.concatenate([faces, [[0, 0, 1]]]),
        lambda faces: faces[:0],
    ],
    ids=["open", "turned face", "face twice", "face without a side", "empty"],
)
def test_what_is_not_watertight(change):
    box = trimesh.creation.box()
    assert not report_solid(box.vertices, change(box.faces)).watertight
