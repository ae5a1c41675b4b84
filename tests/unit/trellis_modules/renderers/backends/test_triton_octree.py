"""The Triton kernels against the PyTorch renderer, on a GPU or in Triton's interpreter on the CPU."""

import os
import re
import subprocess
import sys

import pytest
import torch

from tests.unit.trellis_modules.renderers.octree_scenes import (
    LENS,
    cameras,
    draw_and_differentiate,
    field_parameters,
    mixed_nodes,
    octree_of,
    voxel_parameters,
)
from trellis_modules.backends import BackendUnavailable
from trellis_modules.renderers import render_octree
from trellis_modules.renderers.backends import OCTREE_BACKENDS
from trellis_modules.representations.octree import OctreeNodes, VoxelOctree

TRITON = OCTREE_BACKENDS.backends["triton"]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
# numpy evaluates the kernels a hundred thousand times slower than a GPU does; of its few rows none runs along
# the plane between two layers of leaves
SIZE, RESOLUTION = ((37, 45), 8) if DEVICE == "cuda" else ((6, 7), 4)
VIEWS = 2 if DEVICE == "cuda" else 1
# few rays, as rounding decides whether a sample at the face of a leaf is inside
COMB_SIZE = (16, 16) if DEVICE == "cuda" else SIZE

on_kernels = pytest.mark.skipif(
    not INTERPRETED and DEVICE == "cpu", reason="needs a GPU, or Triton with TRITON_INTERPRET=1"
)

on_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="needs an NVIDIA GPU")


@pytest.fixture
def registry(monkeypatch):
    """Where the interpreter stands for a GPU, the registry gives the kernels to the CPU."""
    if DEVICE == "cpu":
        monkeypatch.setitem(OCTREE_BACKENDS._selected, ("triton", "cpu", torch.float32, "run"), TRITON.load())


def nodes(share=0.5):
    leaves = mixed_nodes(RESOLUTION, share)
    return OctreeNodes(*(tensor.to(DEVICE) for tensor in (leaves.position, leaves.depth, leaves.aabb)))


def away_from_edges(octree, views):
    """Pixels (V, H, W) whose rays meet the same leaves if they are moved a little.

    A solid leaf hides all, however short a ray's way through it is. Whether a ray that touches an edge meets
    the leaf at all is a matter of rounding, in which the backends differ by some 1e-7 of the picture's size.
    """

    def draw(lens):
        return render_octree(octree, cameras(views), lens, SIZE, backend="torch")

    picture, same = draw(LENS), True
    for right, down in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        lens = LENS.clone()
        lens[:2, 2] += 3e-6 * torch.tensor([right, down])
        other = draw(lens)
        for one, two in ((picture.colour, other.colour), (picture.alpha[..., None], other.alpha[..., None])):
            same &= (one - two).abs().amax(-1) < 1e-4
    return same


def assert_alike(leaves, parameters, representation=None, views=VIEWS, size=SIZE, counted=None, **options):
    """Pictures and gradients of the two backends, of the pixels (V, H, W) that are counted."""
    if counted is None:
        counted = torch.ones(views, *size, dtype=torch.bool, device=DEVICE)
    parameters = {name: value.to(DEVICE) for name, value in parameters.items()}
    octree = octree_of(leaves, parameters, **(representation or {}))
    (ours, by_ours), (reference, by_reference) = (
        draw_and_differentiate(
            octree, parameters, cameras(views), size, counted=counted, backend=backend, **options
        )
        for backend in ("triton", "torch")
    )
    for name in ("colour", "alpha", "percent_depth"):
        one, other = (getattr(picture, name) for picture in (ours, reference))
        torch.testing.assert_close(one[counted], other[counted], rtol=1e-4, atol=5e-5)
    depths = ((picture.depth * picture.alpha)[counted] for picture in (ours, reference))
    torch.testing.assert_close(*depths, rtol=1e-4, atol=1e-4)
    for name, gradient in by_reference.items():
        # sums over many samples in another order; relative to the largest entry
        scale = float(gradient.abs().max()) if gradient.numel() else 0.0
        torch.testing.assert_close(by_ours[name], gradient, rtol=1e-3, atol=1e-5 + 2e-5 * scale)


