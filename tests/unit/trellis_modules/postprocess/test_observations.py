"""Pictures from which textures are baked: every appearance, and what is refused."""

import pytest
import torch

from trellis_modules.postprocess import CleaningConfig, Observations, observe, to_textured_mesh
from trellis_modules.representations.octree import OctreeNodes, VoxelOctree
from trellis_modules.representations.strivec import Strivec

RESOLUTION = 32


def shell(sphere):
    """Leaves around the surface of the sphere, and its colours in their middles."""
    coords = torch.cartesian_prod(*[torch.arange(RESOLUTION)] * 3)
    centres = (coords + 0.5) / RESOLUTION - 0.5
    near = (centres.norm(dim=1) - 0.45 + 0.5 / RESOLUTION).abs() < 0.8 / RESOLUTION
    return OctreeNodes.from_coords(coords[near], RESOLUTION), sphere.colour(centres[near])


def radiance_field(sphere):
    """Opaque leaves, each of one colour."""
    nodes, colour = shell(sphere)
    count = len(nodes)
    degree_0 = 0.28209479177387814
    return Strivec(
        nodes,
        torch.ones(count, 1, 3, 2),
        torch.full((count, 1), 500.0),
        (colour.logit() / degree_0)[:, None, None],
    )


def voxels(sphere):
    nodes, colour = shell(sphere)
    return VoxelOctree(nodes, leaf_colours=colour)


@pytest.mark.parametrize("appearance", [radiance_field, voxels])
def test_textures_are_baked_from_octrees(sphere, appearance):
    observations = observe(appearance(sphere), 12, 64)
    assert observations.colour.shape == (12, 64, 64, 3)
    # the object, which is 2 away, is not cut: its nearest point hides what lies behind it
    middle = observations.alpha[:, 30:34, 30:34]
    torch.testing.assert_close(middle, torch.full_like(middle, 0.999), atol=2e-3, rtol=0)
    mesh = to_textured_mesh(
        sphere.vertices, sphere.faces, observations, cleaning=CleaningConfig(simplify=0.8), texture_size=96
    )
    assert sphere.error(mesh).mean() < 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": torch.zeros(2, 4, 5, 3)}, r"expected colour \(V, S, S, 3\)"),
        ({"alpha": torch.full((2, 4, 4), torch.nan)}, "expected finite colour and alpha"),
        ({"intrinsics": torch.eye(4)}, r"and \(4, 4\)"),
    ],
)
def test_wrong_observations_are_one_line(change, message):
    parts = {
        "colour": torch.zeros(2, 4, 4, 3),
        "alpha": torch.zeros(2, 4, 4),
        "extrinsics": torch.eye(4).expand(2, 4, 4),
        "intrinsics": torch.eye(3),
    }
    with pytest.raises(ValueError, match=f"Observations: .*{message}"):
        Observations(**{**parts, **change})
