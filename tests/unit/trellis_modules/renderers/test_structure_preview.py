"""Previews of structures: where voxels lie in the views and which colours they have."""

import math

import pytest
import torch

from trellis_modules.renderers import scene_preview, structure_preview
from trellis_modules.renderers.cameras import fov_intrinsics, orbit_extrinsics, to_camera, to_pixels

SIZE = 48


def cells(low, high):
    return torch.cartesian_prod(*[torch.arange(a, b) for a, b in zip(low, high)])


def view_poses(generator):
    """The cameras of a preview with the same generator."""
    turn = (2 * torch.rand(5, generator=generator) - 1) * math.pi / 4
    return orbit_extrinsics(torch.arange(4) * math.pi / 2 + turn[0], turn[1:], 2.0)


def views_of(grid):
    size = len(grid) // 2
    return [grid[y : y + size, x : x + size] for y in (0, size) for x in (0, size)]


def test_voxels_have_the_colour_of_their_place_in_all_four_views():
    coords = torch.tensor([[1, 6, 3]])
    grid = structure_preview(coords, 8, size=SIZE, ssaa=2, generator=torch.Generator().manual_seed(4))
    assert grid.shape == (2 * SIZE, 2 * SIZE, 3) and grid.dtype == torch.uint8
    centre = (coords + 0.5) / 8
    colour = (centre[0] * 0.999 * 255).round()
    poses = view_poses(torch.Generator().manual_seed(4))
    for view, pose in zip(views_of(grid), poses):
        x, y, _ = to_pixels(to_camera(centre - 0.5, pose), fov_intrinsics(math.radians(40)), SIZE)[0]
        assert (view[int(y), int(x)].float() - colour).abs().max() <= 1
        assert (view.amax(-1) > 0).float().mean() < 0.05  # black elsewhere


def test_views_differ_by_generator_only():
    coords = cells((0, 0, 0), (4, 2, 1))
    first, second = (structure_preview(coords, 4, size=8, ssaa=1) for _ in range(2))
    other = structure_preview(coords, 4, size=8, ssaa=1, generator=torch.Generator().manual_seed(9))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_no_voxels_are_black():
    assert not structure_preview(torch.zeros(0, 3, dtype=torch.int32), 16, size=8).any()


def test_a_scene_shows_its_objects_where_they_are_placed_and_the_axes():
    block = cells((0, 0, 0), (8, 8, 8))
    placements = torch.eye(4).repeat(2, 1, 1)
    placements[:, :3, :3] *= 0.5
    placements[1, :3, 3] = torch.tensor([2.0, 0.0, 0.0])  # far to the right: the cube spans 2.4 along x
    size = 160  # so that four samples a pixel and axis meet every voxel of the scene
    grid = scene_preview([block, block], 8, placements, size=size, ssaa=4)
    poses = view_poses(torch.Generator().manual_seed(0))
    # the extent of the voxels' centres is 2 + 0.5 * 7 / 8, and it fills nine tenths of the cube
    scale = 0.9 / (2 + 0.5 * 7 / 8)
    for view, pose in zip(views_of(grid), poses):
        for side in (-1.0, 1.0):
            centre = torch.tensor([[side * scale, 0.0, 0.0]])
            x, y, _ = to_pixels(to_camera(centre, pose), fov_intrinsics(math.radians(40)), size)[0]
            patch = view[int(y) - 5 : int(y) + 6, int(x) - 5 : int(x) + 6]
            assert patch.any(), "a block's voxels are dots, but some lie around its middle"
    pixels = grid.float().flatten(0, 1)
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        assert ((pixels[:, axis] > 4) & (pixels[:, others].amax(1) == 0)).any()


def test_a_scene_without_voxels_shows_the_axes():
    empty = torch.zeros(0, 3, dtype=torch.int32)
    for objects in ([], [empty]):
        grid = scene_preview(objects, 64, torch.eye(4).repeat(len(objects), 1, 1), size=160, ssaa=4)
        assert 20 < (grid.amax(-1) > 0).sum() < 1500


@pytest.mark.parametrize(
    ("objects", "placements", "message"),
    [
        ([cells((0, 0, 0), (1, 1, 1))], torch.eye(4), r"object_to_scene \(1, 4, 4\), got"),
        ([torch.zeros(2, 4).long()], torch.eye(4)[None], r"got \[\(2, 4\)\]"),
        ([cells((0, 0, 0), (1, 1, 1))], torch.eye(4)[None] * torch.nan, "got nan or inf"),
    ],
)
def test_bad_scenes_are_one_line(objects, placements, message):
    with pytest.raises(ValueError, match=f"scene_preview: .*{message}"):
        scene_preview(objects, 8, placements)


def test_bad_structures_are_one_line():
    with pytest.raises(ValueError, match=r"structure_preview: expected coords \(N, 3\), got \(5, 4\)"):
        structure_preview(torch.zeros(5, 4, dtype=torch.int32), 8)
    with pytest.raises(ValueError, match=r"must be in \[0, 8\), got \[0, 8\]"):
        structure_preview(torch.tensor([[0, 8, 0]]), 8)
