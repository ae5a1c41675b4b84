"""Masks as a label image, and back."""

import io
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage

from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import (
    MAX_LABELS,
    PALETTE,
    is_as_written,
    label_map,
    read_label_image,
    write_labels,
)
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


def test_every_label_has_a_colour_of_its_own():
    colours = PALETTE.astype(int)
    assert len(colours) == MAX_LABELS + 1 and colours[0].tolist() == [0, 0, 0]
    distance = np.abs(colours[:, None] - colours[None]).max(axis=-1) + 999 * np.eye(len(colours), dtype=int)
    assert distance.min() >= 27 and distance[:65, :65].min() >= 36


@pytest.mark.parametrize("count", [23, 24, 40, 64, 255])
def test_labels_survive_a_picture_that_a_paint_program_saves_in_colours(tmp_path, count):
    labels = np.zeros((96, 96), np.uint8)
    labels[:, : 96 // 6 * 6] = np.kron(np.arange(256).reshape(16, 16), np.ones((6, 6), np.uint8))
    labels[labels > count] = 0
    write_labels(labels, tmp_path / "labels.png")
    image = Image.open(tmp_path / "labels.png")
    for mode in ("P", "RGB", "RGBA"):
        read = read_label_image(image.convert(mode), max_objects=MAX_LABELS)
        assert (read.labels == labels).all() and read.values == tuple(range(1, count + 1))
        assert read.count_text == f"{count} objects" and not (read.dropped or read.cleaned)


def test_labels_whose_colours_are_equally_bright_stay_two_objects():
    labels = np.zeros((30, 60), np.uint8)
    labels[5:20, 5:20], labels[5:20, 30:45] = 7, 14
    assert np.ptp(np.asarray(Image.fromarray(PALETTE[labels]).convert("L"))[labels > 0]) == 0
    for image in (Image.fromarray(PALETTE[labels]), _jpeg(Image.fromarray(PALETTE[labels]), 85)):
        assert read_label_image(image).values == (7, 14)


def test_colours_of_ones_own_come_after_those_of_the_palette():
    rgb = np.kron(
        np.array([[(255, 0, 0), (1, 2, 3), (0, 0, 0), (238, 130, 238), (1, 2, 4)]], np.uint8),
        np.ones((5, 5, 1), np.uint8),
    )
    labels = read_label_image(Image.fromarray(rgb)).labels[2, 2::5].tolist()
    assert labels[2] == 0
    assert labels[0] == 1 and labels[3] == 23
    assert MAX_LABELS < labels[1] < labels[4]


def test_greys_are_labels_in_every_mode():
    grey = Image.fromarray(np.repeat(np.array([[0, 192, 128, 3]], np.uint8), 5, axis=0).repeat(5, axis=1))
    for mode in ("L", "RGB", "LA"):
        assert read_label_image(grey.convert(mode)).labels[2, 2::5].tolist() == [0, 192, 128, 3]
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 300)
    assert read_label_image(sixteen).values == (900, 38400, 57600)


def test_palette_that_was_made_from_colours_is_read_by_its_colours():
    labels = np.zeros((30, 60), np.uint8)
    labels[5:20, 5:20], labels[5:25, 30:50] = 2, 1
    shuffled = Image.fromarray(np.array([2, 0, 1], np.uint8)[labels])
    shuffled.putpalette(PALETTE[[1, 2, 0]].tobytes())
    assert (read_label_image(shuffled).labels == labels).all()


def test_transparent_background_is_the_background():
    labels = np.zeros((30, 60), np.uint8)
    labels[5:20, 5:20] = 2
    rgba = np.dstack([PALETTE[labels], np.where(labels, 255, 0).astype(np.uint8)])
    rgba[labels == 0, :3] = 255
    assert (read_label_image(Image.fromarray(rgba)).labels == labels).all()


def test_soft_edges_in_alpha_end_at_the_background():
    labels = _drawing(1, 2, 3)
    alpha = _smooth(Image.fromarray(np.where(labels, 255, 0).astype(np.uint8)))
    colours = ndimage.maximum_filter(labels, 9)  # under the soft edges, too
    image = Image.fromarray(PALETTE[colours])
    image.putalpha(alpha)
    read = read_label_image(image)
    assert read.values == (1, 2, 3) and read.cleaned
    assert ((read.labels > 0) == (labels > 0)).mean() > 0.99


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=quality)
    return Image.open(buffer)


