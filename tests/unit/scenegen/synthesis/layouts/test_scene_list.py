"""Scene lists: hash, split, the committed test scenes, and the choice of scenes."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.furniture.split import SplitError, load_split
from scenegen.synthesis.layouts.pool import ModelPool
from scenegen.synthesis.layouts.scene_layout import Camera, Lighting, PlacedObject, Room, SceneLayout
from scenegen.synthesis.layouts.scene_list import SceneList, SceneListError, rounded
from scenegen.synthesis.layouts.scene_selection import (
    VisibilityRule,
    balanced_counts,
    make_scene_list,
    select_scenes,
    settle,
)
from scenegen.synthesis.pictures.render_mesh import RenderMesh
from scenegen.synthesis.pictures.scene_renderer import instance_areas

TEST_SCENES = Path(__file__).parents[5] / "benchmarks" / "test_scenes.json"
TEST_SCENES_SHA256 = "6881e24da1c8d0c95ec7161e852e11acf2c159bc8e9461be1e50f52f4cea7179"


def box(extents) -> RenderMesh:
    mesh = trimesh.creation.box(extents=extents)
    colours = np.full((len(mesh.faces), 3), 200, np.uint8)
    return RenderMesh.from_furniture(FurnitureMesh(mesh.vertices, mesh.faces, colours))


def table_with_raised_edge() -> RenderMesh:
    """1 m wide and deep, 1 m high box top, but the middle of its surface lies 0.1 m lower."""
    body = trimesh.creation.box(extents=(1.0, 0.9, 1.0))
    body.apply_translation((0, -0.05, 0))
    edge = trimesh.creation.box(extents=(0.1, 1.0, 1.0))
    edge.apply_translation((-0.45, 0, 0))
    mesh = trimesh.util.concatenate([body, edge])
    colours = np.full((len(mesh.faces), 3), 200, np.uint8)
    return RenderMesh.from_furniture(FurnitureMesh(mesh.vertices, mesh.faces, colours))


def item_on_table(x: float) -> SceneLayout:
    return SceneLayout(
        "s",
        (PlacedObject("table", (0.0, 0.5, 0.0), 0.0, 1.0), PlacedObject("item", (x, 1.1, 0.0), 0.0, 0.2)),
        Camera((0.0, 2.0, 3.0), (0.0, 0.5, 0.0), 50.0),
        Lighting((0.0, 1.0, 0.0), 0.5, 0.5),
        Room((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    )


MESHES = {"table": table_with_raised_edge(), "item": box((1.0, 1.0, 1.0))}


def test_committed_test_scenes_are_the_fixed_ones_and_hold_test_models_only():
    scenes = SceneList.load(TEST_SCENES)
    assert scenes.sha256 == TEST_SCENES_SHA256
    split = load_split()
    placed = [item for layout in scenes.layouts for item in layout.objects]
    assert {split[item.model_id].split for item in placed} == {"test"}
    assert {split[item.model_id].tier for item in placed} <= {"floor", "small"}
    counts = Counter(len(layout.objects) for layout in scenes.layouts)
    assert sum(counts.values()) == 200 and set(counts) == {2, 3, 4, 5, 6, 7}
    assert min(counts[n] for n in (2, 3, 4, 5)) >= 40
    assert len({layout.scene_id for layout in scenes.layouts}) == 200


def test_a_changed_list_is_refused(tmp_path):
    raw = json.loads(TEST_SCENES.read_text())
    raw["scenes"][3]["camera"]["fov_deg"] += 1e-4
    path = tmp_path / "list.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(SceneListError, match="sha256"):
        SceneList.load(path)


def test_a_list_with_a_model_of_another_split_is_refused(tmp_path):
    train_id = next(entry.id for entry in load_split().values() if entry.split == "train")
    layout = item_on_table(0.2)
    layout = replace(layout, objects=(replace(layout.objects[0], model_id=train_id),))
    with pytest.raises(SplitError, match=train_id):
        SceneList("test", "none", 512, (layout,)).save(tmp_path / "list.json")
    assert not (tmp_path / "list.json").exists()


def test_lists_survive_saving(tmp_path):
    layouts = SceneList.load(TEST_SCENES).layouts[:3]
    SceneList("test", "three", 512, layouts).save(tmp_path / "list.json")
    assert SceneList.load(tmp_path / "list.json") == SceneList("test", "three", 512, layouts)


def test_scenes_are_chosen_by_id_in_the_order_asked_for():
    scenes = SceneList.load(TEST_SCENES)
    assert scenes.chosen("test") == list(scenes.layouts)
    asked = ["test_0003", "test_0001"]
    assert [layout.scene_id for layout in scenes.chosen("test", asked)] == asked
    with pytest.raises(SceneListError, match="no scene 'test_9'"):
        scenes.chosen("test", ["test_0003", "test_9"])
    with pytest.raises(SceneListError, match="expected validation scenes, got test ones"):
        scenes.chosen("validation")


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": "scenegen-scene-list-1"}'])
def test_unreadable_lists_are_named(tmp_path, content):
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(SceneListError, match="list.json"):
        SceneList.load(path)


def test_rounding_is_idempotent():
    layout = item_on_table(1 / 3)
    assert rounded(layout) != layout
    assert rounded(rounded(layout)) == rounded(layout)


def test_items_sink_onto_the_surface_below_them():
    settled = settle(item_on_table(0.2), MESHES, max_drop_m=0.25)
    assert settled.objects[1].centre[1] == pytest.approx(1.0, abs=2e-3)
    assert settled.objects[0] == item_on_table(0.2).objects[0]
    on_edge = settle(item_on_table(-0.4), MESHES, max_drop_m=0.25)
    assert on_edge.objects[1].centre[1] == pytest.approx(1.1, abs=2e-3)


def test_items_over_an_edge_or_far_above_the_surface_are_refused():
    assert settle(item_on_table(0.5), MESHES, max_drop_m=0.25) is None
    assert settle(item_on_table(0.2), MESHES, max_drop_m=0.05) is None


def test_chosen_scenes_obey_the_rule_and_depend_on_seed_and_number_only():
    sizes = {"sofa": ("Sofa", (2.0, 0.8, 0.9)), "chair": ("Chair", (0.5, 0.9, 0.5))}
    infos = [ModelInfo(name, name, kind, "floor", "test", size) for name, (kind, size) in sizes.items()]
    meshes = {name: box(np.divide(size, max(size))) for name, (_, size) in sizes.items()}
    rule = VisibilityRule(image_size=64, min_pixels=20, min_share=0.6)
    scenes = list(select_scenes(7, ModelPool(infos), meshes, [2, 3, 4], "x", rule))
    assert [len(layout.objects) for layout in scenes] == [2, 3, 4]
    assert [layout.scene_id for layout in scenes] == ["x0000", "x0001", "x0002"]
    for layout in scenes:
        visible, alone = instance_areas(layout, meshes, 64)
        assert (visible >= 20).all() and (visible >= 0.6 * alone).all()
        assert (np.diff(visible) <= 0).all()
    assert list(select_scenes(7, ModelPool(infos), meshes, [2], "x", rule)) == scenes[:1]


def test_a_made_list_tells_how_it_was_made():
    sofa = ModelInfo("sofa", "Sofa", "Sofa", "floor", "test", (2.0, 0.8, 0.9))
    meshes = {"sofa": box(np.divide(sofa.size_m, 2.0))}
    made = make_scene_list([sofa], meshes, "test", 2, 5)
    assert [len(layout.objects) for layout in made.layouts] == [2, 3]
    assert [layout.scene_id for layout in made.layouts] == ["test_0000", "test_0001"]
    assert made.rule == f"seed 5; {VisibilityRule().describe()}" and made.image_size == 512


def test_counts_are_balanced():
    counts = Counter(balanced_counts(200))
    assert sum(counts.values()) == 200 and 10 <= counts[6] + counts[7] <= 30
