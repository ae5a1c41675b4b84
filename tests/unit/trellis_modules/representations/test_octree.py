"""Places and sizes of leaves, and their defined failures."""

import pytest
import torch

from trellis_modules.representations.octree import OctreeNodes, VoxelOctree
from trellis_modules.representations.strivec import Strivec

COORDS = torch.tensor([[0, 0, 0], [3, 1, 2]])


def test_leaves_fill_their_voxels():
    nodes = OctreeNodes.from_coords(COORDS, resolution=4)
    assert nodes.depth.flatten().tolist() == [2, 2] and nodes.depth.dtype == torch.uint8
    torch.testing.assert_close(nodes.xyz[1] - nodes.size[1] / 2, torch.tensor([0.25, -0.25, 0.0]))
    torch.testing.assert_close(nodes.size, torch.full((2, 3), 0.25))


def test_solid_and_soft_voxels():
    nodes = OctreeNodes.from_coords(COORDS, resolution=4)
    colour = torch.zeros(2, 1, 3)
    assert VoxelOctree(nodes, colour).density.tolist() == [[torch.finfo(torch.float32).max]] * 2
    soft = VoxelOctree(nodes, colour, torch.tensor([[2.0], [3.0]])).density
    torch.testing.assert_close(soft, torch.tensor([[1.0], [torch.e]]))


def test_strivec_sizes_and_empty_object():
    nodes = OctreeNodes.from_coords(COORDS[:0], resolution=64)
    field = Strivec(nodes, torch.ones(0, 16, 3, 8), torch.zeros(0, 16), torch.zeros(0, 16, 1, 3))
    assert (field.rank, field.samples_per_axis, len(field.nodes)) == (16, 8, 0)


def test_defined_failures():
    with pytest.raises(ValueError, match="must be integers, got torch.float32"):
        OctreeNodes.from_coords(COORDS + 0.5, resolution=4)
    with pytest.raises(ValueError, match=r"\[0, 4\), got \[-1, 2\]"):
        OctreeNodes.from_coords(COORDS - 1, resolution=4)
    with pytest.raises(ValueError, match="power of two"):
        OctreeNodes.from_coords(COORDS, resolution=6)
    with pytest.raises(ValueError, match=r"\[0, 2\), got \[0, 3\]"):
        OctreeNodes.from_coords(COORDS, resolution=2)
    nodes = OctreeNodes.from_coords(COORDS, resolution=4)
    with pytest.raises(ValueError, match="uint8"):
        OctreeNodes(nodes.position, nodes.depth.long(), nodes.aabb)
    with pytest.raises(ValueError, match=r"features_dc \(2, 1, 3\)"):
        VoxelOctree(nodes, torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"density \(2, 4\)"):
        Strivec(nodes, torch.ones(2, 4, 3, 8), torch.zeros(2, 5), torch.zeros(2, 4, 1, 3))
