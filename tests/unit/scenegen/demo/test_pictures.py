"""Uploads are judged by what they hold, and messages do not show where they lie."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from scenegen.demo.pictures import draw_labels, draw_overlay, draw_pair, read_photo, read_uploaded_labels
from scenegen.demo.prompts import CurrentPicture
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import PALETTE, write_labels
from scenegen.segmentation.prompts import ObjectPrompt

NAME = "my room.jpg"


def saved(tmp_path, image: Image.Image, kind="PNG", **options):
    path = tmp_path / "0123456789abcdef"
    image.save(path, kind, **options)
    return path


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.new("RGB", (40, 30), (1, 2, 3)), "PNG"),
        (Image.new("RGB", (40, 30)), "JPEG"),
        (Image.new("RGBA", (40, 30), (9, 9, 9, 0)), "PNG"),
        (Image.new("P", (40, 30)), "PNG"),
        (Image.new("L", (40, 30)), "PNG"),
    ],
)
def test_a_photo_is_read_whatever_its_name_says(tmp_path, image, kind):
    photo, sent_size = read_photo(saved(tmp_path, image, kind), NAME, 2048)
    assert photo.mode == "RGB" and photo.size == sent_size == (40, 30)


def test_a_photo_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    photo, _ = read_photo(saved(tmp_path, Image.new("RGB", (40, 30)), "JPEG", exif=exif), NAME, 2048)
    assert photo.size == (30, 40)


def test_a_large_photo_is_made_smaller(tmp_path):
    photo, sent_size = read_photo(saved(tmp_path, Image.new("RGB", (400, 300))), NAME, 100)
    assert (photo.size, sent_size) == ((100, 75), (400, 300))


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 pixels in some hundred bytes."""
    data = io.BytesIO()
    Image.new("1", (8, 8)).save(data, "PNG")
    content = bytearray(data.getvalue())
    content[16:24] = (30_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html></html>", "expected a JPEG, PNG or other common image, got a web page"),
        (b"", "expected a JPEG, PNG or other common image, got an empty file"),
        (bomb(), "expected a picture of at most [0-9]+ pixels, got more than"),
    ],
)
def test_what_is_no_photo_is_named_as_its_owner_names_it(tmp_path, content, words):
    path = tmp_path / "0123456789abcdef"
    path.write_bytes(content)
    with pytest.raises(SceneInputError, match=f"{NAME}: {words}") as caught:
        read_photo(path, NAME, 2048)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "kind", "words"),
    [
        (Image.new("RGB", (40, 8)), "PNG", "at least 16 px a side"),
        (Image.new("RGB", (400, 40)), "PNG", "at most 8:1"),
    ],
)
def test_photos_of_unfit_sizes_are_refused(tmp_path, image, kind, words):
    with pytest.raises(SceneInputError, match=words):
        read_photo(saved(tmp_path, image, kind), NAME, 2048)


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("I;16", "PNG"), ("P", "GIF"), ("L", "WEBP")])
def test_photos_of_other_kinds_are_converted(tmp_path, mode, kind):
    photo, sent_size = read_photo(saved(tmp_path, Image.new(mode, (40, 30)), kind), NAME, 2048)
    assert (photo.mode, photo.size, sent_size) == ("RGB", (40, 30), (40, 30))


def two_objects() -> np.ndarray:
    labels = np.zeros((30, 40), np.uint8)
    labels[2:12, 2:12], labels[15:28, 20:38] = 1, 2
    return labels


def test_labels_that_were_smoothed_or_compressed_are_read(tmp_path):
    picture = CurrentPicture(Image.new("RGB", (400, 300)))
    large = Image.fromarray(PALETTE[two_objects()]).resize((400, 300), Image.Resampling.BICUBIC)
    found = read_uploaded_labels(saved(tmp_path, large, "JPEG", quality=85), NAME, picture, 16, None)
    assert len(found.values) == 2 and found.summary.startswith("2 objects")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.fromarray(PALETTE[two_objects()]).resize((80, 60)), "of 40x30 like the picture, got 80x60"),
        (Image.new("RGB", (40, 30)), "all pixels are 0; draw the objects"),
    ],
)  # fmt: skip
def test_unfitting_labels_are_refused(tmp_path, image, words):
    with pytest.raises(SceneInputError, match=words):
        picture = CurrentPicture(Image.new("RGB", (40, 30)))
        read_uploaded_labels(saved(tmp_path, image), NAME, picture, 16, None)


def test_pictures_show_objects_boxes_and_clicks():
    photo = Image.new("RGB", (200, 150), (90, 90, 90))
    labels = np.kron(two_objects(), np.ones((5, 5), np.uint8))
    shown = np.asarray(draw_labels(photo, labels, [1]))
    assert tuple(shown[10, 11]) == tuple(PALETTE[1]), "the outline has the object's colour"
    assert (shown[80:139, 105:189] == 90).all(), "objects that are not shown stay as they are"
    assert draw_pair(photo, labels, 2).size == (2 * round(200 * 320 / 150), 320)
    picture = CurrentPicture(photo)
    picture.add(ObjectPrompt(box=(20, 20, 90, 90), positive=((50, 50),), negative=((60, 60),)), 16)
    overlay = np.asarray(draw_overlay(picture))
    assert tuple(overlay[20, 60]) == tuple(PALETTE[1]) and not (overlay[50, 50] == 90).all()


def test_labels_of_the_photo_before_it_was_made_smaller_are_read(tmp_path):
    picture = CurrentPicture(*read_photo(saved(tmp_path, Image.new("RGB", (301, 200))), NAME, 100))
    assert picture.photo.size == (100, 66)
    labels = np.zeros((200, 301), np.uint8)
    labels[20:120, 30:200] = 1
    path = tmp_path / "labels.png"
    write_labels(labels, path)
    found = read_uploaded_labels(path, "labels.png", picture, 16, None).labels
    assert found.shape == (66, 100) and 1500 < (found == 1).sum() < 2100
