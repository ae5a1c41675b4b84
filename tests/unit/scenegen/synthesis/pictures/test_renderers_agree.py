"""The ray caster and the rasteriser show one scene alike."""

import numpy as np
import pytest
import torch
import trimesh

from scenegen.geometry import apply_transform, pose_to_transform
from scenegen.synthesis.furniture.records import FurnitureMesh
from scenegen.synthesis.layouts.layout_arrays import layout_arrays
from scenegen.synthesis.layouts.scene_layout import (
    Camera,
    Lighting,
    PlacedObject,
    Room,
    SceneLayout,
    Wall,
    world_poses,
)
from scenegen.synthesis.pictures.render_mesh import RenderMesh
from scenegen.synthesis.pictures.scene_renderer import ScenePicture, render_scene
from scenegen.synthesis.pictures.shading import CameraBatch, Picture, render_scenes
from scenegen.synthesis.shapes.shape_bank import Triangles

SIZE = 160
LAYOUT = SceneLayout(
    scene_id="both",
    objects=(  # ids are numbers, as layouts of training have them
        PlacedObject("0", (0.3, 0.4, 0.0), 0.0, 0.8),
        PlacedObject("1", (-0.4, 0.25, 0.6), 0.7, 1.0),
    ),
    camera=Camera(position=(0.6, 1.5, 3.4), target=(0.0, 0.4, 0.2), fov_deg=48.0),
    lighting=Lighting(sun_direction=(0.48, 0.8, 0.36), sun_strength=0.5, ambient_strength=0.45),
    room=Room((0.5, 0.4, 0.3), (0.8, 0.9, 0.7), (Wall((0.0, 0.0, -1.5), (0.0, 0.0, 1.0)),)),
)


def coloured(mesh: trimesh.Trimesh, seed: int) -> FurnitureMesh:
    colours = np.random.default_rng(seed).integers(60, 255, (len(mesh.faces), 3))
    return FurnitureMesh(mesh.vertices, mesh.faces, colours)


MESHES = [
    coloured(trimesh.creation.icosphere(subdivisions=2, radius=0.5), 0),
    coloured(trimesh.creation.box(extents=(1.0, 0.5, 0.25)), 1),
]


def rasterised() -> Picture:
    to_world = pose_to_transform(world_poses(LAYOUT)).numpy()
    corners = [apply_transform(matrix, mesh.vertices)[mesh.faces] for mesh, matrix in zip(MESHES, to_world)]
    triangles = Triangles(
        torch.as_tensor(np.concatenate(corners), dtype=torch.float32),
        torch.arange(2).repeat_interleave(torch.tensor([len(mesh.faces) for mesh in MESHES])),
        torch.as_tensor(np.concatenate([mesh.face_colours for mesh in MESHES])) / 255,
    )
    scene = {name: torch.as_tensor(values) for name, values in layout_arrays([LAYOUT]).items()}
    scene["low"], scene["high"] = (
        extreme[None] for extreme in (triangles.corners.amin((0, 1)), triangles.corners.amax((0, 1)))
    )
    camera = CameraBatch.look(scene["eye"], scene["target"], scene["fov_deg"])
    return render_scenes(triangles, 2, camera, scene, SIZE)


@pytest.fixture(scope="module")
def pictures() -> tuple[ScenePicture, Picture]:
    meshes = {str(number): RenderMesh.from_furniture(mesh) for number, mesh in enumerate(MESHES)}
    return render_scene(LAYOUT, meshes, SIZE), rasterised()


def test_the_scene_has_something_of_everything(pictures):
    cast, _ = pictures
    assert set(np.unique(cast.instances)) == {-1, 0, 1} and np.isfinite(cast.depth).all()
    in_shadow = np.multiply(LAYOUT.room.floor_colour, LAYOUT.lighting.ambient_strength) * 255
    assert (np.abs(cast.colour - in_shadow).max(axis=-1) < 1).sum() > 50


def test_ids_and_depth_are_the_same(pictures):
    cast, raster = pictures
    same = raster.object[0].numpy() == cast.instances
    # Only a pixel whose centre lies on a silhouette may go to either side: none does in this scene.
    assert same.mean() > 0.999
    # Both compute in float32, from rays and from projected corners: a few units in the last place.
    np.testing.assert_allclose(raster.depth[0].numpy()[same], cast.depth[same], rtol=1e-5)


def test_colours_are_the_same_but_for_the_borders_of_shadows(pictures):
    cast, raster = pictures
    levels = raster.colour[0].numpy() * 255
    # One cast ray is exact, the shadow map has 384 pixels an edge: they part at borders of shadows alone, at
    # 0.02 % of the pixels here. Elsewhere only the rounding to 8 bits is between them.
    assert (np.abs(levels - cast.colour).max(axis=-1) < 0.6).mean() > 0.998
