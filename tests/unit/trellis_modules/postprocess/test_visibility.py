"""What is seen of nested spheres does not depend on how fine their faces are."""

import torch
import trimesh

from trellis_modules.postprocess.visibility import face_visibility

VIEWS, SIZE = 24, 64  # a face of the fine sphere covers a fifth of a pixel


def nested_spheres(subdivisions):
    outer = trimesh.creation.icosphere(subdivisions, radius=0.45)
    inner = trimesh.creation.icosphere(subdivisions, radius=0.3)
    mesh = trimesh.util.concatenate([outer, inner])
    return torch.tensor(mesh.vertices).float(), torch.tensor(mesh.faces), len(outer.faces)


def test_outside_is_seen_from_its_half_of_the_views_and_inside_from_none():
    for subdivisions in (3, 5):
        vertices, faces, outer = nested_spheres(subdivisions)
        share = face_visibility(vertices, faces, VIEWS, SIZE)
        # at distance 2 a camera sees (1 - r / 2) / 2 of the area of a sphere of radius r
        assert abs(share[:outer].mean() - 0.3875) < 0.05
        assert share[:outer].min() > 0.2
        assert (share[outer:] == 0).all()


def test_inner_wall_of_a_thin_shell_is_hidden():
    sphere = trimesh.creation.icosphere(4, radius=0.45)
    vertices = torch.tensor(sphere.vertices).float()
    faces = torch.tensor(sphere.faces)
    shell = torch.cat([vertices, 0.99 * vertices]), torch.cat([faces, faces.flip(1) + len(vertices)])
    share = face_visibility(*shell, VIEWS, SIZE)
    assert share[: len(faces)].min() > 0.2
    assert (share[len(faces) :] == 0).all()


def test_both_sides_of_an_open_sheet_are_seen():
    sheet = torch.tensor([[-0.4, -0.4, 0], [0.4, -0.4, 0], [0.4, 0.4, 0], [-0.4, 0.4, 0]])
    share = face_visibility(sheet, torch.tensor([[0, 1, 2], [0, 2, 3]]), VIEWS, SIZE)
    assert share.min() > 0.9
