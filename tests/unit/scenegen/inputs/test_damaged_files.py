"""Array archives, headers, run lengths and label images that are damaged: one line with the file, no more."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import read_label_image
from scenegen.inputs.scene_folder import read_scene

SIZE = (48, 40)
NOISE = np.random.default_rng(0).integers(0, 2, (1, 40, 48)).astype(np.uint8)


def archive(compression: int) -> bytes:
    """An archive with the array ``masks``."""
    numbers, content = io.BytesIO(), io.BytesIO()
    np.save(numbers, NOISE)
    with zipfile.ZipFile(content, "w", compression) as file:
        file.writestr("masks.npy", numbers.getvalue())
    return content.getvalue()


def damaged(compression: int) -> bytes:
    """The same with other bytes in the middle of what is compressed."""
    content = bytearray(archive(compression))
    content[80:120] = b"\xff" * 40
    return bytes(content)


def encrypted() -> bytes:
    """The same, marked as encrypted in both headers."""
    content = bytearray(archive(zipfile.ZIP_STORED))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", content, content.index(mark) + offset, 1)
    return bytes(content)


def shape_of_truth_values() -> bytes:
    """An array whose header has True in place of a number."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (True, 40, 48), }"
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(40 * 48)


def runs_of_float_size() -> bytes:
    """COCO annotations whose sizes are floats that equal the photo's."""
    runs = {"size": [40.0, 48.0], "counts": [100, 200, 1620]}
    image = {"id": 1, "file_name": "scene.png", "width": 48, "height": 40}
    return json.dumps({"images": [image], "annotations": [{"image_id": 1, "segmentation": runs}]}).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("masks.npz", damaged(zipfile.ZIP_DEFLATED), id="deflated"),
        pytest.param("masks.npz", damaged(zipfile.ZIP_LZMA), id="lzma"),
        pytest.param("masks.npz", encrypted(), id="encrypted"),
        pytest.param("masks.npy", shape_of_truth_values(), id="truth values"),
        pytest.param("coco.json", runs_of_float_size(), id="float size"),
    ],
)
def test_damaged_masks_are_named_in_one_line(tmp_path, name, content):
    Image.new("RGB", SIZE, (90, 120, 60)).save(tmp_path / "scene.png")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SceneInputError) as error:
        read_scene(tmp_path)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_an_archive_that_is_whole_is_read(tmp_path):
    Image.new("RGB", SIZE, (90, 120, 60)).save(tmp_path / "scene.png")
    (tmp_path / "masks.npz").write_bytes(archive(zipfile.ZIP_DEFLATED))
    (scene,) = read_scene(tmp_path)
    assert len(scene.masks) == 1


@pytest.mark.parametrize("low", [-5, -1])
def test_labels_without_any_area_are_refused(low):
    numbers = np.zeros((40, 48), np.int32)
    numbers[5:20, 5:20] = low
    with pytest.raises(SceneInputError, match="expected"):
        read_label_image(Image.fromarray(numbers), where="labels.tiff")


def test_dithered_masks_are_refused_in_words():
    dithered = Image.fromarray((np.indices((40, 48)).sum(axis=0) % 2 * 255).astype(np.uint8)).convert("1")
    with pytest.raises(SceneInputError, match="fill each object with one colour|expected"):
        read_label_image(dithered, where="mask.png")
