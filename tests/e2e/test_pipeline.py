"""The pipeline as a library: order of objects, progress, precomputed state, bad arguments."""

import re
import socket

import numpy as np
import pytest
import torch

from scenegen.inputs.scene_folder import read_scene
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.progress import Cancelled, Progress
from scenegen.pipelines.settings import RunSettings


@pytest.fixture(scope="module")
def pipeline(shared_checkpoint) -> SceneGenPipeline:
    return SceneGenPipeline.from_pretrained(shared_checkpoint)


@pytest.fixture
def scene(tmp_path, write_scene):
    """A photo with three objects; the last has the largest mask."""
    (images,) = read_scene(write_scene(tmp_path / "room", 3))
    return images


def chosen(scene: SceneImages, rows: list[int], ids: list[int] = ()) -> SceneImages:
    """Some objects of a photo, in this order."""
    return SceneImages(scene.photo, [scene.cutouts[i] for i in rows], [scene.masks[i] for i in rows], ids)


def test_result_comes_in_the_callers_order(pipeline, scene):
    straight = pipeline.run([chosen(scene, [0, 1, 2], [7, 8, 9])])
    order = [2, 0, 1]
    turned = pipeline.run([chosen(scene, order, [9, 7, 8])])
    assert [item.object_id for item in straight.objects] == [7, 8, 9]
    assert [item.object_id for item in turned.objects] == [9, 7, 8]
    assert straight.query_id == turned.query_id == 9
    for item, index in zip(turned.objects, order, strict=True):
        torch.testing.assert_close(item.pose, straight.objects[index].pose)
        torch.testing.assert_close(item.logits, straight.objects[index].logits)


def test_objects_see_each_other(pipeline, scene):
    together, alone = pipeline.run([scene]), pipeline.run([chosen(scene, [2])])
    assert not torch.allclose(together.objects[2].logits, alone.objects[0].logits)


def test_inputs_are_left_unchanged(pipeline, scene):
    pictures = [scene.photo, *scene.cutouts, *scene.masks]
    before = [np.asarray(image).copy() for image in pictures]
    pipeline.run([scene])
    for image, copy in zip(pictures, before, strict=True):
        np.testing.assert_array_equal(np.asarray(image), copy)


def test_progress_and_stage_times_are_reported(pipeline, scene):
    calls = []
    result = pipeline.run([scene, scene], RunSettings(sampling={"steps": 3}), on_progress=calls.append)
    assert calls == [
        *(Progress("condition", done, 2) for done in range(3)),
        *(Progress("structure", done, 3) for done in range(4)),
        *(Progress("meshes", done, 3) for done in range(4)),
    ]
    assert list(result.timings) == ["condition", "sample", "decode", "holes", "mesh", "colour"]
    assert result.settings["steps"] == 3


@pytest.mark.parametrize(
    "last", [Progress("condition", 1, 1), Progress("structure", 2, 3), Progress("meshes", 1, 3)], ids=str
)
def test_a_run_can_be_stopped_between_steps_and_objects(pipeline, scene, last):
    calls = []
    with pytest.raises(Cancelled):
        pipeline.run(
            [scene],
            RunSettings(sampling={"steps": 3}),
            on_progress=calls.append,
            should_stop=lambda: calls[-1] == last,
        )
    assert calls[-1] == last


def test_settings_of_the_run_replace_those_of_the_checkpoint(pipeline, scene):
    settings = RunSettings(sampling={"steps": 3, "cfg_strength": 0.0, "rescale_t": None})
    changed = pipeline.run([scene], settings).settings
    assert (changed["steps"], changed["cfg_strength"], changed["rescale_t"]) == (3, 0.0, 3.0)


