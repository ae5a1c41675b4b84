"""The package diffoctreerast against the PyTorch renderer, and what its backend refuses to draw."""

import importlib.util
import math
import sys
from types import ModuleType

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
from trellis_modules.renderers.backends import OCTREE_BACKENDS, RaySamples, torch_octree
from trellis_modules.renderers.cameras import (
    Cameras,
    camera_rays,
    fov_intrinsics,
    orbit_extrinsics,
    to_camera,
)
from trellis_modules.representations.octree import OctreeNodes, VoxelOctree
from trellis_modules.representations.strivec import Strivec

PACKAGE = OCTREE_BACKENDS.backends["diffoctreerast"]
SIZE = (40, 56)
SMALL = (16, 24)  # few rays, as rounding decides whether a sample at the face of a leaf is inside

on_package = pytest.mark.skipif(
    not (torch.cuda.is_available() and PACKAGE.installed()),
    reason="needs an NVIDIA GPU and the package diffoctreerast",
)


def on_device(nodes, device="cuda"):
    return OctreeNodes(nodes.position.to(device), nodes.depth.to(device), nodes.aabb.to(device))


def small_leaves(device="cuda"):
    """Leaves of one size, of whose radiance fields the package knows the gradients."""
    nodes = mixed_nodes()
    return on_device(OctreeNodes(nodes.position[1:], nodes.depth[1:], nodes.aabb), device)


def assert_alike(octree, parameters, unlike=(), size=SIZE, views=2, **options):
    """Pictures and gradients of the package and of the PyTorch renderer."""
    (ours, by_ours), (reference, by_reference) = (
        draw_and_differentiate(octree, parameters, cameras(views), size, backend=backend, **options)
        for backend in ("diffoctreerast", "torch")
    )
    # as far as the package's own arithmetic is from an evaluation in float64
    torch.testing.assert_close(ours.colour, reference.colour, rtol=1e-4, atol=2e-4)
    torch.testing.assert_close(ours.alpha, reference.alpha, rtol=1e-4, atol=2e-4)
    if "depth" not in unlike:
        torch.testing.assert_close(
            ours.depth * ours.alpha, reference.depth * reference.alpha, rtol=1e-4, atol=6e-4
        )
    for name, gradient in by_reference.items():
        if name not in unlike:
            scale = float(gradient.abs().max())
            torch.testing.assert_close(by_ours[name], gradient, rtol=2e-3, atol=2e-3 * scale)


@pytest.mark.gpu
@on_package
@pytest.mark.parametrize("degree", [0, 2])
def test_voxels(degree):
    nodes = on_device(mixed_nodes())
    parameters = {name: value.cuda() for name, value in voxel_parameters(nodes, degree).items()}
    # its depth is that of the leaves' centres, which densities do not move
    assert_alike(octree_of(nodes, parameters), parameters, unlike=("depth", "hidden_density"))


@pytest.mark.gpu
@on_package
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_fields(degree):
    nodes = small_leaves()
    parameters = {name: value.cuda() for name, value in field_parameters(nodes, degree=degree).items()}
    octree = octree_of(nodes, parameters, used_rank=2, density_shift=0.3)
    offsets = torch.rand(1, *SMALL, generator=torch.Generator().manual_seed(0))
    assert_alike(octree, parameters, size=SMALL, views=1, offsets=offsets)


@pytest.mark.gpu
@on_package
def test_final_colours_of_a_field_are_drawn_without_gradients():
    nodes = small_leaves()
    values = {name: value.cuda() for name, value in field_parameters(nodes).items()}
    values["features_dc"], values["leaf_colours"] = None, torch.rand(len(nodes), 3, device="cuda")
    field, offsets = octree_of(nodes, values), torch.full((1, *SMALL), 0.3)
    ours, reference = (
        render_octree(field, cameras(1), LENS, SMALL, offsets=offsets, backend=backend).colour
        for backend in ("diffoctreerast", "torch")
    )
    # Where a sample lies just on the face of a leaf, rounding decides whether it counts: a few pixels of 384.
    differs = ~torch.isclose(ours, reference, rtol=1e-4, atol=2e-4).all(dim=-1)
    assert differs.float().mean() < 0.02 and (ours - reference).abs().max() < 0.1


