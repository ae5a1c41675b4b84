"""Radiance fields that are easy to foresee."""

from __future__ import annotations

import torch

from trellis_modules.representations.octree import OctreeNodes
from trellis_modules.representations.strivec import Strivec


def solid_field(colour: tuple[int, int, int]) -> Strivec:
    """The object cube, opaque and of one colour of 8 bits a channel."""
    nodes = OctreeNodes.from_coords((torch.ones(2, 2, 2) > 0).nonzero(), 2)
    return Strivec(
        nodes,
        torch.ones(8, 1, 3, 2),
        density=torch.full((8, 1), 500.0),
        leaf_colours=torch.tensor(colour).div(255).repeat(8, 1),
    )
