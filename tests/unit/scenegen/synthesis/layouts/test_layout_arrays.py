"""Scenes as arrays: shapes, order, and the same step giving the same scenes."""

from dataclasses import replace

import numpy as np
import pytest

from scenegen.datasets.read_ahead import ReadAhead
from scenegen.synthesis.layouts.layout_arrays import LayoutBatches, layout_arrays, step_rng
from scenegen.synthesis.layouts.pool import ModelPool
from scenegen.synthesis.layouts.scene_composer import compose


@pytest.fixture
def infos(furniture):
    return [replace(info, id=str(row)) for row, info in enumerate(furniture.infos)]


def equal(left, right):
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def test_arrays_hold_the_layouts_row_by_row(infos):
    layouts = [compose(np.random.default_rng(seed), ModelPool(infos), 3) for seed in range(4)]
    arrays = layout_arrays(layouts)
    assert arrays.pop("shape").tolist() == [[int(o.model_id) for o in layout.objects] for layout in layouts]
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    assert arrays["centre"].shape == (4, 3, 3) and arrays["wall_point"].shape == (4, 2, 3)
    for row, layout in enumerate(layouts):
        placed = layout.objects[2]
        np.testing.assert_allclose(arrays["centre"][row, 2], placed.centre, rtol=1e-6)
        np.testing.assert_allclose(
            [arrays["yaw"][row, 2], arrays["size"][row, 2], arrays["fov_deg"][row], arrays["sun"][row]],
            [placed.yaw, placed.size_m, layout.camera.fov_deg, layout.lighting.sun_strength],
            rtol=1e-6,
        )
        walls = [wall.normal for wall in layout.room.walls] + [(0, 0, 0)] * (2 - len(layout.room.walls))
        np.testing.assert_allclose(arrays["wall_normal"][row], walls, rtol=1e-6)


def test_random_streams_differ_by_seed_step_and_purpose():
    draws = [step_rng(*key).random() for key in [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b")]]
    assert len(set(draws)) == 4 and draws[0] == step_rng(0, 0, "a").random()


def test_a_step_always_has_the_same_scenes_of_one_size(infos):
    batches = LayoutBatches(infos, 12, (0.0, 1.0, 1.0), seed=3)
    sizes = set()
    for step in range(6):
        batch = batches[step]
        num_scenes, num_objects = batch["shape"].shape
        assert num_scenes == 12 // num_objects and 0 <= batch["shape"].min() <= batch["shape"].max() < len(
            infos
        )
        sizes.add(num_objects)
        assert equal(batch, LayoutBatches(infos, 12, (0.0, 1.0, 1.0), seed=3)[step])
    assert sizes == {2, 3}
    assert not equal(batches[0], LayoutBatches(infos, 12, (0.0, 1.0, 1.0), seed=4)[0])


def test_a_step_has_one_scene_even_when_it_exceeds_the_number_of_objects(infos):
    assert LayoutBatches(infos, 2, (0.0, 0.0, 1.0), seed=0)[0]["shape"].shape == (1, 3)


def test_other_processes_compose_the_same_scenes(infos):
    batches = LayoutBatches(infos, 4, (0.0, 1.0), seed=0)
    composer = ReadAhead(batches, workers=1)
    for number in (2, 3):
        made = {name: np.asarray(value) for name, value in composer.get(number).items()}
        assert equal(made, batches[number])
