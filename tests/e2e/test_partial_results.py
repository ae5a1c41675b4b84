"""What the caller hears and sees of a scene before it is finished, and that the scene is the same."""

import threading
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
import torch
from torch import nn

from scenegen.export.glb import glb_bytes
from scenegen.export.meshes import build_scene
from scenegen.inputs.scene_folder import read_scene
from scenegen.inputs.scene_images import SceneImages
from scenegen.photo.camera_fit import fit_photo_camera
from scenegen.pipelines import hole_closing, preview, surfaces
from scenegen.pipelines.decoding import occupancy_to_mesh
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.progress import Cancelled, Progress, ProgressReporter
from scenegen.pipelines.result import SceneResult
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.texturing import TextureSettings

STAGES = ["condition", "structure", "latents", "meshes", "textures"]


@pytest.fixture(scope="module")
def pipeline(shared_appearance_checkpoint) -> SceneGenPipeline:
    return SceneGenPipeline.from_pretrained(shared_appearance_checkpoint)


@pytest.fixture
def scene(tmp_path, write_scene) -> SceneImages:
    """A photo with three objects; the last has the largest mask, so work is in another order."""
    (images,) = read_scene(write_scene(tmp_path / "room", 3))
    return images


@pytest.fixture
def settings() -> RunSettings:
    """Small boxes of different sizes, the second object with an empty structure."""
    logits = torch.full((3, 8, 8, 8), -1.0)
    logits[0, 2:5, 2:4, 3:5] = 1.0
    logits[2, 2:5, 2:6, 3:5] = 1.0
    return RunSettings(texture=TextureSettings(source="mesh", size=64, fill_holes=False), structure=logits)


def _glb(result: SceneResult) -> bytes:
    return glb_bytes(build_scene(result))


def test_stages_follow_each_other_and_each_is_finished(pipeline, scene, settings):
    calls: list[Progress] = []
    pipeline.run([scene], settings, on_progress=calls.append)
    stages = [(stage, list(parts)) for stage, parts in groupby(calls, lambda call: call.stage)]
    assert [stage for stage, _ in stages] == STAGES
    for stage, parts in stages:
        assert [part.done for part in parts] == list(range(parts[0].total + 1)), stage
        assert len({part.total for part in parts}) == 1, stage


def test_plain_surfaces_come_before_the_latents_and_objects_as_they_are_textured(pipeline, scene, settings):
    events = []
    result = pipeline.run(
        [scene],
        settings,
        on_progress=lambda progress: events.append((progress.stage, progress.done)),
        on_preview=lambda preview: events.append(preview),
        on_object=lambda index, item: events.append((index, item)),
    )
    at = next(index for index, event in enumerate(events) if not isinstance(event, tuple))
    early_look = events[at]
    assert events[at - 1][0] == "structure" and events[at + 1] == ("latents", 0)
    assert [item.object_id for item in early_look.objects] == [
        0,
        1,
        2,
    ] and early_look.query_id == result.query_id
    for early, final in zip(early_look.objects, result.objects, strict=True):
        assert torch.equal(early.pose, final.pose) and torch.equal(early.logits, final.logits)
    first, empty, last = early_look.objects
    assert empty.mesh is None and empty.problem == "the structure decoder left the grid empty"
    for item in (first, last):
        assert item.mesh.visual.kind == "vertex" and item.mesh.is_watertight and item.problem is None
    finished = [event for event in events if isinstance(event, tuple) and isinstance(event[0], int)]
    assert [index for index, _ in finished] == [2, 0]  # the query first; the empty one never
    for index, item in finished:
        assert item.object_id == index and item.mesh is result.objects[index].mesh


def test_the_scene_has_the_same_bytes_whoever_looks_on(pipeline, scene, settings):
    seen = []
    alone = pipeline.run([scene], settings)
    watched = pipeline.run(
        [scene],
        settings,
        on_progress=seen.append,
        should_stop=lambda: False,
        on_preview=lambda preview: seen.append(_glb(preview)),
        on_object=lambda index, item: seen.append(item.mesh.export(file_type="glb")),
    )
    assert _glb(watched) == _glb(alone)
    assert sum(isinstance(item, bytes) for item in seen) == 3
    assert watched.settings == alone.settings and set(watched.timings) - set(alone.timings) == {"preview"}


def test_one_camera_is_fitted_for_holes_preview_and_colours(pipeline, scene, settings, monkeypatch):
    settings = replace(settings, structure=None)  # whose holes are closed where the photo shows none
    fitted = []

    def fit(*arguments):
        fitted.append(replace(fit_photo_camera(*arguments), modal_overlap=0.5))  # shapes of random networks
        return fitted[-1]

    for module in (hole_closing, surfaces):
        monkeypatch.setattr(module, "fit_photo_camera", fit)
    previews = []
    result = pipeline.run([scene], settings, on_preview=previews.append)
    assert len(fitted) == 1
    for made in (previews[0], result):
        assert np.array_equal(made.camera.extrinsics, fitted[0].extrinsics)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("done", [0, 1])
def test_a_run_stops_in_every_stage_and_the_next_one_is_whole(pipeline, scene, settings, stage, done):
    calls: list[Progress] = []
    objects = []
    with pytest.raises(Cancelled):
        pipeline.run(
            [scene],
            settings,
            on_progress=calls.append,
            should_stop=lambda: (calls[-1].stage, calls[-1].done) == (stage, done),
            on_object=lambda index, item: objects.append(index),
        )
    assert (calls[-1].stage, calls[-1].done) == (stage, done) and not objects
    assert pipeline.run([scene], settings).objects[2].mesh.visual.kind == "texture"


def test_a_run_stops_before_its_preview_is_shown(pipeline, scene, settings, monkeypatch):
    last, drawn = [], []

    def draw(*arguments):
        drawn.append(occupancy_to_mesh(*arguments))
        return drawn[-1]

    monkeypatch.setattr(preview, "occupancy_to_mesh", draw)
    with pytest.raises(Cancelled):
        pipeline.run(
            [scene],
            settings,
            on_progress=last.append,
            should_stop=lambda: len(drawn) == 1,
            on_preview=lambda preview: pytest.fail("the preview is shown"),
        )
    assert last[-1].stage == "structure" and len(drawn) == 1


def test_a_run_stops_within_a_network_and_leaves_it_as_it_was(pipeline, scene, settings):
    """One step of a large network takes long on a CPU, so the caller is asked between its blocks."""
    calls, asked = [], []

    def should_stop() -> bool:
        asked.append(calls[-1])
        return len(asked) - asked.index(calls[-1]) == 3 and calls[-1] == Progress("structure", 1, 2)

    with pytest.raises(Cancelled):
        pipeline.run([scene], settings, on_progress=calls.append, should_stop=should_stop)
    assert calls[-1] == Progress("structure", 1, 2) and asked.count(calls[-1]) == 3
    with pipeline.networks.use("sparse_structure_flow_model") as flow:
        assert not any(module._forward_pre_hooks for module in flow.modules())


def test_stopping_one_thread_leaves_another_that_uses_the_same_network():
    """Two runs may share the networks."""
    network, answers = nn.Sequential(nn.Linear(2, 2)), []
    with ProgressReporter(should_stop=lambda: True).watching(network):
        with pytest.raises(Cancelled):
            network(torch.zeros(1, 2))
        other = threading.Thread(target=lambda: answers.append(network(torch.zeros(1, 2))))
        other.start()
        other.join()
    assert len(answers) == 1
