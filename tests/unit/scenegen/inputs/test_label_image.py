"""Masks as a label image, and back."""

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from scenegen.inputs.label_image import PALETTE, is_as_written, label_map, read_labels, write_labels
from scenegen.inputs.scene_folder import read_photo

HEIGHT, WIDTH = 24, 40


def _masks(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes):
        mask[y0:y1, x0:x1] = True
    return masks


def test_smaller_masks_lie_over_larger_ones_whatever_their_order():
    small, large = (5, 5, 8, 8), (2, 2, 20, 20)
    for boxes in ((small, large), (large, small)):
        labels = label_map(_masks(*boxes))
        assert labels[6, 6] == boxes.index(small) + 1
        assert labels[3, 3] == boxes.index(large) + 1
        assert labels[0, 0] == 0


def test_covered_masks_lose_their_label():
    labels = label_map(_masks((0, 0, 10, 4), (0, 0, 5, 4), (5, 0, 10, 4)))
    assert np.unique(labels).tolist() == [0, 2, 3]


def test_written_labels_are_read_as_the_same_masks(tmp_path):
    masks = _masks((20, 1, 30, 12), (1, 1, 12, 20), (14, 14, 18, 18))
    Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(tmp_path / "room.png")
    write_labels(label_map(masks), tmp_path / "new" / "labels.png")
    (images,) = read_photo(tmp_path / "room.png", tmp_path / "new" / "labels.png")
    assert images.object_ids == (0, 1, 2)
    assert (np.stack(images.masks) == masks).all()


def test_labels_are_known_again_until_somebody_changes_them(tmp_path):
    path = tmp_path / "labels.png"
    labels = label_map(_masks((20, 1, 30, 12), (1, 1, 12, 20)))
    write_labels(labels, path)
    assert is_as_written(path)
    image = Image.open(path)
    image.copy().save(path)  # as a paint program saves it: the same labels, without the note
    assert not is_as_written(path)
    write_labels(labels, path)
    changed, note = Image.open(path), PngInfo()
    for key, value in changed.text.items():
        note.add_text(key, value)
    changed.putpixel((0, 0), 5)
    changed.save(path, pnginfo=note)
    assert not is_as_written(path)
    path.write_text("no picture")
    assert not is_as_written(path)


def test_64_labels_have_colours_of_their_own():
    colours = PALETTE.astype(int)
    assert colours[0].tolist() == [0, 0, 0] and len(colours) == 65
    distance = np.abs(colours[:, None] - colours[None]).max(axis=-1) + 999 * np.eye(65, dtype=int)
    assert distance.min() >= 16


def test_labels_survive_a_paint_program_that_saves_colours(tmp_path):
    labels = np.arange(65, dtype=np.uint8).reshape(5, 13)
    write_labels(labels, tmp_path / "labels.png")
    image = Image.open(tmp_path / "labels.png")
    for mode in ("P", "RGB", "RGBA"):
        assert (read_labels(image.convert(mode)) == labels).all()


def test_colours_of_ones_own_come_after_those_of_the_palette():
    rgb = np.array([[(255, 0, 0), (1, 2, 3), (0, 0, 0), (238, 130, 238), (1, 2, 4)]], np.uint8)
    labels = read_labels(Image.fromarray(rgb))[0].tolist()
    assert labels[2] == 0
    assert labels[0] == 1 and labels[3] == 23
    assert 64 < labels[1] < labels[4]


def test_greys_are_labels_in_every_mode():
    grey = Image.fromarray(np.array([[0, 192, 128, 3]], np.uint8))
    for mode in ("L", "RGB", "LA"):
        assert read_labels(grey.convert(mode)).tolist() == [[0, 192, 128, 3]]
