"""Octrees against closed forms and against a dense evaluation of every leaf on every ray."""

import math

import pytest
import torch

from trellis_modules.renderers import render_octree
from trellis_modules.renderers.cameras import (
    camera_rays,
    eye_positions,
    fov_intrinsics,
    multiview_cameras,
    orbit_extrinsics,
)
from trellis_modules.renderers.spherical_harmonics import rgb_to_sh, sh_to_rgb
from trellis_modules.representations.octree import OBJECT_AABB, OctreeNodes, VoxelOctree
from trellis_modules.representations.strivec import Strivec

SIZE, DISTANCE = 21, 2.0  # an odd size, no multiple of a tile, with a pixel in the middle
LENS = fov_intrinsics(math.radians(40))
FRONT = orbit_extrinsics(torch.zeros(1), torch.zeros(1), DISTANCE)
MIDDLE = SIZE // 2


def voxels(nodes, colour, hidden_density=None):
    return VoxelOctree(nodes, rgb_to_sh(torch.as_tensor(colour))[:, None], hidden_density)


def whole_cube():
    return OctreeNodes.from_coords(torch.zeros(1, 3, dtype=torch.int32), 1)


def mixed_octree(seed=0):
    """One of eight octants whole, the others of small voxels, a part of them missing."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.cartesian_prod(*[torch.arange(8)] * 3)
    small = small[(small >= 4).any(1)]
    small = small[torch.rand(len(small), generator=generator) < 0.5]
    position = torch.cat([torch.full((1, 3), 0.25), (small + 0.5) / 8])
    depth = torch.full((len(position), 1), 3, dtype=torch.uint8)
    depth[0] = 1
    nodes = OctreeNodes(position, depth, torch.tensor(OBJECT_AABB))
    colour = torch.rand(len(position), 3, generator=generator)
    return voxels(nodes, colour, 2 + 2 * torch.rand(len(position), 1, generator=generator))


def dense_reference(octree, extrinsics):
    """Colour of one view: all leaves on all rays, sorted by where the ray enters."""
    eye, rays = eye_positions(extrinsics), (camera_rays(LENS, SIZE) @ extrinsics[:3, :3]).reshape(-1, 1, 3)
    low = octree.nodes.xyz - octree.nodes.size / 2 - eye
    planes = torch.stack([low / rays, (low + octree.nodes.size) / rays])
    enter, leave = planes.amin(0).amax(-1), planes.amax(0).amin(-1)
    length = (leave - enter).clamp(min=0) * rays.norm(dim=-1)
    through = torch.exp(-length * octree.density[:, 0])
    order = enter.argsort(1)
    through = through.gather(1, order)
    colour = (0.5 + 0.28209479177387814 * octree.features_dc[:, 0]).clamp(min=0)[order]
    before = torch.cumprod(torch.cat([torch.ones_like(through[:, :1]), through[:, :-1]], 1), 1)
    return ((before * (1 - through))[..., None] * colour).sum(1).view(SIZE, SIZE, 3)


def test_a_solid_cube_is_opaque_with_its_front_half_a_unit_away():
    picture = render_octree(voxels(whole_cube(), [[0.2, 0.4, 0.6]]), FRONT, LENS, SIZE, background=(1, 1, 1))
    assert picture.alpha[0, MIDDLE, MIDDLE] == pytest.approx(0.999)
    seen = 0.999 * torch.tensor([0.2, 0.4, 0.6]) + 0.001
    torch.testing.assert_close(picture.colour[0, MIDDLE, MIDDLE], seen)
    assert picture.depth[0, MIDDLE, MIDDLE] == pytest.approx(1.5)
    # the front face subtends 0.5 / 1.5 on each side of the axis
    half = float(LENS[0, 0]) * SIZE / 3
    assert int((picture.alpha[0, MIDDLE] > 0).sum()) == round(2 * half)
    assert (picture.colour[0, 0, 0] == 1).all()


def test_absorption_grows_with_the_way_through_the_cube():
    hidden = torch.tensor([[2.5]])
    octree = voxels(whole_cube(), [[1.0, 1, 1]], hidden)
    picture = render_octree(octree, FRONT, LENS, SIZE)
    assert picture.alpha[0, MIDDLE, MIDDLE] == pytest.approx(1 - math.exp(-math.exp(0.5)), rel=1e-5)
    shortened = render_octree(octree, FRONT, LENS, SIZE, near=DISTANCE)
    assert shortened.alpha[0, MIDDLE, MIDDLE] == pytest.approx(1 - math.exp(-0.5 * math.exp(0.5)), rel=1e-5)


def test_leaves_of_different_sizes_agree_with_a_dense_evaluation():
    octree = mixed_octree()
    extrinsics, _ = multiview_cameras(4, radius=1.7, offset=(0.5, 0.05))
    picture = render_octree(octree, extrinsics, LENS, SIZE)
    for view in range(4):
        torch.testing.assert_close(
            picture.colour[view], dense_reference(octree, extrinsics[view]), rtol=1e-3, atol=3e-4
        )


def test_an_eye_inside_sees_all_around():
    extrinsics = orbit_extrinsics(torch.zeros(1), torch.zeros(1), 0.0)
    picture = render_octree(voxels(whole_cube(), [[1.0, 0, 0]]), extrinsics, LENS, SIZE)
    torch.testing.assert_close(picture.alpha, torch.full_like(picture.alpha, 0.999))


def test_local_tensors_of_one_value_are_voxels():
    octree = mixed_octree()
    count = len(octree.nodes)
    colour = sh_to_rgb(octree.features_dc).clamp(1e-4, 1 - 1e-4)
    constant = Strivec(
        octree.nodes,
        torch.ones(count, 2, 3, 5),
        octree.density.expm1().log().expand(count, 2) / 2,  # what softplus turns into the density
        rgb_to_sh(0.5 + colour.logit())[:, None].expand(count, 2, 1, 3) / 2,
    )
    ours, plain = (render_octree(tree, FRONT, LENS, SIZE) for tree in (constant, octree))
    torch.testing.assert_close(ours.colour, plain.colour, rtol=1e-4, atol=2e-4)
    torch.testing.assert_close(ours.depth, plain.depth, rtol=0.05, atol=0.05)  # it is sampled


def test_a_local_tensor_goes_on_as_a_line_outside_its_outer_values():
    # 1 and 2 at a quarter and three quarters of the edge: 0.5 and 2.5 on the faces
    trivec = torch.ones(1, 1, 3, 2)
    trivec[0, 0, 1] = torch.tensor([1.0, 2.0])  # along y, towards the camera of FRONT
    weight = 20.0  # softplus(x) is x where x is large
    field = Strivec(
        whole_cube(), trivec, torch.tensor([[weight]]), torch.zeros(1, 1, 1, 3), density_shift=0.95
    )
    samples = 4
    values = 0.5 + 2 * (torch.arange(samples) + 0.5) / samples
    density = torch.nn.functional.softplus(weight * values - 9.5, threshold=10) * 20
    picture = render_octree(field, FRONT, LENS, SIZE, samples=samples)
    hidden = (1 - torch.exp(-density / samples)).clamp(max=0.999).flip(0)  # the largest values are nearest
    before = torch.cumprod(torch.cat([torch.ones(1), 1 - hidden[:-1]]), 0)
    weights = hidden * before * (before >= 0.001)
    assert picture.alpha[0, MIDDLE, MIDDLE] == pytest.approx(float(weights.sum()), rel=1e-4)
    depth = 1.5 + (torch.arange(samples) + 0.5) / samples
    seen = float((weights * depth).sum() / weights.sum())
    assert picture.depth[0, MIDDLE, MIDDLE] == pytest.approx(seen, rel=1e-4)
    torch.testing.assert_close(picture.colour[0, MIDDLE, MIDDLE], 0.5 * weights.sum().expand(3))


def test_gradients_match_finite_differences():
    nodes = OctreeNodes.from_coords(
        torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 1]], dtype=torch.int32), 2, torch.float64
    )
    generator = torch.Generator().manual_seed(0)
    shapes = (3, 2, 3, 4), (3, 2), (3, 2, 1, 3)
    inputs = [torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    weight = torch.rand(1, 5, 5, 3, generator=generator, dtype=torch.float64)

    def loss(*parameters):
        picture = render_octree(Strivec(nodes, *parameters), FRONT, LENS, 5)
        return (picture.colour * weight).mean() + picture.alpha.mean()

    assert torch.autograd.gradcheck(loss, [tensor.requires_grad_() for tensor in inputs])


def test_no_leaves_are_background():
    empty = voxels(OctreeNodes.from_coords(torch.zeros(0, 3, dtype=torch.int32), 4), torch.zeros(0, 3))
    picture = render_octree(empty, FRONT, LENS, SIZE, background=(0, 1, 0))
    assert (picture.colour == torch.tensor([0.0, 1, 0])).all() and (picture.alpha == 0).all()
    assert render_octree(empty, FRONT[:0], LENS, SIZE).colour.shape == (0, SIZE, SIZE, 3)


@pytest.mark.parametrize("spoilt", [torch.nan, torch.inf])
def test_leaves_that_are_not_finite_are_left_out(spoilt):
    octree = mixed_octree()
    good = torch.arange(len(octree.nodes)) % 3 > 0
    kept = OctreeNodes(octree.nodes.position[good], octree.nodes.depth[good], octree.nodes.aabb)
    expected = render_octree(
        VoxelOctree(kept, octree.features_dc[good], octree.hidden_density[good]), FRONT, LENS, SIZE
    )
    octree.features_dc[~good] = spoilt
    torch.testing.assert_close(render_octree(octree, FRONT, LENS, SIZE).colour, expected.colour)
    field = Strivec(whole_cube(), torch.ones(1, 1, 3, 2) * spoilt, torch.ones(1, 1), torch.ones(1, 1, 1, 3))
    assert (render_octree(field, FRONT, LENS, SIZE).alpha == 0).all()


def test_a_density_beyond_the_largest_float_is_solid():
    colour = [[0.2, 0.4, 0.6]]
    dense, solid = (
        render_octree(voxels(whole_cube(), colour, hidden), FRONT, LENS, SIZE)
        for hidden in (torch.tensor([[1e5]]), None)
    )
    torch.testing.assert_close(dense.colour, solid.colour)
    torch.testing.assert_close(dense.depth, solid.depth)


def test_other_representations_are_refused():
    with pytest.raises(TypeError, match="expected a VoxelOctree or a Strivec, got OctreeNodes"):
        render_octree(whole_cube(), FRONT, LENS, SIZE)
