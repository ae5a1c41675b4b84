"""Sets of scenes: what is there is skipped, what is missing is written."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import trimesh

from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.layouts.scene_layout import Camera, Lighting, PlacedObject, Room, SceneLayout
from scenegen.synthesis.pictures.render_mesh import RenderMesh
from scenegen.synthesis.pictures.scene_renderer import render_scene
from scenegen.synthesis.pictures.scene_set import write_scene_set

BOX = trimesh.creation.box()
MESH = FurnitureMesh(BOX.vertices, BOX.faces, np.full((12, 3), 120))
LAYOUT = SceneLayout(
    scene_id="s0",
    objects=(PlacedObject("cube", (0.0, 0.5, 0.0), 0.3, 1.0),),
    camera=Camera((0.3, 1.5, 4.0), (0.0, 0.4, 0.0), 45.0),
    lighting=Lighting((0.0, 1.0, 0.0), 0.5, 0.5),
    room=Room((0.6, 0.5, 0.4), (0.9, 0.9, 0.9)),
)


@dataclass
class Library:
    infos: dict[str, ModelInfo]

    def outer_meshes(self, layout: SceneLayout) -> dict[str, FurnitureMesh]:
        return {placed.model_id: MESH for placed in layout.objects}


@pytest.fixture
def library() -> Library:
    return Library({"cube": ModelInfo("cube", "Cube", "Table", "floor", "test", (1.0, 1.0, 1.0))})


def test_only_missing_scenes_are_rendered(library, tmp_path):
    rendered = []

    def render(layout):
        rendered.append(layout.scene_id)
        return render_scene(layout, {"cube": RenderMesh.from_furniture(MESH)}, 32)

    layouts = [LAYOUT, replace(LAYOUT, scene_id="s1")]
    assert write_scene_set(layouts[:1], render, library, tmp_path, "test") == 1
    assert write_scene_set(layouts, render, library, tmp_path, "test") == 1
    assert rendered == ["s0", "s1"]
    assert {path.name for path in (tmp_path / "masked_images_test").iterdir()} == {"s0", "s1"}
    assert write_scene_set(layouts, render, library, tmp_path, "test", with_depth=True) == 2