@pytest.mark.gpu
@on_package
def test_pictures_without_offsets_are_the_same_every_time():
    nodes = small_leaves()
    parameters = {name: value.cuda() for name, value in field_parameters(nodes).items()}
    field = octree_of(nodes, parameters)
    first, second = (render_octree(field, cameras(1), LENS, SIZE, backend="diffoctreerast") for _ in range(2))
    assert torch.equal(first.colour, second.colour)
    assert (first.colour - render_octree(field, cameras(1), LENS, SIZE).colour).abs().mean() < 0.02


@pytest.mark.gpu
@on_package
def test_empty_views_show_the_background():
    nodes = small_leaves()
    octree = VoxelOctree(nodes, leaf_colours=torch.rand(len(nodes), 3, device="cuda", requires_grad=True))
    away = cameras(1)
    away[:, 1:3] *= -1
    picture = render_octree(octree, away, LENS, SIZE, background=(0, 1, 0), backend="diffoctreerast")
    assert (picture.colour.cpu() == torch.tensor([0.0, 1, 0])).all()
    picture.colour.sum().backward()
    assert (octree.leaf_colours.grad == 0).all()


@pytest.mark.gpu
@on_package
def test_doubles_are_refused():
    nodes = small_leaves()
    double = OctreeNodes(nodes.position.double(), nodes.depth, nodes.aabb.double())
    octree = VoxelOctree(double, leaf_colours=torch.rand(len(nodes), 3, device="cuda").double())
    with pytest.raises(BackendUnavailable, match="does not take torch.float64 on cuda"):
        render_octree(octree, cameras(1), LENS, SIZE, backend="diffoctreerast")


def draw_nothing(*_):
    raise AssertionError("the picture was to be refused")


def draw_field_wrongly(
    positions, trivecs, densities, shs, colours, depths, aabb, places, final_colours, settings
):
    """The package's function for radiance fields, by PyTorch: its pictures, and its error in the gradient.

    The gradient by depth is that of the distance along the ray; what lies behind a sample is too little by
    D * (1 - cos), as the real package's gradients show.
    """
    assert shs.shape == (*densities.shape, 1, 3), "coefficients have to be there, final colours or not"
    assert colours.shape == (0,) and (places[..., :2] == 0.5).all()
    lens = torch.tensor([[0.5 / settings.tanfovx, 0, 0.5], [0, 0.5 / settings.tanfovy, 0.5], [0, 0, 1]])
    size = settings.image_height, settings.image_width
    view = Cameras.of("draw", settings.viewmatrix.T[None], lens, size, 1e-4, float("inf"), positions)
    field = Strivec(
        OctreeNodes(positions, depths, aabb),
        trivecs,
        densities,
        features_dc=None if len(final_colours) else shs,
        leaf_colours=final_colours if len(final_colours) else None,
        used_rank=settings.used_rank,
        density_shift=settings.density_shift,
    )
    picture = torch_octree.run(field, view, RaySamples(1, places[None, ..., 2]))
    alpha, depth, cosine = picture.alpha[0], picture.depth[0], 1 / camera_rays(lens, size).norm(dim=-1)
    wrong = depth / cosine - (depth / cosine - depth).detach() * torch.log1p(-alpha)
    depth = depth.detach() + (wrong - wrong.detach())
    return picture.colour[0].permute(2, 0, 1), depth, alpha, picture.percent_depth[0]


@pytest.fixture
def run(request, monkeypatch):
    """The backend's entry point on modules in the package's place; only a test's own function draws."""
    draw_field = getattr(request, "param", draw_nothing)
    parts = {
        "diffoctreerast": {},
        "diffoctreerast.octree_trivec_rasterizer": {"rasterize_octree_trivec": draw_field},
        "diffoctreerast.octree_voxel_rasterizer": {"rasterize_octree_voxel": draw_nothing},
    }
    for name, functions in parts.items():
        module = ModuleType(name)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)
    # the adapter is loaded from its file, so that no later import finds one without a package
    spec = importlib.util.find_spec(PACKAGE.module)
    adapter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(adapter)
    return adapter.run


def camera(pose=None, size=SIZE, lens=LENS, near=1e-4, far=float("inf"), views=1):
    pose = cameras(views) if pose is None else pose
    return Cameras.of("draw", pose, lens, size, near, far, torch.zeros(1))


def off_centre():
    lens = LENS.clone()
    lens[0, 2] = 0.4
    return lens


