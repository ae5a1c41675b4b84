"""Gaussians against closed forms, a dense evaluation without tiles, and finite differences."""

import math
from dataclasses import replace

import pytest
import torch

from trellis_modules.backends import BackendUnavailable
from trellis_modules.quaternions import quaternion_to_matrix
from trellis_modules.renderers import render_gaussians
from trellis_modules.renderers.backends import GAUSSIAN_BACKENDS, tiles, torch_gaussian
from trellis_modules.renderers.cameras import fov_intrinsics, multiview_cameras, orbit_extrinsics
from trellis_modules.renderers.spherical_harmonics import rgb_to_sh
from trellis_modules.representations.gaussian import Gaussian, GaussianConfig

SIZE, KERNEL, DISTANCE = 32, 0.1, 2.0
LENS = fov_intrinsics(math.radians(40))
FRONT = orbit_extrinsics(torch.zeros(1), torch.zeros(1), DISTANCE)  # looks along -y


def gaussians(xyz, colour, scale, opacity, rotation=None):
    xyz = torch.as_tensor(xyz)
    rotation = torch.tensor([[1.0, 0, 0, 0]]).expand(len(xyz), 4) if rotation is None else rotation
    return Gaussian.from_values(
        GaussianConfig(),
        xyz=xyz,
        features_dc=rgb_to_sh(torch.as_tensor(colour))[:, None],
        scaling=torch.as_tensor(scale).expand(len(xyz), 3),
        rotation=rotation,
        opacity=torch.as_tensor(opacity)[:, None],
    )


def random_gaussians(count, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    xyz, colour, scale, opacity, rotation = (
        torch.rand(count, n, generator=generator) for n in (3, 3, 3, 1, 4)
    )
    return gaussians(xyz - 0.5, colour, 0.01 + 0.08 * scale, 0.1 + 0.8 * opacity[:, 0], rotation - 0.5).to(
        dtype
    )


def hidden_parameters(gaussian):
    return [
        gaussian.hidden_xyz,
        gaussian.features_dc,
        gaussian.hidden_scaling,
        gaussian.hidden_rotation,
        gaussian.hidden_opacity,
    ]


def dense_reference(gaussian, extrinsics, lens, size):
    """Colour, alpha-weighted depth and alpha of one view: all Gaussians at all pixels, in float64."""
    gaussian, extrinsics, lens = gaussian.to(torch.float64), extrinsics.double(), lens.double()
    camera = gaussian.xyz @ extrinsics[:3, :3].T + extrinsics[:3, 3]
    x, y, z = camera.unbind(1)
    focal = lens[0, 0] * size
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([focal / z, zero, -focal * x / z**2], 1),
            torch.stack([zero, focal / z, -focal * y / z**2], 1),
        ],
        dim=1,
    )
    axes = quaternion_to_matrix(gaussian.rotation) * gaussian.scaling[:, None]
    projected = jacobian @ extrinsics[:3, :3] @ axes
    sharp = projected @ projected.mT
    wide = sharp + KERNEL * torch.eye(2)
    opacity = gaussian.opacity[:, 0] * (sharp.det() / wide.det()).sqrt()
    centre = focal * camera[:, :2] / z[:, None] + size / 2
    axis = torch.arange(size) + 0.5
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 1, 2)
    offset = grid - centre  # (P, N, 2)
    power = -0.5 * torch.einsum("pni,nij,pnj->pn", offset, wide.inverse(), offset)
    alpha = (opacity * power.exp()).clamp(max=0.99)
    alpha = torch.where(alpha < 1 / 255, 0, alpha)[:, z.argsort()]
    weight = alpha * torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha[:, :-1]], 1), 1)
    colour = (0.5 + 0.28209479177387814 * gaussian.features[:, 0]).clamp(min=0)
    values = torch.cat([colour, z[:, None], torch.ones_like(z)[:, None]], 1)[z.argsort()]
    return (weight @ values).view(size, size, 5)