def _drawing(*values: int) -> np.ndarray:
    """Labels (240, 320): discs of 35 pixels' radius, one of which touches another."""
    rows, columns = np.mgrid[:240, :320]
    labels = np.zeros((240, 320), np.uint8)
    for value, (x, y) in zip(values, ((60, 70), (128, 75), (220, 160), (250, 60), (70, 180)), strict=False):
        labels[(columns - x) ** 2 + (rows - y) ** 2 < 35**2] = value
    return labels


def _smooth(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1.5))


def _resized(image: Image.Image) -> Image.Image:
    return image.resize((213, 160), Image.Resampling.LANCZOS).resize(image.size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    "spoil",
    [_smooth, _resized, *(partial(_jpeg, quality=quality) for quality in (95, 75, 40))],
    ids=["smoothed", "resized", "JPEG 95", "JPEG 75", "JPEG 40"],
)
@pytest.mark.parametrize("kind", ["palette", "own colours", "greys"])
def test_noise_gives_no_objects_and_moves_edges_by_little(spoil, kind):
    if kind == "greys":
        labels = _drawing(80, 160, 240)
        image = Image.fromarray(labels)
    else:
        labels = _drawing(1, 7, 14, 20, 33)
        colours = PALETTE.copy()
        if kind == "own colours":
            colours[[1, 7, 14, 20, 33]] = (
                (31, 119, 180),
                (214, 39, 40),
                (44, 160, 44),
                (188, 90, 34),
                (9, 90, 90),
            )
        image = Image.fromarray(colours[labels])
    noisy = spoil(image)
    assert len(np.unique(np.asarray(noisy).reshape(240 * 320, -1), axis=0)) > 40
    read = read_label_image(noisy)
    drawn = [labels == value for value in np.unique(labels[labels > 0])]
    assert read.cleaned and len(read.values) == len(drawn)
    if kind == "palette":
        assert read.values == (1, 7, 14, 20, 33)
    overlaps = [max((mask & found).sum() / (mask | found).sum() for found in read.masks) for mask in drawn]
    assert min(overlaps) > 0.93
    assert f"{len(drawn)} objects" in read.summary and "nearest" in read.summary


def test_specks_are_left_out_below_an_area_that_can_be_set():
    labels = _drawing(1, 2, 3)
    labels[230:233, 300:303], labels[10, 300], labels[120:124, 20:24] = 1, 9, 2
    read = read_label_image(Image.fromarray(labels), min_area=12)
    assert read.values == (1, 2, 3) and [(item.label, item.is_whole) for item in read.dropped] == [
        (1, False),
        (9, True),
    ]
    assert read.summary == (
        "3 objects, told apart by grey values; left out 2 specks below 12 pixels, "
        "together 10 pixels, among them all of label 9"
    )


def test_photo_is_no_label_image():
    rows, columns = np.mgrid[:120, :160]
    photo = np.stack([rows * 2, columns, (rows * columns) % 251], axis=-1).astype(np.uint8)
    with pytest.raises(
        SceneInputError, match="mine: expected areas of one value or colour per object, got 1"
    ):
        read_label_image(Image.fromarray(photo), where="mine")


def test_photo_of_plain_surfaces_is_no_label_image():
    walls = Image.fromarray(np.where(_drawing(1, 2, 3) > 0, 90, 200).astype(np.uint8)).convert("RGB")
    with pytest.raises(SceneInputError, match="expected black on the background, got 0.0 % of black, like a"):
        read_label_image(_jpeg(_smooth(walls), 80))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_objects": 2}, "expected at most 2 objects, got 3; split the scene, or raise --max-objects"),
        ({"min_area": 9000}, "expected an object of at least 9000 pixels, the largest area has"),
    ],
)
def test_too_many_or_too_small_objects_are_refused(settings, says):
    with pytest.raises(SceneInputError, match=says):
        read_label_image(Image.fromarray(PALETTE[_drawing(1, 2, 3)]), **settings)
