"""Textured meshes of shapes whose colour, holes and hidden parts are known."""

import io

import numpy as np
import pytest
import torch
import trimesh

from trellis_modules.postprocess import (
    CleaningConfig,
    Observations,
    TextureOptimization,
    bake_gaussians,
    bake_vertex_colours,
    to_textured_mesh,
)
from trellis_modules.renderers.spherical_harmonics import rgb_to_sh
from trellis_modules.representations.gaussian import Gaussian, GaussianConfig

MAX_COLOUR_ERROR = 0.03  # mean absolute, colours in [0, 1]
SIZE = 128


def welded(mesh):
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces)
    shape.merge_vertices(merge_tex=True, merge_norm=True)
    return shape


def surface_gaussians(points, colours, scale=0.02, opacity=0.95):
    count = len(points)
    return Gaussian.from_values(
        GaussianConfig(),
        xyz=points,
        features_dc=rgb_to_sh(colours)[:, None],
        scaling=torch.full((count, 3), scale),
        rotation=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        opacity=torch.full((count, 1), opacity),
    )


@pytest.fixture(scope="module")
def baked(sphere):
    """The sphere from its pictures, simplified."""
    return to_textured_mesh(
        sphere.vertices,
        sphere.faces,
        sphere.observe(),
        cleaning=CleaningConfig(simplify=0.8),
        texture_size=SIZE,
    )


def test_colours_from_pictures(sphere, baked):
    errors = sphere.error(baked)
    assert errors.mean() < MAX_COLOUR_ERROR
    assert errors.max() < 0.15  # also at seams and where few views look


def test_result_is_simplified_closed_and_y_up(sphere, baked):
    assert len(baked.faces) == pytest.approx(0.2 * len(sphere.faces), rel=0.05)
    assert baked.vertices.dtype == np.float32 and baked.faces.dtype == np.int32
    assert welded(baked).is_watertight and welded(baked).volume > 0
    outward = baked.vertices / np.linalg.norm(baked.vertices, axis=1, keepdims=True)
    assert (baked.normals * outward).sum(axis=1).min() > 0.98  # smooth, whatever the seams


def test_axes(sphere):
    tall = sphere.vertices * torch.tensor([0.2, 0.5, 1.0])
    mesh = bake_vertex_colours(
        tall, sphere.faces, sphere.colour(tall), cleaning=CleaningConfig(simplify=0.9), texture_size=32
    )
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [0.18, 0.9, 0.45], rtol=0.05)
    shifted = bake_vertex_colours(
        tall + torch.tensor([0, 0.2, 0]),
        sphere.faces,
        sphere.colour(tall),
        cleaning=CleaningConfig(simplify=0.9),
        texture_size=32,
    )
    assert shifted.vertices[:, 2].mean() == pytest.approx(-0.2, abs=0.02)  # +y of z-up is -z of y-up


def test_colours_of_vertices(sphere):
    colours = sphere.colour(sphere.vertices)
    mesh = bake_vertex_colours(
        sphere.vertices,
        sphere.faces,
        colours.numpy(),
        cleaning=CleaningConfig(simplify=0.8),
        texture_size=SIZE,
    )
    assert sphere.error(mesh).mean() < MAX_COLOUR_ERROR


def test_colours_of_gaussians(sphere):
    gaussian = surface_gaussians(sphere.vertices, sphere.colour(sphere.vertices))
    mesh = bake_gaussians(
        sphere.vertices, sphere.faces, gaussian, cleaning=CleaningConfig(simplify=0.8), texture_size=SIZE
    )
    assert sphere.error(mesh).mean() < MAX_COLOUR_ERROR


def test_optimisation_keeps_the_colours_and_repeats(sphere):
    settings = dict(
        cleaning=CleaningConfig(simplify=0.8),
        texture_size=SIZE,
        mode="opt",
        optimization=TextureOptimization(steps=20),
    )
    observations = sphere.observe()
    first, again = (
        to_textured_mesh(
            sphere.vertices, sphere.faces, observations, **settings,
            generator=torch.Generator().manual_seed(5),
        )
        for _ in range(2)
    )  # fmt: skip
    assert sphere.error(first).mean() < MAX_COLOUR_ERROR
    np.testing.assert_array_equal(first.texture, again.texture)


def test_without_simplification(sphere):
    mesh = bake_vertex_colours(
        sphere.vertices,
        sphere.faces,
        sphere.colour(sphere.vertices),
        cleaning=CleaningConfig(simplify=0),
        texture_size=SIZE,
    )
    assert len(mesh.faces) == len(sphere.faces)
    assert sphere.error(mesh).mean() < MAX_COLOUR_ERROR


def test_hidden_sphere_inside_is_removed(sphere):
    vertices = torch.cat([sphere.vertices, 0.4 * sphere.vertices])
    faces = torch.cat([sphere.faces, sphere.faces + len(sphere.vertices)])
    mesh = bake_vertex_colours(
        vertices, faces, sphere.colour(vertices), cleaning=CleaningConfig(simplify=0.8), texture_size=32
    )
    assert np.linalg.norm(mesh.vertices, axis=1).min() > 0.4
    kept = bake_vertex_colours(
        vertices,
        faces,
        sphere.colour(vertices),
        cleaning=CleaningConfig(simplify=0.8, fill_holes=False),
        texture_size=32,
    )
    assert np.linalg.norm(kept.vertices, axis=1).min() < 0.2


