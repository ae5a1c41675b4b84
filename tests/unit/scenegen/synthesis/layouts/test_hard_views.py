"""Scenes seen by harder cameras: what each set demands holds, and the committed sets are the fixed ones."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from scenegen.synthesis.furniture.split import load_split
from scenegen.synthesis.layouts.hard_views import HARD_VIEWS, hard_views
from scenegen.synthesis.layouts.pool import ModelPool
from scenegen.synthesis.layouts.scene_list import SceneList
from scenegen.synthesis.layouts.scene_selection import select_scenes
from scenegen.synthesis.pictures.render_mesh import RenderMesh
from scenegen.synthesis.pictures.scene_renderer import instance_areas

BENCHMARKS = Path(__file__).parents[5] / "benchmarks"
SETS = ("usual", *HARD_VIEWS)


@pytest.fixture(scope="module")
def library(furniture):
    """Records and meshes by id, and two scenes of them."""
    infos = {info.id: info for info in furniture.infos}
    meshes = {info.id: RenderMesh.from_furniture(mesh) for mesh, info in furniture.models()}
    scenes = list(select_scenes(3, ModelPool(furniture.infos), meshes, [2, 3], "usual_"))
    return infos, meshes, scenes


@pytest.mark.parametrize("name", HARD_VIEWS)
def test_a_set_keeps_its_demands_and_comes_again(library, name):
    infos, meshes, scenes = library
    view = HARD_VIEWS[name]
    found = list(hard_views(scenes, name, infos, meshes, seed=4))
    assert list(hard_views(scenes[:1], name, infos, meshes, seed=4)) == found[:1]
    for number, (layout, scene) in enumerate(zip(found, scenes)):
        assert layout.scene_id == f"{name}_{number:04d}" and len(layout.objects) == len(scene.objects)
        visible, alone = instance_areas(layout, meshes, view.image_size)
        share = visible / alone
        assert visible.min() >= view.min_pixels and (np.diff(visible) <= 0).all()
        assert view.min_share <= share.min() <= view.most_seen
        low, high = view.options.fov_deg
        assert low - 1e-3 <= layout.camera.fov_deg <= high + 1e-3


def test_a_set_of_another_seed_has_other_cameras(library):
    infos, meshes, scenes = library
    one, other = (next(hard_views(scenes[:1], "low", infos, meshes, seed)) for seed in (1, 2))
    assert one.camera != other.camera
    places = [sorted((o.model_id, *o.centre) for o in scene.objects) for scene in (one, other, scenes[0])]
    assert places[0] == places[1] == places[2]


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_committed_sets_have_40_scenes_of_the_furniture_of_their_split(split):
    scenes = SceneList.load(BENCHMARKS / f"hard_scenes_{split}.json")
    assert Counter(layout.scene_id.partition("_")[0] for layout in scenes.layouts) == dict.fromkeys(SETS, 40)
    models = load_split()
    assert {models[o.model_id].split for layout in scenes.layouts for o in layout.objects} == {split}
    lenses = [layout.camera.fov_deg for layout in scenes.layouts if layout.scene_id.startswith("wide")]
    assert 80 <= min(lenses) and max(lenses) <= 95


def test_the_usual_test_scenes_are_the_first_of_the_fixed_list():
    usual = SceneList.load(BENCHMARKS / "hard_scenes_test.json").layouts[:40]
    fixed = SceneList.load(BENCHMARKS / "test_scenes.json").layouts[:40]
    assert [layout.objects for layout in usual] == [layout.objects for layout in fixed]
    assert [layout.camera for layout in usual] == [layout.camera for layout in fixed]
