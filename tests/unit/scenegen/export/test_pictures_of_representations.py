"""Pictures of voxels, Gaussians and radiance fields: what is seen, and where."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from scenegen.export.frames import zup_transform
from scenegen.export.gaussian_ply import surface_gaussian
from scenegen.export.meshes import build_scene
from scenegen.export.options import ExportOptions
from scenegen.export.placed_representations import Background, draw_placed, lay_over
from scenegen.export.registry import write_format
from scenegen.export.scene_files import ExportError, write_scene
from scenegen.export.turntable import write as write_turntable
from scenegen.geometry import place, transform_points, yup_to_zup
from scenegen.pipelines.result import GeneratedObject, Representation, SceneResult
from tests.unit.scenegen.export.fields import solid_field
from trellis_modules.renderers import Rendering, render_mesh
from trellis_modules.renderers.cameras import snapshot_cameras
from trellis_modules.representations.gaussian import Gaussian

BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
RED, BLUE = (255, 0, 0), (0, 0, 255)
STRAIGHT = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
ASKEW = torch.tensor([1.2, 0.3, 0.4, 0.9, 0.3, 0.2, 0.1, 0.6])


def _cube(object_id: int, pose: torch.Tensor, colour: tuple[int, int, int]) -> GeneratedObject:
    """A cube as a mesh, as Gaussians and as a field; the first of its eight voxels is occupied."""
    mesh = trimesh.creation.box((1.0, 1.0, 1.0))
    for _ in range(4):
        mesh = mesh.subdivide()
    mesh.visual.vertex_colors = np.tile((*colour, 255), (len(mesh.vertices), 1))
    logits = torch.full((2, 2, 2), -1.0)
    logits[0, 0, 0] = 1.0
    dots = surface_gaussian(mesh)
    dots = Gaussian.from_values(
        dots.config,
        xyz=dots.xyz,
        features_dc=dots.features_dc,
        scaling=dots.scaling / 3,
        rotation=dots.rotation,
        opacity=dots.opacity,
    )
    return GeneratedObject(object_id, pose, logits, mesh, dots, solid_field(colour))


@pytest.fixture
def result() -> SceneResult:
    """A red cube and a smaller blue one, askew beside it."""
    return SceneResult((_cube(0, STRAIGHT, RED), _cube(3, ASKEW, BLUE)), query_id=0)


def _drawn(representation: Representation, result: SceneResult, background: Background) -> Rendering:
    draw = draw_placed(
        representation, result, build_scene(result), zoom=0.4, size=64, background=background, device="cpu"
    )
    return draw(*snapshot_cameras())


def _mesh_pictures(result: SceneResult, zoom: float, size: int) -> Rendering:
    scene = build_scene(result)
    parts = [scene.geometry[name].copy().apply_transform(scene.graph[name][0]) for name in scene.geometry]
    mesh = trimesh.util.concatenate(parts)
    vertices = yup_to_zup(torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32)) * zoom
    colours = torch.tensor(mesh.visual.vertex_colors[:, :3] / 255, dtype=torch.float32)
    faces = torch.tensor(np.asarray(mesh.faces))
    return render_mesh(vertices, faces, *snapshot_cameras(), size, vertex_attributes=colours)


@pytest.mark.parametrize("representation", ["gaussian", "radiance_field"])
def test_objects_are_drawn_where_their_meshes_are_and_hide_each_other_likewise(result, representation):
    """A field fills the cube of its mesh, and small Gaussians on its surface cover it."""
    drawn, expected = _drawn(representation, result, BLACK), _mesh_pictures(result, 0.4, 64)
    shown, mesh = drawn.alpha > 0.5, expected.alpha > 0.5
    assert (shown & mesh).sum() / (shown | mesh).sum() > 0.9
    inside = (drawn.alpha > 0.95) & (expected.alpha == 1)
    blue, expected_blue = (each.colour[inside][:, 2] > 0.5 for each in (drawn, expected))
    assert 0.05 < expected_blue.float().mean() < 0.95
    assert (blue == expected_blue).float().mean() > 0.95
    assert (drawn.depth - expected.depth)[inside].abs().mean() < 0.1


def test_object_without_a_field_is_drawn_by_its_gaussians(result):
    plain = replace(result.objects[1], radiance_field=None, problem="decoder: nothing came")
    mixed = replace(result, objects=(result.objects[0], plain))
    pictures = [_drawn("radiance_field", each, WHITE).colour for each in (result, mixed)]
    is_blue = [(picture[..., 2] - picture[..., 0] > 0.5).sum() for picture in pictures]
    assert 0.7 < is_blue[1] / is_blue[0] < 1.3


def test_pose_between_z_up_frames():
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    expected = yup_to_zup(place(points, ASKEW))
    torch.testing.assert_close(transform_points(points, zup_transform(ASKEW)), expected)


def test_the_nearer_layer_covers_the_farther_one_at_each_pixel():
    """Of two layers each is in front at one pixel, and the third pixel is empty."""

    def layer(colour, alpha, depth):
        alpha = torch.tensor([[alpha]])
        return Rendering(torch.tensor(colour) * alpha[..., None], alpha, torch.tensor([[depth]]))

    first = layer((1.0, 0, 0), [0.75, 0.75, 0.0], [1.0, 3.0, 0.0])
    second = layer((0.0, 0, 1), [0.5, 0.5, 0.0], [2.0, 2.0, 0.0])
    both = lay_over([first, second], (0.0, 1.0, 0.0))
    torch.testing.assert_close(both.alpha[0, 0], torch.tensor([0.875, 0.875, 0.0]))
    expected = torch.tensor([[0.75, 0.125, 0.125], [0.375, 0.125, 0.5], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(both.colour[0, 0], expected)
    depths = torch.tensor([(0.75 * 1 + 0.125 * 2) / 0.875, (0.5 * 2 + 0.375 * 3) / 0.875, 0.0])
    torch.testing.assert_close(both.depth[0, 0], depths)


def test_pictures_of_fields_have_four_views_of_their_colours(result, tmp_path, small_pictures):
    plain = replace(result.objects[1], radiance_field=None)
    some = replace(result, objects=(result.objects[0], plain))
    names = write_format("radiance_field", some, build_scene(some), tmp_path, ExportOptions())
    assert names == ["obj_0_radiance_field.png"]
    picture = np.asarray(Image.open(tmp_path / names[0]))
    assert picture.shape == (64, 64, 3) and (picture[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    for middle in (picture[y : y + 8, x : x + 8] for y in (12, 44) for x in (12, 44)):
        assert np.abs(middle.astype(int) - RED).max() <= 1


def test_structures_show_where_voxels_are(result, tmp_path, small_pictures):
    """The one voxel of a cube is at its low corner, and its colour is its place; no voxel, no picture."""
    empty = replace(result.objects[1], object_id=5, logits=torch.full((2, 2, 2), -1.0), mesh=None)
    three = replace(result, objects=(*result.objects, empty))
    names = write_format("structure", three, build_scene(three), tmp_path, ExportOptions())
    assert names == ["structure.png", "obj_0_structure.png", "obj_3_structure.png"]
    for name in names[1:]:
        picture = np.asarray(Image.open(tmp_path / name))
        assert picture.shape == (64, 64, 3)
        shown = picture[picture.any(axis=-1)]
        assert len(shown) > 100 and np.abs(np.median(shown, axis=0) - 64).max() <= 1  # 0.25 of 255
    picture = np.asarray(Image.open(tmp_path / "structure.png")).astype(int)
    assert picture.shape == (512, 512, 3)
    for channel in range(3):  # the axes, in red, green and blue
        others = np.delete(picture, channel, axis=-1).max(axis=-1)
        assert ((picture[..., channel] > 30) & (others < 5)).sum() > 10


@pytest.mark.parametrize("turntable", ["gaussian", "radiance_field"])
def test_video_begins_at_the_photos_side_whatever_it_is_drawn_from(result, tmp_path, monkeypatch, turntable):
    shown = []
    monkeypatch.setattr("scenegen.export.turntable.FRAMES", 2)
    monkeypatch.setattr("scenegen.export.turntable.SIZE", 64)
    monkeypatch.setattr("scenegen.export.turntable.write_video", lambda frames, *rest: shown.append(frames))
    for source in ("mesh", turntable):
        write_turntable(result, build_scene(result), tmp_path, ExportOptions(turntable=source))
    mesh, other = (frames.amin(dim=-1) < 128 for frames in shown)
    assert (mesh & other).sum() / (mesh | other).sum() > 0.85


def test_objects_without_what_a_format_draws_are_refused(result, tmp_path):
    plain = replace(result.objects[1], radiance_field=None)
    lacking = replace(result, objects=(result.objects[0], plain))
    message = "room: --formats radiance_field: expected objects with a radiance_field, obj_3 came without"
    with pytest.raises(ExportError, match=message):
        write_scene(lacking, tmp_path / "room", ["glb", "radiance_field"])
    assert not (tmp_path / "room").exists()