def test_one_gaussian_has_its_closed_form():
    std, opacity = 0.1, 0.8
    picture = render_gaussians(
        gaussians([[0.0, 0, 0]], [[1.0, 0.5, 0.25]], std, [opacity]), FRONT, LENS, SIZE
    )
    sharp = (float(LENS[0, 0]) * SIZE * std / DISTANCE) ** 2
    wide = sharp + KERNEL
    offset = torch.arange(SIZE) + 0.5 - SIZE / 2
    square = offset[:, None] ** 2 + offset**2
    expected = opacity * sharp / wide * torch.exp(-0.5 * square / wide)
    expected = torch.where(expected < 1 / 255, 0, expected)
    torch.testing.assert_close(picture.alpha[0], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(picture.colour[0, ..., 1], 0.5 * expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(picture.depth[0], torch.where(expected > 0, DISTANCE, 0.0))


@pytest.mark.parametrize("count", [7, 300])
def test_tiles_agree_with_a_dense_evaluation(count):
    gaussian = random_gaussians(count)
    extrinsics, lens = multiview_cameras(3, offset=(0.5, 0.1))
    size = 37  # no multiple of the tile
    picture = render_gaussians(gaussian, extrinsics, lens, size)
    for view in range(3):
        expected = dense_reference(gaussian, extrinsics[view], lens, size).float()
        # tiles are left at a transmittance of 1e-4
        torch.testing.assert_close(picture.colour[view], expected[..., :3], rtol=1e-3, atol=2e-4)
        torch.testing.assert_close(picture.alpha[view], expected[..., 4], rtol=1e-3, atol=2e-4)
        depth = expected[..., 3] / expected[..., 4].clamp(min=1e-9)
        torch.testing.assert_close(picture.depth[view], depth, rtol=1e-3, atol=1e-3)


def test_nearer_gaussian_covers_the_farther_one_whatever_the_order():
    near, far = [0.0, 0.3, 0], [0.0, -0.3, 0]  # the camera stands at +y
    red, blue = [1.0, 0, 0], [0, 0, 1.0]
    first = render_gaussians(gaussians([near, far], [red, blue], 0.3, [0.6, 0.9]), FRONT, LENS, SIZE)
    second = render_gaussians(gaussians([far, near], [blue, red], 0.3, [0.9, 0.6]), FRONT, LENS, SIZE)
    torch.testing.assert_close(first.colour, second.colour)
    red_part, _, blue_part = first.colour[0, SIZE // 2, SIZE // 2].tolist()
    assert red_part == pytest.approx(0.6, abs=0.02) and blue_part == pytest.approx(0.4 * 0.9, abs=0.02)


def test_gradients_match_finite_differences(monkeypatch):
    monkeypatch.setattr(torch_gaussian, "_MIN_ALPHA", 0.0001)  # makes the cut at the border small
    gaussian = random_gaussians(5, dtype=torch.float64)
    extrinsics, lens = multiview_cameras(2)
    weight = torch.randn(2, 12, 12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def loss(*hidden):
        picture = render_gaussians(Gaussian(gaussian.config, *hidden), extrinsics, lens, 12)
        stacked = torch.cat([picture.colour, picture.alpha[..., None], picture.depth[..., None] / 5], -1)
        return (stacked * weight).mean()

    hidden = [tensor.clone().requires_grad_() for tensor in hidden_parameters(gaussian)]
    assert torch.autograd.gradcheck(loss, hidden, eps=1e-6, atol=2e-5, rtol=2e-2)


def test_gradients_are_finite_where_nothing_is_drawn():
    """In the plane of the eye, and with an opacity that is 0 in float32."""
    hidden = random_gaussians(2)
    xyz = torch.tensor([[0.2, DISTANCE, 0.1], [0.0, 0, 0]]) + 0.5  # of the box
    leaves = [
        xyz.requires_grad_(),
        hidden.features_dc.requires_grad_(),
        hidden.hidden_scaling.requires_grad_(),
        hidden.hidden_rotation.requires_grad_(),
        torch.tensor([[1.0], [-200.0]]).requires_grad_(),
    ]
    picture = render_gaussians(Gaussian(GaussianConfig(), *leaves), FRONT, LENS, SIZE)
    assert (picture.alpha == 0).all()
    picture.colour.sum().backward()
    assert all(torch.equal(leaf.grad, torch.zeros_like(leaf)) for leaf in leaves)


def test_layers_and_chunks_do_not_matter(monkeypatch):
    gaussian = random_gaussians(200)
    extrinsics, lens = multiview_cameras(3)
    whole = render_gaussians(gaussian, extrinsics, lens, SIZE)
    monkeypatch.setitem(torch_gaussian._MAX_PROJECTIONS, "cpu", 1)
    monkeypatch.setitem(tiles._MAX_NUMBERS, "cpu", 1 << 12)
    monkeypatch.setattr(torch_gaussian, "_LAYERING", replace(torch_gaussian._LAYERING, depth=3))
    torch.testing.assert_close(render_gaussians(gaussian, extrinsics, lens, SIZE).colour, whole.colour)


def test_rectangular_pictures_are_parts_of_square_ones():
    gaussian = random_gaussians(60)
    extrinsics, lens = multiview_cameras(1)
    square = render_gaussians(gaussian, extrinsics, lens, 32)
    flat = lens.clone()
    flat[1, 1] *= 32 / 12
    rectangle = render_gaussians(gaussian, extrinsics, flat, (12, 32))
    # Gaussians outside a picture are projected as if they lay in its margin, which is nearer here
    torch.testing.assert_close(rectangle.colour, square.colour[:, 10:22], rtol=0, atol=5e-3)
    torch.testing.assert_close(rectangle.colour[:, 2:10], square.colour[:, 12:20], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("background", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)])
def test_nothing_in_sight_is_background(background):
    out_of_sight = gaussians([[0.0, 5, 0]], [[1.0, 1, 1]], 0.01, [0.9])
    not_finite = gaussians([[0.0, float("nan"), 0]], [[1.0, 1, 1]], 0.01, [0.9])
    for gaussian in (random_gaussians(0), out_of_sight, not_finite):
        picture = render_gaussians(gaussian, FRONT, LENS, SIZE, background=background)
        assert (picture.colour == torch.tensor(background)).all()
        assert (picture.alpha == 0).all() and (picture.depth == 0).all()


@pytest.mark.parametrize("name", ["hidden_xyz", "features_dc", "hidden_scaling", "hidden_rotation"])
def test_gaussians_that_are_not_finite_are_left_out(name):
    gaussian = random_gaussians(30)
    good = torch.arange(30) % 3 > 0
    hidden = hidden_parameters(gaussian)
    expected = render_gaussians(
        Gaussian(gaussian.config, *(part[good] for part in hidden)), FRONT, LENS, SIZE
    )
    for spoilt in (torch.nan, torch.inf):
        getattr(gaussian, name)[~good] = spoilt
        leaves = [part.clone().requires_grad_() for part in hidden]
        picture = render_gaussians(Gaussian(gaussian.config, *leaves), FRONT, LENS, SIZE)
        torch.testing.assert_close(picture.colour, expected.colour)
        picture.colour.sum().backward()
        assert all((leaf.grad[~good] == 0).all() and leaf.grad.isfinite().all() for leaf in leaves)


def test_background_shows_through():
    gaussian = gaussians([[0.0, 0, 0]], [[0.0, 0, 0]], 0.3, [0.5])
    black, white = (
        render_gaussians(gaussian, FRONT, LENS, SIZE, background=b) for b in ((0, 0, 0), (1, 1, 1))
    )
    torch.testing.assert_close(
        white.colour - black.colour, (1 - black.alpha)[..., None].expand(1, SIZE, SIZE, 3)
    )


def test_near_and_far_cut_by_depth():
    gaussian = gaussians([[0.0, 0.4, 0], [0.0, -0.4, 0]], [[1.0, 0, 0], [0, 1.0, 0]], 0.1, [0.9, 0.9])
    only_far = render_gaussians(gaussian, FRONT, LENS, SIZE, near=DISTANCE).colour
    only_near = render_gaussians(gaussian, FRONT, LENS, SIZE, far=DISTANCE).colour
    assert only_far[..., 0].max() == 0 < only_far[..., 1].max()
    assert only_near[..., 1].max() == 0 < only_near[..., 0].max()


def test_supersampling_keeps_the_picture_of_a_wide_gaussian():
    gaussian = gaussians([[0.0, 0, 0]], [[1.0, 1, 1]], 0.2, [0.8])
    plain, fine = (render_gaussians(gaussian, FRONT, LENS, SIZE, ssaa=s).alpha for s in (1, 3))
    assert fine.shape == plain.shape
    torch.testing.assert_close(fine, plain, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near": 2.0, "far": 1.0}, "near 2.0, far 1.0"),
        ({"kernel_size": -0.1}, "kernel_size >= 0, got -0.1"),
        ({"kernel_size": math.nan}, "kernel_size >= 0, got nan"),
        ({"ssaa": 0}, "ssaa >= 1 .* got 0"),
        ({"backend": "cubes"}, "unknown backend 'cubes'"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        render_gaussians(random_gaussians(1), FRONT, LENS, SIZE, **options)


def test_cameras_need_a_leading_axis():
    with pytest.raises(ValueError, match="add a leading axis"):
        render_gaussians(random_gaussians(1), FRONT[0], LENS, SIZE)


def test_gsplat_is_refused_without_a_gpu():
    with pytest.raises(BackendUnavailable, match="does not take"):
        render_gaussians(random_gaussians(1), FRONT, LENS, SIZE, backend="gsplat")


@pytest.mark.gpu
@pytest.mark.skipif(
    "gsplat" not in GAUSSIAN_BACKENDS.available("cuda") or not torch.cuda.is_available(),
    reason="needs an NVIDIA GPU and the package gsplat",
)
def test_gsplat_agrees_with_the_reference_in_both_directions():
    gaussian = random_gaussians(500).to("cuda")
    extrinsics, lens = multiview_cameras(3)
    weight = torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(1)).cuda()
    results = []
    for name in ("torch", "gsplat"):
        leaves = [leaf.clone().requires_grad_() for leaf in hidden_parameters(gaussian)]
        picture = render_gaussians(Gaussian(gaussian.config, *leaves), extrinsics, lens, 64, backend=name)
        results.append((picture, torch.autograd.grad((picture.colour * weight).sum(), leaves)))
    (ours, our_gradients), (theirs, their_gradients) = results
    # it stops at a transmittance of 1e-4 and limits alpha at 0.999 instead of 0.99
    torch.testing.assert_close(theirs.colour, ours.colour, rtol=0, atol=1e-3)
    torch.testing.assert_close(theirs.alpha, ours.alpha, rtol=0, atol=1e-3)
    for actual, expected in zip(their_gradients, our_gradients):
        # both leave out what adds less than 1/255 to a pixel, not always the same
        assert torch.cosine_similarity(actual.flatten(), expected.flatten(), dim=0) > 0.999
    nothing = render_gaussians(random_gaussians(0).to("cuda"), extrinsics, lens, 64, backend="gsplat")
    assert (nothing.colour == 0).all() and nothing.colour.shape == (3, 64, 64, 3)
