"""Which scenes of a batch wait for masks, and what becomes of those whose masks are not found."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safe_files.limits import MAX_PIXELS
from scenegen.batch.engines.local import LocalEngine
from scenegen.batch.options import BatchOptions
from scenegen.batch.scenes import needs_masks
from scenegen.batch.work import MaskWork, SceneWork, scene_task
from scenegen.inputs.layout import InputScene, detect_scene


def _scene(folder: Path, *names: str) -> InputScene:
    for name in ("scene.png", *names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return detect_scene(folder)


@pytest.mark.parametrize(
    ("names", "with_boxes_only", "with_auto_masks"),
    [
        pytest.param(["0_mask.png"], False, False, id="masks"),
        pytest.param(["0_mask.png", "boxes.json"], False, False, id="masks and boxes"),
        pytest.param(["labels.png"], False, False, id="label image"),
        pytest.param(["boxes.json"], True, True, id="boxes"),
        pytest.param([], False, True, id="photo alone"),
        pytest.param(["labels.png", "masks.npy"], False, False, id="a fault, which reading reports"),
    ],
)
def test_masks_are_needed_where_there_are_none_and_they_can_be_found(
    tmp_path, names, with_boxes_only, with_auto_masks
):
    scene = _scene(tmp_path / "room", *names)
    assert needs_masks(scene, BatchOptions(tmp_path)) is with_boxes_only
    assert needs_masks(scene, BatchOptions(tmp_path, auto_masks=True)) is with_auto_masks


class _FindsTheMiddle:
    def segment_everything(self, photo: Image.Image) -> np.ndarray:
        masks = np.zeros((1, photo.height, photo.width), bool)
        masks[0, 8:16, 8:16] = True
        return masks


def test_scenes_whose_masks_are_not_found_are_reported_and_the_others_go_on(tmp_path, caplog):
    good, broken = (_scene(tmp_path / "in" / name) for name in ("good", "broken"))
    Image.new("RGB", (24, 20)).save(good.photos[0].photo)
    options = BatchOptions(tmp_path / "out", auto_masks=True)
    work = MaskWork(_FindsTheMiddle, options, "cpu", MAX_PIXELS)
    found = {record.id: record for record in LocalEngine().run(map(scene_task, [broken, good]), work)}
    assert {name: record.status for name, record in found.items()} == {"broken": "failed", "good": "done"}
    assert "scene.png: expected a JPEG, PNG or other common image" in found["broken"].error
    assert caplog.messages == [found["broken"].error]
    labels = np.asarray(Image.open(tmp_path / "out" / "good" / "labels.png"))
    assert (labels[8:16, 8:16] == 1).all() and labels.sum() == 64


class _Filled:
    """A pipeline for whose scenes the GPU has too little memory, unless networks are loaded one by one."""

    def __init__(self, low_vram: bool, loads: list[bool]) -> None:
        loads.append(low_vram)
        self._low_vram = low_vram

    def run(self, *arguments, **keywords):
        raise RuntimeError("stopped here") if self._low_vram else torch.OutOfMemoryError("CUDA out of memory")


def test_a_scene_that_fills_the_gpu_is_tried_once_more_in_parts(tmp_path, caplog):
    scenes = [_scene(tmp_path / name, "0_mask.png") for name in ("a", "b")]
    mask = np.zeros((20, 24), np.uint8)
    mask[5:15, 5:15] = 255
    for scene in scenes:
        Image.new("RGB", (24, 20)).save(scene.source / "scene.png")
        Image.fromarray(mask).save(scene.source / "0_mask.png")
    loads = []
    options = BatchOptions(tmp_path / "out")
    work = SceneWork(lambda low_vram: _Filled(low_vram, loads), options, "cpu", False, MAX_PIXELS)
    records = list(LocalEngine().run(map(scene_task, scenes), work))
    assert [record.error for record in records] == ["RuntimeError: stopped here"] * 2
    assert loads == [False, True, False, True]
    assert caplog.text.count("too little GPU memory; tried once more as with --low-vram") == 2
