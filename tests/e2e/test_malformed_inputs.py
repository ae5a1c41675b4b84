"""Every malformed photo, mask and folder gives one line that names what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from scenegen.inputs.layout import find_scene_folders
from tests.e2e.malformed import Case, assert_one_line, scene_case

PHOTO_SIZE = (48, 36)


def grey(level: int, size: tuple[int, int] = PHOTO_SIZE) -> Image.Image:
    """A picture of one level."""
    return Image.new("L", size, level)


CASES: dict[str, Case] = {
    "cut-out cut short": scene_case(
        "0.png: expected a whole image, reading stopped",
        lambda i: i.image("0.png", (i.scene / "0.png").read_bytes()[:60]),
    ),
    "photo is HTML": scene_case(
        "scene.jpg: expected a JPEG, PNG or other common image, got a web page",
        lambda i: i.image("scene.jpg", b"<!doctype html>"),
    ),
    "photo of one pixel": scene_case(
        "scene.jpg: expected a photo of at least 16 px a side",
        lambda i: i.image("scene.jpg", grey(9, (1, 1))),
    ),
    "photo a thin strip": scene_case(
        "scene.jpg: expected a photo of at least 16 px a side and at most 8:1, got 400x20",
        lambda i: i.image("scene.jpg", grey(9, (400, 20))),
    ),
    "mask of another size": scene_case(
        "1_mask.png: expected a mask of 48x36 like the photo, got 36x48",
        lambda i: i.image("1_mask.png", grey(255, (36, 48))),
    ),
    "mask all black": scene_case(
        "1_mask.png: expected pixels above 0 on the object, the mask is empty",
        lambda i: i.image("1_mask.png", grey(0)),
    ),
    "cut-out fully transparent": scene_case(
        "1.png: expected opaque pixels (alpha above 204), found none",
        lambda i: i.image("1.png", Image.new("RGBA", (9, 9))),
    ),
    "cut-out opaque and of another size": scene_case(
        "1.png: expected a cut-out with transparency (RGBA), got L without",
        lambda i: i.image("1.png", grey(9, (9, 9))),
    ),
    "two photos": scene_case(
        "expected one photo, found scene.jpg and scene.png", lambda i: i.image("scene.png", grey(9))
    ),
    "two masks of one object": scene_case(
        "01_mask.png: expected one file for object 1, found 1_mask.png too",
        lambda i: i.image("01_mask.png", grey(9)),
    ),
    "labels of another size": scene_case(
        "labels.png: expected labels of 48x36 like the photo, got 9x9", lambda i: i.labels(grey(1, (9, 9)))
    ),
    "labels all zero": scene_case(
        "labels.png: expected a label above 0 for each object, all pixels are 0", lambda i: i.labels(grey(0))
    ),
    "labels in the colours of a photo": scene_case(
        "labels.png: expected areas of one value or colour per object, got 1728 values",
        lambda i: i.labels(
            Image.frombytes("RGB", PHOTO_SIZE, b"".join(k.to_bytes(3, "big") for k in range(1, 1729)))
        ),
    ),
    "labels smoothed": scene_case(
        "labels.png: expected areas of one value or colour per object, got 256 values",
        lambda i: i.labels(Image.fromarray(np.arange(48 * 36).reshape(36, 48).astype(np.uint8))),
    ),
    "labels truncated": scene_case(
        "labels.png: expected a JPEG, PNG or other common image, got other content",
        lambda i: i.labels(b"\x89PNG\r\n\x1a\n"),
    ),
    "labels beside masks": scene_case(
        "labels.png: expected either labels.png or <k>_mask.png files, found both",
        lambda i: i.image("labels.png", grey(1)),
    ),
    "input folder missing": scene_case(
        "gone: expected a folder, found nothing", lambda i: find_scene_folders(i.root / "gone")
    ),
    "input folder empty": scene_case(
        "expected folders with scene.jpg and 0.png, 0_mask.png, ..., found no folder",
        lambda i: find_scene_folders(i.root),
    ),
    "input is a file": scene_case(
        "scene.jpg: expected a folder, found a file", lambda i: find_scene_folders(i.scene / "scene.jpg")
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_malformed_inputs_gives_one_line(inputs, name):
    assert_one_line(CASES[name], inputs)
