"""A finished scene is known by what it was made from, and by nothing else."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scenegen.batch.finished import origin_in_batch
from scenegen.batch.options import BatchOptions
from scenegen.batch.origin import ORIGIN_KEY, as_settings
from scenegen.checkpoints.identity import checkpoint_identity
from scenegen.export.options import ExportOptions
from scenegen.inputs.layout import detect_scene
from scenegen.inputs.read_options import ReadOptions
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.texturing import TextureSettings


@pytest.fixture
def room(tmp_path) -> Path:
    return _write(tmp_path / "in" / "room", "scene.jpg", "0_mask.png", "1_mask.png")


def _write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"bytes of {name}")
    return folder


def _changes(folder: Path, before: BatchOptions, after: BatchOptions, change=lambda: None) -> list[str]:
    noted = origin_in_batch(detect_scene(folder), before).record()
    change()
    return origin_in_batch(detect_scene(folder), after).changes_from(
        json.loads(json.dumps({ORIGIN_KEY: noted}))
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda room: (room / "scene.jpg").write_text("another"), ["another photo"]),
        (lambda room: (room / "1_mask.png").write_text("redrawn"), ["other masks"]),
        (lambda room: (room / "1_mask.png").unlink(), ["other masks"]),
        (lambda room: (room / "2_mask.png").write_text("one more"), ["other masks"]),
        (lambda room: (room / "notes.txt").write_text("mine"), []),
        (lambda room: os.utime(room / "scene.jpg", (1, 1)), []),
    ],
)
def test_files_count_by_their_content(tmp_path, room, change, words):
    options = BatchOptions(tmp_path / "out")
    assert _changes(room, options, options, lambda: change(room)) == words


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"settings": RunSettings(seed=1)}, ["other settings (seed)"]),
        ({"settings": RunSettings(sampling={"steps": 3})}, ["other settings (sampling)"]),
        ({"settings": RunSettings(texture=TextureSettings(size=64))}, ["other settings (texture.size)"]),
        ({"settings": RunSettings(texture=None)}, ["other settings (texture)"]),
        ({"settings": RunSettings(structure=torch.ones(1, 2, 2, 2))}, ["other settings (structure)"]),
        ({"reading": ReadOptions(min_area=7)}, ["other settings (min_area)"]),
        ({"export": ExportOptions(compress=True), "refine": True}, ["other settings (compress, refine)"]),
        ({"frame": "first"}, ["other settings (frame)"]),
        ({"model": {"checkpoint": "another"}}, ["other settings (checkpoint)"]),
        (
            {"export": ExportOptions(turntable="gaussian"), "formats": ("mp4",)},
            ["other settings (turntable)"],
        ),
        ({"export": ExportOptions(turntable="gaussian"), "formats": ("glb",)}, []),
        ({"export": ExportOptions(device="cuda")}, []),
        ({"output": Path("elsewhere"), "formats": ("obj",)}, []),
        ({"settings": RunSettings(representations=("gaussian",))}, []),
        ({"segmenter": {"segmenter": "grabcut"}}, []),
        ({"reading": ReadOptions(strict=True, max_objects=3)}, []),
    ],
)
def test_settings_count_where_they_change_the_result(tmp_path, room, changed, words):
    before = BatchOptions(
        tmp_path / "out", model={"checkpoint": "one"}, segmenter={"segmenter": "sam2"}, formats=("glb", "mp4")
    )
    assert _changes(room, before, replace(before, **changed)) == words


def test_what_finds_masks_counts_where_it_finds_them(tmp_path):
    folder = _write(tmp_path / "in" / "room", "scene.jpg", "boxes.json")
    before = BatchOptions(tmp_path / "out", segmenter={"segmenter": "sam2"})
    after = replace(before, segmenter={"segmenter": "grabcut"})
    assert _changes(folder, before, after) == ["other settings (segmenter)"]
    assert _changes(folder, before, before, lambda: (folder / "boxes.json").write_text("[]")) == [
        "other boxes"
    ]
    corrected = tmp_path / "out" / "room" / "labels.png"
    assert _changes(folder, before, before, lambda: _write(corrected.parent, corrected.name)) == [
        "other masks"
    ]


def test_views_of_one_scene_have_files_of_the_same_name(tmp_path):
    names = [f"view_{view}/{name}" for view in (0, 1) for name in ("scene.jpg", "0_mask.png")]
    folder = _write(tmp_path / "in" / "room", *names)
    options = BatchOptions(tmp_path / "out")
    assert len(origin_in_batch(detect_scene(folder), options).files) == 4
    change = lambda: (folder / "view_1" / "scene.jpg").write_text("another")  # noqa: E731
    assert _changes(folder, options, options, change) == ["another photo"]


def test_a_named_pipe_is_not_waited_for(tmp_path, room):
    (room / "1_mask.png").unlink()
    os.mkfifo(room / "1_mask.png")
    assert origin_in_batch(detect_scene(room), BatchOptions(tmp_path)) is None


@pytest.mark.parametrize(
    "noted", [None, 3, [], {}, {"files": 1, "settings": {}}, {"files": {}, "settings": None}]
)
def test_a_record_that_says_nothing_shows_no_change(tmp_path, room, noted):
    origin = origin_in_batch(detect_scene(room), BatchOptions(tmp_path))
    assert origin.changes_from({ORIGIN_KEY: noted}) == [] == origin.changes_from({})


def test_settings_of_other_versions_do_not_count(tmp_path, room):
    origin = origin_in_batch(detect_scene(room), BatchOptions(tmp_path))
    record = origin.record()
    del record["settings"]["seed"]
    record["settings"]["of a later version"] = 1
    assert origin.changes_from({ORIGIN_KEY: record}) == []


def test_fields_of_dataclasses_in_dataclasses_are_named(tmp_path):
    named = as_settings(RunSettings(sampling={"steps": 3}))
    assert named["texture.size"] == TextureSettings().size and named["sampling"] == {"steps": 3}
    json.dumps(named)


def test_a_checkpoint_is_known_by_its_content_and_one_on_the_hub_by_its_name(tmp_path):
    first = checkpoint_identity(_write(tmp_path / "a", "pipeline.json", "ckpts/flow.safetensors"))
    assert first == checkpoint_identity(_write(tmp_path / "b", "pipeline.json", "ckpts/flow.safetensors"))
    (tmp_path / "b" / "ckpts" / "flow.safetensors").write_text("trained on")
    assert checkpoint_identity(tmp_path / "b") != first
    assert checkpoint_identity("owner/name") == {"checkpoint": "owner/name"}
    assert checkpoint_identity(tmp_path / "gone") == {}