@pytest.mark.gpu
@on_kernels
@pytest.mark.parametrize("degree", [0, 2])
def test_voxels(registry, degree):
    leaves = nodes()
    assert_alike(leaves, voxel_parameters(leaves, degree), views=2)


@pytest.mark.gpu
@on_kernels
def test_solid_voxels(registry):
    leaves, colours = nodes(), torch.rand(len(nodes()), 3, generator=torch.Generator().manual_seed(4))
    counted = away_from_edges(VoxelOctree(leaves, leaf_colours=colours.to(DEVICE)), VIEWS)
    assert counted.float().mean() > 0.99
    assert_alike(leaves, {"leaf_colours": colours}, counted=counted)


@pytest.mark.gpu
@on_kernels
@pytest.mark.parametrize(
    "case", ["evenly spread", "on the comb", "harmonics, part of the components", "final colours"]
)
def test_fields(registry, case):
    leaves = nodes(0.15 if DEVICE == "cpu" else 0.5)
    values = field_parameters(leaves, degree=1 if case.startswith("harmonics") else 0)
    options, representation = {"samples": 3}, {}
    if case == "on the comb":
        offsets = torch.rand(1, *COMB_SIZE, generator=torch.Generator().manual_seed(0))
        options = {"offsets": offsets, "views": 1, "size": COMB_SIZE}
    elif case.startswith("harmonics"):
        representation = {"used_rank": 2, "density_shift": 0.3}
    elif case == "final colours":
        del values["features_dc"]
        values["leaf_colours"] = torch.rand(len(leaves), 3)
    assert_alike(leaves, values, representation, **options)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize(("rank", "dim"), [(16, 8), (5, 3), (48, 8), (20, 30)])
def test_fields_of_other_sizes(rank, dim):
    leaves = nodes()
    assert_alike(leaves, field_parameters(leaves, rank, dim))


@pytest.mark.gpu
@on_kernels
def test_empty_views_and_octrees(registry):
    leaves = nodes()
    empty = OctreeNodes(leaves.position[:0], leaves.depth[:0], leaves.aabb)
    for subject in (empty, leaves):
        octree = VoxelOctree(subject, leaf_colours=torch.rand(len(subject), 3, device=DEVICE))
        away = cameras(1)
        away[:, 1:3] *= -1  # looks the other way
        picture = render_octree(octree, away, LENS, SIZE, background=(0, 1, 0), backend="triton")
        assert (picture.colour.cpu() == torch.tensor([0.0, 1, 0])).all()
        assert render_octree(octree, away[:0], LENS, SIZE, backend="triton").colour.shape == (0, *SIZE, 3)


@pytest.mark.gpu
@on_kernels
@pytest.mark.parametrize(("rank", "dim"), [(65, 4), (4, 65)])
def test_sizes_for_which_registers_do_not_suffice_are_refused(registry, rank, dim):
    leaves = nodes(0.05)
    values = {name: value.to(DEVICE) for name, value in field_parameters(leaves, rank, dim).items()}
    with pytest.raises(BackendUnavailable, match=rf"at most 64 .*got rank {rank} and dim {dim}; choose"):
        render_octree(octree_of(leaves, values), cameras(1), LENS, SIZE, backend="triton")


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED or not TRITON.installed(), reason="needs the package triton")
def test_the_kernels_in_the_interpreter():
    # in a process of its own: Triton reads the variable when it is imported
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stdout[-4000:]
    # all but the tests that need a GPU
    assert re.search(r"\b10 passed", result.stdout), result.stdout[-4000:]


@pytest.mark.gpu
@on_gpu
def test_triton_is_the_default_on_a_gpu():
    assert OCTREE_BACKENDS.available("cuda")[0] == "triton"
    assert OCTREE_BACKENDS.available("cuda", torch.float64) == ["torch"]


@pytest.mark.skipif(INTERPRETED, reason="there the CPU stands for a GPU")
def test_the_cpu_is_refused():
    leaves = mixed_nodes(RESOLUTION)
    octree = VoxelOctree(leaves, leaf_colours=torch.rand(len(leaves), 3))
    with pytest.raises(BackendUnavailable, match="'triton' does not take torch.float32 on cpu"):
        render_octree(octree, cameras(1), LENS, SIZE, backend="triton")
