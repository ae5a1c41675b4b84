"""Meshes against the sphere's closed forms, and rasterisers against each other."""

import math

import pytest
import torch
import trimesh

from trellis_modules.backends import BackendUnavailable
from trellis_modules.renderers import count_views_of_faces, render_mesh, visible_faces
from trellis_modules.renderers.backends import MESH_BACKENDS
from trellis_modules.renderers.cameras import (
    camera_rays,
    eye_positions,
    fov_intrinsics,
    multiview_cameras,
    orbit_extrinsics,
)

SIZE, DISTANCE, RADIUS = 64, 2.0, 0.4
LENS = fov_intrinsics(math.radians(40))
FRONT = orbit_extrinsics(torch.zeros(1), torch.zeros(1), DISTANCE)
BACKENDS = MESH_BACKENDS.available("cpu")


def sphere(subdivisions=4):
    mesh = trimesh.creation.icosphere(subdivisions, radius=RADIUS)
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)


def torus():
    mesh = trimesh.creation.torus(0.3, 0.1, major_sections=40, minor_sections=20)
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)


def square(y=0.0, half=0.3):
    """A square across the viewing axis of ``FRONT``, seen counter-clockwise by it."""
    corners = [[half, y, -half], [-half, y, -half], [-half, y, half], [half, y, half]]
    return torch.tensor(corners), torch.tensor([[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_sphere_has_its_depth_normals_and_outline(backend):
    extrinsics, lens = multiview_cameras(3, offset=(0.5, 0.2))
    picture = render_mesh(*sphere(5), extrinsics, lens, SIZE, backend=backend)
    rays = torch.einsum("hwi,vij->vhwj", camera_rays(lens, SIZE), extrinsics[:, :3, :3])
    eye = eye_positions(extrinsics)[:, None, None]
    # |eye + t * ray| = radius
    half_b, c = (rays * eye).sum(-1), DISTANCE**2 - RADIUS**2
    square_root = half_b**2 - rays.square().sum(-1) * c
    hit = square_root > 0
    assert ((picture.alpha > 0) != hit).float().mean() < 2e-3
    both = hit & (picture.alpha > 0) & (square_root > 0.05)  # away from the outline
    depth = (-half_b - square_root.clamp(min=0).sqrt()) / rays.square().sum(-1)
    assert both.float().mean() > 0.1
    torch.testing.assert_close(picture.depth[both], depth[both], rtol=0, atol=1e-3)
    normal = torch.nn.functional.normalize(eye + depth[..., None] * rays, dim=-1)
    assert (normal * picture.normal).sum(-1)[both].min() > 0.995
    half_angle = math.asin(RADIUS / DISTANCE)
    area = math.pi * (float(lens[0, 0]) * SIZE * math.tan(half_angle)) ** 2
    assert float(picture.alpha[0].sum()) == pytest.approx(area, rel=0.01)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rectangular_pictures_are_parts_of_square_ones(backend):
    vertices, faces = torus()
    extrinsics, lens = multiview_cameras(2, offset=(0.5, 0.3))
    flat = lens.clone()
    flat[1, 1] *= SIZE / 20
    square, rectangle = (
        render_mesh(vertices, faces, extrinsics, view, size, vertex_attributes=vertices, backend=backend)
        for view, size in ((lens, SIZE), (flat, (20, SIZE)))
    )
    assert rectangle.face.shape == (2, 20, SIZE)
    middle = slice((SIZE - 20) // 2, (SIZE + 20) // 2)
    alike = rectangle.face == square.face[:, middle]
    assert alike.float().mean() > 0.995  # rounding decides at the edges of faces
    torch.testing.assert_close(rectangle.depth[alike], square.depth[:, middle][alike], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_attributes_are_interpolated_in_perspective(backend):
    vertices, faces = torus()
    extrinsics, lens = multiview_cameras(2, offset=(0.5, 0.3))
    picture = render_mesh(
        vertices, faces, extrinsics, lens, SIZE, vertex_attributes=vertices, backend=backend
    )
    camera = camera_rays(lens, SIZE) * picture.depth[..., None]
    world = (camera.flatten(1, 2) - extrinsics[:, None, :3, 3]) @ extrinsics[:, :3, :3]
    hit = picture.face.flatten(1) >= 0
    assert hit.float().mean() > 0.05
    torch.testing.assert_close(picture.attributes.flatten(1, 2)[hit], world[hit], rtol=0, atol=1e-5)
    torch.testing.assert_close(picture.colour, picture.attributes)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "torch"])
def test_rasterisers_agree(backend):
    vertices, faces = torus()
    extrinsics, lens = multiview_cameras(4)
    seen = {
        name: visible_faces(vertices, faces, extrinsics, lens, 128, backend=name)
        for name in (backend, "torch")
    }
    assert (seen[backend] != seen["torch"]).float().mean() < 1e-3  # pixel centres on edges


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_gpu_rasterisers_agree_with_the_cpu():
    vertices, faces = torus()
    extrinsics, lens = multiview_cameras(4)
    expected = visible_faces(vertices, faces, extrinsics, lens, 128, backend="torch")
    for name in MESH_BACKENDS.available("cuda"):
        seen = visible_faces(vertices.cuda(), faces.cuda(), extrinsics, lens, 128, backend=name)
        assert (seen.cpu() != expected).float().mean() < 2e-3, name


@pytest.mark.parametrize("backend", BACKENDS)
def test_near_and_far_planes_cut_faces_where_they_cross(backend):
    # a floor that starts behind the camera: without clipping it would vanish or fold over
    vertices = torch.tensor([[-5.0, 5, -0.2], [5, 5, -0.2], [5, -5, -0.2], [-5, -5, -0.2]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    picture = render_mesh(vertices, faces, FRONT, LENS, SIZE, near=1.0, far=3.0, backend=backend)
    ray = camera_rays(LENS, SIZE)
    depth = 0.2 / ray[..., 1].clamp(min=1e-6)
    expected = torch.where((depth > 1.0) & (depth < 3.0), depth, 0)
    assert (expected > 0).float().mean() > 0.1
    torch.testing.assert_close(picture.depth[0], expected, rtol=1e-4, atol=1e-4)


def test_a_backside_is_visible_and_its_normal_points_away():
    vertices, faces = square()
    for order, sign in ((faces, 1.0), (faces.flip(1), -1.0)):
        picture = render_mesh(vertices, order, FRONT, LENS, SIZE)
        assert picture.normal[0, SIZE // 2, SIZE // 2].tolist() == pytest.approx([0, sign, 0])


def test_supersampling_smooths_the_outline_and_keeps_depth():
    vertices, faces = sphere()
    plain, fine = (render_mesh(vertices, faces, FRONT, LENS, SIZE, ssaa=s) for s in (1, 4))
    partly = (fine.alpha > 0.01) & (fine.alpha < 0.99)
    assert not ((plain.alpha > 0) & (plain.alpha < 1)).any() and partly.any()
    assert float(fine.alpha.sum()) == pytest.approx(float(plain.alpha.sum()), rel=0.02)
    assert fine.depth[partly].min() > DISTANCE - RADIUS  # not mixed with the background's zero
    assert fine.face.shape == plain.face.shape and (fine.face >= 0).float().mean() > 0.1


def test_background_fills_what_the_mesh_leaves():
    vertices, faces = square()
    red = torch.tensor([[1.0, 0, 0]]).expand(4, 3)
    picture = render_mesh(
        vertices, faces, FRONT, LENS, SIZE, vertex_attributes=red, background=(0, 0, 1), ssaa=3
    )
    expected = picture.alpha[..., None] * torch.tensor([1.0, 0, 0])
    expected = expected + (1 - picture.alpha)[..., None] * torch.tensor([0.0, 0, 1])
    torch.testing.assert_close(picture.colour, expected)


def test_gradients_reach_attributes_and_vertices():
    vertices, faces = square(half=0.3)
    vertices = vertices.double().requires_grad_()
    attributes = torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turned = orbit_extrinsics(torch.tensor([0.4]), torch.tensor([0.3]), DISTANCE)

    def loss(vertices, attributes):
        # only pixels well inside count: outlines have no gradient
        picture = render_mesh(
            vertices, faces, turned, LENS, 32, vertex_attributes=attributes, backend="torch"
        )
        return picture.attributes[0, 14:18, 14:18].sum() + picture.depth[0, 14:18, 14:18].sum()

    assert torch.autograd.gradcheck(loss, (vertices, attributes.requires_grad_()), eps=1e-6, atol=1e-5)


def test_counts_of_views_are_those_of_the_pictures():
    vertices, faces = torus()
    extrinsics, lens = multiview_cameras(5)
    seen = visible_faces(vertices, faces, extrinsics, lens, SIZE)
    expected = torch.stack([(seen == face).any(1).any(1) for face in range(len(faces))]).sum(1)
    assert torch.equal(count_views_of_faces(vertices, faces, extrinsics, lens, SIZE), expected)
    assert int(expected.min()) == 0 and int(expected.max()) > 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_mesh_is_background(backend):
    picture = render_mesh(
        torch.zeros(0, 3),
        torch.zeros(0, 3, dtype=torch.long),
        FRONT,
        LENS,
        8,
        vertex_attributes=torch.zeros(0, 3),
        background=(1, 1, 1),
        backend=backend,
    )
    assert (picture.colour == 1).all() and (picture.alpha == 0).all() and (picture.depth == 0).all()
    assert (picture.normal == 0).all() and (picture.face == -1).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_faces_with_a_vertex_that_is_not_finite_are_left_out(backend):
    vertices, faces = square()
    vertices[1] = float("nan")
    seen = visible_faces(vertices, faces, FRONT, LENS, SIZE, backend=backend)
    assert set(seen.unique().tolist()) == {-1, 1}


def test_no_colour_without_three_attributes():
    picture = render_mesh(*square(), FRONT, LENS, 8, vertex_attributes=torch.rand(4, 2))
    assert picture.colour is None and picture.attributes.shape == (1, 8, 8, 2)
    assert render_mesh(*square(), FRONT, LENS, 8).attributes is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertex_attributes": torch.zeros(5, 3)}, r"vertex_attributes \(4, C\).*got \(5, 3\)"),
        ({"faces": torch.zeros(2, 4, dtype=torch.long)}, r"faces \(F, 3\), got \(4, 3\) and \(2, 4\)"),
        ({"faces": torch.tensor([[0, 1, 4]])}, r"vertex numbers in \[0, 4\), got \[0, 4\]"),
        ({"faces": torch.tensor([[-1, 1, 2]])}, r"vertex numbers in \[0, 4\), got \[-1, 2\]"),
        ({"faces": torch.zeros(2, 3)}, "vertex numbers as integers, got torch.float32"),
        ({"ssaa": 0}, "ssaa >= 1"),
        ({"far": 0.5}, "near 1.0, far 0.5"),
        ({"backend": "pencil"}, "unknown backend 'pencil'"),
    ],
)
def test_arguments_are_checked(change, message):
    vertices, faces = square()
    arguments = {"vertices": vertices, "faces": faces, "extrinsics": FRONT, "intrinsics": LENS, "size": 8}
    with pytest.raises(ValueError, match=message):
        render_mesh(**{**arguments, **change})


def test_nvdiffrast_is_refused_without_a_gpu():
    with pytest.raises(BackendUnavailable, match="does not take"):
        render_mesh(*square(), FRONT, LENS, 8, backend="nvdiffrast")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mesh_is_drawn_as_it_is_now(backend):
    vertices, faces = sphere()
    first = visible_faces(vertices, faces, FRONT, LENS, SIZE, backend=backend)
    assert torch.equal(visible_faces(vertices, faces, FRONT, LENS, SIZE, backend=backend), first)
    vertices *= 0.5  # in place: the same tensors hold another mesh
    smaller = visible_faces(vertices, faces, FRONT, LENS, SIZE, backend=backend)
    assert 3.5 < (first >= 0).sum() / (smaller >= 0).sum() < 4.5
    flipped = visible_faces(vertices, faces.flip(0), FRONT, LENS, SIZE, backend=backend)
    assert torch.equal(flipped, torch.where(smaller >= 0, len(faces) - 1 - smaller, -1))