@pytest.mark.parametrize(
    ("subject", "pictures", "message"),
    [
        ({"rank": 55, "dim": 8}, {}, "<= 6116, got rank 55 and dim 8: 6160"),
        ({}, {"size": (40, 57)}, "multiples of 8 pixels, got 40 x 57"),
        ({}, {"lens": off_centre()}, r"in the middle only, got \[0.4"),
        ({}, {"near": 1.5}, "got near 1.5 and far inf, which cut"),
        ({}, {"far": 1.7}, "does not cut leaves"),
        ({}, {"pose": orbit_extrinsics(torch.zeros(1), torch.zeros(1), 0.3)}, "leaves around the eye"),
        ({"grad": True, "mixed": True}, {}, "one leaf size only"),
        ({"grad": True, "final": True}, {}, "does not differentiate radiance fields with leaf_colours"),
    ],
)
def test_what_it_would_draw_otherwise_is_refused(run, subject, pictures, message):
    nodes = mixed_nodes() if subject.get("mixed") else small_leaves("cpu")
    values = field_parameters(nodes, subject.get("rank", 3), subject.get("dim", 4))
    if subject.get("final"):
        values["features_dc"], values["leaf_colours"] = None, torch.rand(len(nodes), 3)
    if subject.get("grad"):
        values["density"].requires_grad_()
    with pytest.raises(BackendUnavailable, match=f"'diffoctreerast' .*{message}.*; choose another") as error:
        run(octree_of(nodes, values), camera(**pictures), RaySamples(8))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("views", [1, 2, 5])
@pytest.mark.parametrize("shape", ["mixed", "small"])
def test_leaves_that_depths_cut_are_counted_over_all_views(run, views, shape):
    nodes = mixed_nodes() if shape == "mixed" else small_leaves("cpu")
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
    corners = nodes.xyz[:, None] + corners * nodes.size[:, None]
    depth = to_camera(corners.flatten(0, 1), cameras(views))[..., 2].unflatten(1, (-1, 8))
    assert ((depth - 1.7321).abs() > 1e-5).all()
    # all are in the picture; those that are farther as a whole are not seen, so nothing is cut of them
    cut = int(((depth.amin(-1) < 1.7321) & (depth.amax(-1) > 1.7321)).sum())
    octree = VoxelOctree(nodes, leaf_colours=torch.rand(len(nodes), 3))
    with pytest.raises(BackendUnavailable, match=rf"near 0.0001 and far 1.7321, which cut {cut};"):
        run(octree, camera(views=views, far=1.7321, lens=fov_intrinsics(math.pi / 2)), RaySamples(1))


@pytest.mark.parametrize("run", [draw_field_wrongly], indirect=True)
def test_gradients_of_depth_are_put_right(run):
    nodes, views, weight = small_leaves("cpu"), camera(size=SMALL, views=2), torch.Generator().manual_seed(5)
    parameters = field_parameters(nodes)
    leaves = {name: value.requires_grad_() for name, value in parameters.items()}
    field = octree_of(nodes, leaves, used_rank=2, density_shift=0.3)
    samples = RaySamples(8, torch.rand(2, *SMALL, generator=weight))
    weight = torch.randn(2, *SMALL, generator=weight)
    ours, reference = (draw(field, views, samples) for draw in (run, torch_octree.run))
    torch.testing.assert_close(ours.depth, reference.depth, rtol=0, atol=1e-6)
    chosen = [leaves["trivec"], leaves["density"]]
    by_ours, by_reference = (
        torch.autograd.grad((weight * drawn.depth).sum(), chosen) for drawn in (ours, reference)
    )
    for one, other in zip(by_ours, by_reference):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize("run", [draw_field_wrongly], indirect=True)
def test_coefficients_go_along_with_final_colours(run):
    nodes, views = small_leaves("cpu"), camera(size=SMALL)
    values = field_parameters(nodes)
    values["features_dc"], values["leaf_colours"] = None, torch.rand(len(nodes), 3)
    field, samples = octree_of(nodes, values), RaySamples(8, torch.full((1, *SMALL), 0.3))
    ours, reference = (draw(field, views, samples).colour for draw in (run, torch_octree.run))
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-6)


@pytest.mark.skipif(PACKAGE.installed(), reason="the package diffoctreerast is installed")
def test_the_missing_package_is_one_line():
    with pytest.raises(BackendUnavailable, match="package 'diffoctreerast' does not import"):
        PACKAGE.load()


def test_the_cpu_is_refused():
    nodes = mixed_nodes()
    octree = VoxelOctree(nodes, leaf_colours=torch.rand(len(nodes), 3))
    with pytest.raises(BackendUnavailable, match="'diffoctreerast' does not take torch.float32 on cpu"):
        render_octree(octree, cameras(1), LENS, SIZE, backend="diffoctreerast")
