"""Which scenes of a batch wait for masks, and what becomes of those whose masks are not found."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenegen.batch.options import BatchOptions
from scenegen.batch.scenes import needs_masks, segment_scenes
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
    failed = segment_scenes([broken, good], options, _FindsTheMiddle)
    assert list(failed) == [broken.source]
    assert failed[broken.source].status == "failed"
    assert "scene.png: expected a JPEG, PNG or other common image" in failed[broken.source].error
    assert caplog.messages == [failed[broken.source].error]
    labels = np.asarray(Image.open(tmp_path / "out" / "good" / "labels.png"))
    assert (labels[8:16, 8:16] == 1).all() and labels.sum() == 64
