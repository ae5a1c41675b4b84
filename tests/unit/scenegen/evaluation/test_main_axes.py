import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from scenegen.evaluation.main_axes import main_axes


def turned(mesh, rotation):
    return np.asarray(mesh.vertices) @ rotation.T, np.asarray(mesh.faces)


def agree(axes, other):
    """Whether two sets of axes are the same up to their order and signs."""
    found = np.sort(np.abs(axes @ other.T).ravel())
    return np.allclose(found, [0] * 6 + [1] * 3, atol=1e-5)


@pytest.mark.parametrize("sides", [(1, 1, 1), (2, 1, 1), (1, 0.2, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_axes_of_a_box_are_its_edges(sides, seed):
    rotation = Rotation.random(random_state=seed).as_matrix()
    axes = main_axes(*turned(trimesh.creation.box(sides), rotation))
    assert np.linalg.det(axes) == pytest.approx(1)
    assert agree(axes, rotation.T)


@pytest.mark.parametrize("seed", range(3))
def test_axes_turn_with_the_surface(seed):
    parts = [
        trimesh.creation.cylinder(0.2, 0.6),
        trimesh.creation.box((1, 0.4, 0.5)),
        trimesh.creation.icosphere(2),
    ]
    for number, part in enumerate(parts):
        part.apply_transform(
            trimesh.transformations.random_rotation_matrix(np.random.default_rng(number).random(3))
        )
        part.apply_translation((number, 0.3 * number, 0))
    mesh = trimesh.util.concatenate(parts)
    rotation = Rotation.random(random_state=seed).as_matrix()
    assert agree(main_axes(*turned(mesh, rotation)), main_axes(mesh.vertices, mesh.faces) @ rotation.T)


def test_upright_furniture_has_a_vertical_axis():
    parts = []
    for number, turn in enumerate((0.2, 1.0, 0.6)):
        part = trimesh.creation.box((0.6, 0.5 + 0.2 * number, 0.4))
        part.apply_transform(trimesh.transformations.rotation_matrix(turn, (0, 1, 0)))
        parts.append(part)
    mesh = trimesh.util.concatenate(parts)
    assert np.abs(main_axes(mesh.vertices, mesh.faces)[:, 1]).max() == pytest.approx(1, abs=1e-6)
