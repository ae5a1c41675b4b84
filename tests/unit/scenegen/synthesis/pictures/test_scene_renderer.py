"""Scene renderer: ids, depth and colour against analytic boxes and spheres."""

import math
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from PIL import Image

from scenegen.synthesis.layouts.scene_layout import (
    Camera,
    Lighting,
    PlacedObject,
    Room,
    SceneLayout,
    Wall,
    yaw_matrix,
)
from scenegen.synthesis.pictures.render_mesh import RenderMesh, load_glb
from scenegen.synthesis.pictures.scene_renderer import BACKGROUND, instance_areas, render_scene

SIZE = 64


def textured(mesh: trimesh.Trimesh, colour) -> RenderMesh:
    count = len(mesh.faces)
    return RenderMesh(
        vertices=np.asarray(mesh.vertices, np.float32),
        faces=np.asarray(mesh.faces, np.int32),
        face_colours=np.tile(np.uint8(colour), (count, 1)),
        uv=np.zeros((count, 3, 2), np.float32),
        face_textures=np.full(count, -1, np.int32),
    )


MESHES = {
    "ball": textured(trimesh.creation.icosphere(subdivisions=5, radius=0.5), (200, 40, 40)),
    "box": textured(trimesh.creation.box(extents=(1.0, 0.5, 0.25)), (40, 80, 200)),
}


@pytest.fixture
def layout() -> SceneLayout:
    """A ball of 1 m and a turned box of 1 x 0.5 x 0.25 m before one wall."""
    return SceneLayout(
        scene_id="s",
        objects=(
            PlacedObject("ball", (0.2, 0.5, 0.0), 0.0, 1.0),
            PlacedObject("box", (-0.3, 0.25, 0.9), 0.7, 1.0),
        ),
        camera=Camera(position=(0.5, 1.4, 3.2), target=(0.0, 0.4, 0.2), fov_deg=50.0),
        lighting=Lighting(sun_direction=(0.0, 0.8, 0.6), sun_strength=0.5, ambient_strength=0.4),
        room=Room((0.5, 0.4, 0.3), (0.8, 0.9, 0.7), (Wall((0.0, 0.0, -1.5), (0.0, 0.0, 1.0)),)),
    )


def pixel_rays(camera: Camera) -> np.ndarray:
    """Independent of the renderer: world directions of depth 1 built from look-at axes, (SIZE, SIZE, 3)."""
    forward = np.subtract(camera.target, camera.position)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    half = math.tan(math.radians(camera.fov_deg) / 2)
    steps = (2 * (np.arange(SIZE) + 0.5) / SIZE - 1) * half
    return forward + steps[None, :, None] * right - steps[:, None, None] * up


def sphere_depth(eye, rays, centre, radius):
    towards = np.subtract(eye, centre)
    a, b, c = (rays**2).sum(-1), 2 * rays @ towards, towards @ towards - radius**2
    root = b**2 - 4 * a * c
    return np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / (2 * a), np.inf)


def box_depth(eye, rays, placed, sides):
    turn = yaw_matrix(placed.yaw)
    start, steps = np.subtract(eye, placed.centre) @ turn, rays @ turn
    first, second = (-np.divide(sides, 2) - start) / steps, (np.divide(sides, 2) - start) / steps
    enter, leave = np.minimum(first, second).max(-1), np.maximum(first, second).min(-1)
    return np.where(enter < leave, enter, np.inf)


def test_ids_and_depth_are_those_of_the_analytic_scene(layout):
    eye, rays = np.asarray(layout.camera.position), pixel_rays(layout.camera)
    floor = np.where(rays[..., 1] < 0, -eye[1] / rays[..., 1], np.inf)
    wall = np.where(rays[..., 2] < 0, (-1.5 - eye[2]) / rays[..., 2], np.inf)
    depths = np.stack(
        [
            sphere_depth(eye, rays, (0.2, 0.5, 0.0), 0.5),
            box_depth(eye, rays, layout.objects[1], (1.0, 0.5, 0.25)),
            np.minimum(floor, wall),
        ]
    )
    expected_ids = np.array([0, 1, BACKGROUND])[depths.argmin(axis=0)]
    picture = render_scene(layout, MESHES, SIZE)
    same = picture.instances == expected_ids
    assert same.mean() > 0.995  # the icosphere's silhouette lies slightly inside the sphere's
    assert {0, 1, BACKGROUND} == set(np.unique(picture.instances))
    np.testing.assert_allclose(picture.depth[same], depths.min(axis=0)[same], rtol=3e-3)