def test_small_hole_is_filled_and_coloured(sphere):
    middle = sphere.vertices[sphere.faces].mean(dim=1)
    faces = sphere.faces[middle[:, 2] < 0.44]
    mesh = bake_vertex_colours(
        sphere.vertices,
        faces,
        sphere.colour(sphere.vertices),
        cleaning=CleaningConfig(simplify=0.5),
        texture_size=SIZE,
    )
    assert welded(mesh).is_watertight
    assert sphere.error(mesh).mean() < MAX_COLOUR_ERROR


def test_glb_reopens_with_texture_and_material(baked):
    scene = trimesh.load(io.BytesIO(baked.to_trimesh().export(file_type="glb")), file_type="glb")
    (mesh,) = scene.geometry.values()
    material = mesh.visual.material
    assert len(mesh.faces) == len(baked.faces)
    assert (material.metallicFactor, material.roughnessFactor) == (0, 1)
    np.testing.assert_array_equal(np.asarray(material.baseColorTexture)[..., :3], baked.texture)
    np.testing.assert_allclose(mesh.visual.uv, baked.uvs, atol=1e-6)


def test_empty_mesh():
    no_points, no_faces = torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.long)
    mesh = bake_vertex_colours(no_points, no_faces, no_points, texture_size=8)
    assert mesh.is_empty and mesh.texture.shape == (8, 8, 3)


def test_mesh_without_area():
    line = torch.tensor([[0.0, 0, 0], [0.1, 0.1, 0.1], [0.3, 0.3, 0.3]])
    mesh = bake_vertex_colours(line, torch.tensor([[0, 1, 2]]), line, texture_size=8)
    assert mesh.is_empty


def test_mesh_of_one_triangle(sphere):
    points = torch.tensor([[0.0, 0, 0], [0.4, 0, 0], [0, 0.4, 0]])
    mesh = bake_vertex_colours(points, torch.tensor([[0, 1, 2]]), sphere.colour(points), texture_size=32)
    assert len(mesh.faces) == 2  # its outline is a hole too: closed by the back side
    assert sphere.error(mesh).mean() < 0.2


def test_pictures_that_show_nothing_give_a_grey_texture(sphere, caplog):
    seen = sphere.observe(num_views=2, size=16)
    nothing = Observations(
        0 * seen.colour, 0 * seen.alpha, extrinsics=seen.extrinsics, intrinsics=seen.intrinsics
    )
    mesh = to_textured_mesh(sphere.vertices, sphere.faces, nothing, texture_size=16)
    assert set(np.unique(mesh.texture)) == {128}
    assert "nothing shows the surface" in caplog.text


def test_no_gaussians_give_a_grey_texture(sphere):
    none = surface_gaussians(torch.zeros(0, 3), torch.zeros(0, 3))
    mesh = bake_gaussians(sphere.vertices, sphere.faces, none, texture_size=16)
    assert set(np.unique(mesh.texture)) == {128}


def test_gaussians_that_are_not_finite(sphere):
    gaussian = surface_gaussians(sphere.vertices[:5], torch.zeros(5, 3), scale=torch.nan)
    with pytest.raises(ValueError, match="expected finite Gaussians, got nan or inf"):
        bake_gaussians(sphere.vertices, sphere.faces, gaussian, texture_size=16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "slow"}, "expected mode in .*'fast', 'opt'.*got 'slow'"),
        ({"texture_size": 0}, r"texture_size in \[1, 8192\], got 0"),
        ({"vertices": torch.full((2562, 3), torch.nan)}, "2562 of 2562 vertices are not finite"),
        ({"vertices": torch.full((2562, 3), 40.0)}, "coordinate of 40; scale the mesh first"),
        ({"faces": torch.tensor([[0, 1, 9999]])}, r"indices in \[0, 2562\), got \[0, 9999\]"),
        ({"faces": torch.zeros(4, 3)}, "vertex indices as integers, got float32"),
        ({"faces": torch.zeros(4, 2, dtype=torch.long)}, r"faces \(F, 3\), got .*\(4, 2\)"),
    ],
)
def test_wrong_arguments(sphere, change, message):
    arguments = {
        "vertices": sphere.vertices,
        "faces": sphere.faces,
        "observations": sphere.observe(num_views=1, size=8),
    } | change
    with pytest.raises(ValueError, match=message):
        to_textured_mesh(**arguments)


def test_colours_that_do_not_match_the_vertices(sphere):
    with pytest.raises(ValueError, match=r"vertex_colours \(2562, 3\), got \(5, 3\)"):
        bake_vertex_colours(sphere.vertices, sphere.faces, torch.zeros(5, 3))


def test_colours_that_are_not_finite(sphere):
    colours = sphere.colour(sphere.vertices)
    colours[3] = torch.nan
    with pytest.raises(ValueError, match="expected finite vertex colours"):
        bake_vertex_colours(sphere.vertices, sphere.faces, colours, texture_size=16)


@pytest.mark.gpu
def test_gpu_bakes_the_same_colours(sphere):
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    settings = dict(cleaning=CleaningConfig(simplify=0.8), texture_size=SIZE, device="cuda")
    colours = sphere.colour(sphere.vertices)
    gaussian = surface_gaussians(sphere.vertices, colours)
    shape = sphere.vertices, sphere.faces
    observations = sphere.observe()
    for mesh in (
        to_textured_mesh(*shape, observations, **settings),
        to_textured_mesh(*shape, observations, mode="opt", **settings),
        bake_gaussians(*shape, gaussian, **settings),
        bake_vertex_colours(*shape, colours, **settings),
    ):
        assert welded(mesh).is_watertight
        assert sphere.error(mesh).mean() < MAX_COLOUR_ERROR