def test_the_caller_may_choose_the_query_and_the_order(pipeline, scene):
    usual, chosen_query = pipeline.run([scene]), pipeline.run([scene], RunSettings(query=1))
    assert (usual.query_id, chosen_query.query_id) == (2, 1)
    assert chosen_query.settings["query"] == 1 and not {"query", "order"} & usual.settings.keys()
    assert [item.object_id for item in chosen_query.objects] == [0, 1, 2]
    assert pipeline.run([scene], RunSettings(order="smallest")).query_id == 0
    with pytest.raises(ValueError, match="expected a query from 0 to 2, got 3"):
        pipeline.run([scene], RunSettings(query=3))


@pytest.mark.parametrize(
    ("call", "got"),
    [
        (lambda run, s: run(s.photo, s.cutouts, s.masks), "got Image as views"),
        (lambda run, s: run(s), "got SceneImages as views"),
        (lambda run, s: run([s], seed=3), "got the keyword 'seed'"),
        (lambda run, s: run([s], {"seed": 3}), "got dict as settings"),
        (lambda run, s: run([s], RunSettings(), 3), "got further arguments"),
    ],
)
def test_old_calls_are_told_the_new_form(pipeline, scene, call, got):
    form = re.escape("call pipeline.run([SceneImages(photo, cutouts, masks)]")
    with pytest.raises(TypeError, match=f"{got}; {form}"):
        call(pipeline.run, scene)


def test_global_random_state_is_not_used(pipeline, scene):
    torch.manual_seed(1)
    first = pipeline.run([scene], RunSettings(seed=5))
    torch.manual_seed(2)
    second = pipeline.run([scene], RunSettings(seed=5))
    torch.testing.assert_close(first.objects[0].logits, second.objects[0].logits, rtol=0, atol=0)


def test_local_checkpoints_never_touch_the_network(shared_checkpoint, scene, monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("network access")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    SceneGenPipeline.from_pretrained(shared_checkpoint).run([scene])


@pytest.mark.parametrize(
    ("keep", "ids", "expected"),
    [
        (slice(0, 0), (), "expected asset images and as many masks and ids, got 0 images, 3 masks"),
        (slice(0, 2), (), "got 2 images, 3 masks, 2 ids"),
        (slice(None), [1, 2], "got 3 images, 3 masks, 2 ids"),
        (slice(None), [1, 2, 1], r"expected different object ids, got \[1, 2, 1\]"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(pipeline, scene, keep, ids, expected):
    with pytest.raises(ValueError, match=expected):
        pipeline.run([SceneImages(scene.photo, scene.cutouts[keep], scene.masks, ids)])


def test_a_scene_without_photos_is_refused(pipeline):
    with pytest.raises(ValueError, match="expected at least one photo"):
        pipeline.run([])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda mask: np.zeros_like(mask), r"got shape \(36, 48\) with 0 such pixels for object 1"),
        (lambda mask: mask.T, r"expected masks of \(36, 48\) like photo 0, .* got shape \(48, 36\)"),
    ],
)
def test_masks_that_do_not_fit_the_photo_are_refused(pipeline, scene, change, expected):
    first, second, third = scene.masks
    with pytest.raises(ValueError, match=expected):
        pipeline.run([SceneImages(scene.photo, scene.cutouts, [first, change(second), third])])


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 0.5])
def test_seed_that_no_generator_takes_is_refused(seed):
    with pytest.raises(ValueError, match=r"seed: expected a whole number from -2\^63 to 2\^64 - 1, got"):
        RunSettings(seed=seed)


@pytest.mark.parametrize("shape", [(2, 8, 8, 8), (3, 8, 8), (3, 8, 8, 4)])
def test_given_structure_of_another_shape_is_refused(pipeline, scene, shape):
    with pytest.raises(ValueError, match=r"structure: expected \(3, R, R, R\) occupancy logits, got"):
        pipeline.run([scene], RunSettings(structure=torch.zeros(shape)))


def test_steps_below_one_are_refused(pipeline, scene):
    with pytest.raises(ValueError, match="steps"):
        pipeline.run([scene], RunSettings(sampling={"steps": 0}))