def test_areas_with_and_without_the_other_objects(layout):
    visible, alone = instance_areas(layout, MESHES, SIZE)
    picture = render_scene(layout, MESHES, SIZE)
    np.testing.assert_array_equal(visible, [(picture.instances == i).sum() for i in (0, 1)])
    assert visible[0] < alone[0] and visible[1] == alone[1]  # the box stands before the ball


def test_colour_follows_the_light_model(layout):
    high_sun = replace(layout, lighting=Lighting((0.0, 1.0, 0.0), sun_strength=0.5, ambient_strength=0.4))
    colour = render_scene(high_sun, MESHES, SIZE).colour
    sunlit_floor, wall = colour[-1, -1], colour[0, 0]
    np.testing.assert_allclose(sunlit_floor, np.multiply((0.5, 0.4, 0.3), 0.9) * 255, atol=1)
    np.testing.assert_allclose(wall, np.multiply((0.8, 0.9, 0.7), 0.4 * 0.75) * 255, atol=1)


def test_the_ball_shades_the_floor_under_it(layout):
    high_sun = replace(
        layout,
        objects=(replace(layout.objects[0], centre=(0.0, 1.0, 0.0)),),
        camera=Camera((0.0, 0.6, 3.0), (0.0, 0.0, 0.0), 40.0),
        lighting=Lighting((0.0, 1.0, 0.0), sun_strength=0.5, ambient_strength=0.4),
    )
    colour = render_scene(high_sun, MESHES, SIZE).colour
    np.testing.assert_allclose(colour[SIZE // 2, SIZE // 2], np.multiply((0.5, 0.4, 0.3), 0.4) * 255, atol=1)


def test_antialias_only_changes_colours(layout):
    plain, smooth = (render_scene(layout, MESHES, SIZE, antialias=value) for value in (False, True))
    np.testing.assert_array_equal(plain.instances, smooth.instances)
    np.testing.assert_array_equal(plain.depth, smooth.depth)
    difference = np.abs(plain.colour.astype(int) - smooth.colour)
    assert 0 < difference.mean() < 4


def test_mirrored_and_stretched_objects_are_rendered_so(layout):
    wedge = trimesh.Trimesh([[-0.5, -0.5, 0], [0.5, -0.5, 0], [-0.5, 0.5, 0]], [[0, 1, 2]], process=False)
    scene = replace(
        layout,
        objects=(PlacedObject("wedge", (0.0, 2.0, 0.0), 0.0, 1.0),),
        camera=Camera((0.0, 2.0, 2.0), (0.0, 2.0, 0.0), 40.0),
    )
    meshes = {"wedge": textured(wedge, (255, 255, 255))}
    plain = render_scene(scene, meshes, SIZE).instances == 0
    mirrored_object = replace(scene.objects[0], mirror=True, stretch=(1.0, 0.5, 1.0))
    mirrored = render_scene(replace(scene, objects=(mirrored_object,)), meshes, SIZE).instances == 0
    assert plain[:, : SIZE // 2].sum() > 2 * plain[:, SIZE // 2 :].sum()
    assert mirrored[:, SIZE // 2 :].sum() > 2 * mirrored[:, : SIZE // 2].sum()
    assert plain.any(axis=1).sum() == pytest.approx(2 * mirrored.any(axis=1).sum(), abs=2)


def test_texture_of_a_glb_is_seen_the_right_way_up(layout, tmp_path):
    corners = [[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]]
    quad = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], process=False)
    texels = np.uint8([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]])  # top row, bottom row
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(texels), baseColorFactor=[255, 255, 255, 255]
    )
    quad.visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], material=material)
    quad.export(tmp_path / "quad.glb")
    scene = replace(
        layout,
        objects=(PlacedObject("quad", (0.0, 2.0, 0.0), 0.0, 1.0),),
        camera=Camera((0.0, 2.0, 1.0), (0.0, 2.0, 0.0), 40.0),
        lighting=Lighting((0.0, 0.0, 1.0), sun_strength=0.0, ambient_strength=1 / 0.75),
    )
    colour = render_scene(scene, {"quad": load_glb(tmp_path / "quad.glb")}, SIZE).colour
    quarter = SIZE // 4
    seen = [colour[row, column] for row in (quarter, 3 * quarter) for column in (quarter, 3 * quarter)]
    np.testing.assert_allclose(seen, texels.reshape(4, 3), atol=1)


def test_missing_meshes_are_named(layout, tmp_path):
    with pytest.raises(KeyError, match="no mesh for model 'box'"):
        render_scene(layout, {"ball": MESHES["ball"]}, SIZE)
    with pytest.raises(FileNotFoundError, match="none.glb"):
        load_glb(tmp_path / "none.glb")
