"""The pipeline as a library: order of objects, progress, precomputed state, bad arguments."""

import socket

import numpy as np
import pytest
import torch

from scenegen.inputs.scene_folder import read_scene
from scenegen.pipelines.pipeline import SceneGenPipeline


@pytest.fixture(scope="module")
def pipeline(shared_checkpoint) -> SceneGenPipeline:
    return SceneGenPipeline.from_pretrained(shared_checkpoint)


@pytest.fixture
def scene(tmp_path, write_scene):
    """Photo, cut-outs and masks of three objects; the last has the largest mask."""
    (images,) = read_scene(write_scene(tmp_path / "room", 3))
    return images.photo, images.cutouts, images.masks


def test_result_comes_in_the_callers_order(pipeline, scene):
    photo, cutouts, masks = scene
    straight = pipeline.run(photo, cutouts, masks, object_ids=[7, 8, 9])
    order = [2, 0, 1]
    turned = pipeline.run(
        photo,
        [cutouts[i] for i in order],
        [masks[i] for i in order],
        object_ids=[[7, 8, 9][i] for i in order],
    )
    assert [item.object_id for item in straight.objects] == [7, 8, 9]
    assert [item.object_id for item in turned.objects] == [9, 7, 8]
    assert straight.query_id == turned.query_id == 9
    for item, index in zip(turned.objects, order, strict=True):
        torch.testing.assert_close(item.pose, straight.objects[index].pose)
        torch.testing.assert_close(item.logits, straight.objects[index].logits)


def test_objects_see_each_other(pipeline, scene):
    photo, cutouts, masks = scene
    together = pipeline.run(photo, cutouts, masks)
    alone = pipeline.run(photo, cutouts[2:], masks[2:])
    assert not torch.allclose(together.objects[2].logits, alone.objects[0].logits)


def test_inputs_are_left_unchanged(pipeline, scene):
    photo, cutouts, masks = scene
    before = [np.asarray(image).copy() for image in [photo, *cutouts, *masks]]
    pipeline.run(photo, cutouts, masks)
    for image, copy in zip([photo, *cutouts, *masks], before, strict=True):
        np.testing.assert_array_equal(np.asarray(image), copy)


def test_progress_and_stage_times_are_reported(pipeline, scene):
    calls = []
    result = pipeline.run(*scene, steps=3, on_step=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert list(result.timings) == ["condition", "sample", "decode", "mesh", "colour"]
    assert result.settings["steps"] == 3


def test_settings_of_the_run_replace_those_of_the_checkpoint(pipeline, scene):
    changed = pipeline.run(*scene, sampling={"steps": 3, "cfg_strength": 0.0}, steps=None).settings
    assert (changed["steps"], changed["cfg_strength"], changed["rescale_t"]) == (3, 0.0, 3.0)
    assert pipeline.run(*scene, sampling={"steps": 3}, steps=1).settings["steps"] == 1


def test_global_random_state_is_not_used(pipeline, scene):
    torch.manual_seed(1)
    first = pipeline.run(*scene, seed=5)
    torch.manual_seed(2)
    second = pipeline.run(*scene, seed=5)
    torch.testing.assert_close(first.objects[0].logits, second.objects[0].logits, rtol=0, atol=0)


def test_local_checkpoints_never_touch_the_network(shared_checkpoint, scene, monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("network access")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    SceneGenPipeline.from_pretrained(shared_checkpoint).run(*scene)


@pytest.mark.parametrize(
    ("keep", "ids", "expected"),
    [
        (slice(0, 0), None, "expected asset images and as many masks and ids, got 0 images, 3 masks"),
        (slice(0, 2), None, "got 2 images, 3 masks, 2 ids"),
        (slice(None), [1, 2], "got 3 images, 3 masks, 2 ids"),
        (slice(None), [1, 2, 1], r"expected different object ids, got \[1, 2, 1\]"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(pipeline, scene, keep, ids, expected):
    photo, cutouts, masks = scene
    with pytest.raises(ValueError, match=expected):
        pipeline.run(photo, cutouts[keep], masks, object_ids=ids)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda mask: np.zeros_like(mask), r"got shape \(36, 48\) with 0 such pixels for object 1"),
        (lambda mask: mask.T, r"expected masks of \(36, 48\) like photo 0, .* got shape \(48, 36\)"),
    ],
)
def test_masks_that_do_not_fit_the_photo_are_refused(pipeline, scene, change, expected):
    photo, cutouts, masks = scene
    with pytest.raises(ValueError, match=expected):
        pipeline.run(photo, cutouts, [masks[0], change(masks[1]), masks[2]])


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 0.5])
def test_seed_that_no_generator_takes_is_refused(pipeline, scene, seed):
    with pytest.raises(ValueError, match=r"seed: expected a whole number from -2\^63 to 2\^64 - 1, got"):
        pipeline.run(*scene, seed=seed)


@pytest.mark.parametrize("shape", [(2, 8, 8, 8), (3, 8, 8), (3, 8, 8, 4)])
def test_given_structure_of_another_shape_is_refused(pipeline, scene, shape):
    with pytest.raises(ValueError, match=r"structure: expected \(3, R, R, R\) occupancy logits, got"):
        pipeline.run(*scene, structure=torch.zeros(shape))


def test_steps_below_one_are_refused(pipeline, scene):
    with pytest.raises(ValueError, match="steps"):
        pipeline.run(*scene, steps=0)
