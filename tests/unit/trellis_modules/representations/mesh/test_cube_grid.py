"""Numbering of cubes and vertices."""

import torch

from trellis_modules.representations.mesh.cube_grid import find_keys, key_points, point_keys, shared_corners


def test_keys_are_exact_where_32_bits_overflow():
    points = torch.tensor([[4095, 4094, 4093], [0, 0, 1]], dtype=torch.int32)
    keys = point_keys(points, 4096)
    assert int(keys[0]) == (4095 * 4096 + 4094) * 4096 + 4093 > 2**31
    assert torch.equal(key_points(keys, 4096), points.long())


def test_neighbours_share_four_vertices():
    vertices, corners = shared_corners(torch.tensor([[1, 1, 1], [2, 1, 1]]), resolution=4)
    assert len(vertices) == 12
    assert len(set(corners[0].tolist()) & set(corners[1].tolist())) == 4
    assert vertices[corners[1, 7]].tolist() == [3, 2, 2]


def test_missing_keys_are_reported():
    position, found = find_keys(torch.tensor([2, 5]), torch.tensor([5, 9, 3]))
    assert found.tolist() == [True, False, False] and position[0] == 1
    assert not find_keys(torch.zeros(0, dtype=torch.int64), torch.tensor([1]))[1].any()
