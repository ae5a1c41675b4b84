"""What people have: photos and masks in the kinds, names and layouts that cameras and programs make.

`ACCEPTED` is read as it is, and its objects are those that were drawn. `REFUSED` cannot be used, and its one
line says what to do.
"""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from scenegen.inputs.coco_masks import compress_counts, encode_counts
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import PALETTE
from scenegen.inputs.layout import detect_scene, find_scene_folders
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_folder import read_layout, read_photo, read_scene
from scenegen.inputs.scene_images import SceneImages

WIDTH, HEIGHT = 96, 64
ORIENTATION = 0x0112
COUNT = 3


def photo() -> Image.Image:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    rgb = np.stack([rows * 3, columns * 2, 255 - rows - columns], axis=-1).astype(np.uint8)
    return Image.fromarray(rgb)


def masks() -> np.ndarray:
    """(3, H, W) bool: three boxes that do not touch."""
    found = np.zeros((COUNT, HEIGHT, WIDTH), bool)
    found[0, 8:30, 6:28], found[1, 10:50, 36:60], found[2, 30:56, 68:90] = True, True, True
    return found


def labels(values: tuple[int, ...] = (1, 2, 3), kind: type = np.uint8) -> np.ndarray:
    found = np.zeros((HEIGHT, WIDTH), kind)
    for value, mask in zip(values, masks(), strict=True):
        found[mask] = value
    return found


def picture(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


def coloured() -> Image.Image:
    return Image.fromarray(PALETTE[labels()])


def cutout(mask: np.ndarray) -> Image.Image:
    image = photo()
    image.putalpha(picture(mask))
    return image


def scene(
    name: str = "scene.jpg", kind: str | None = None, image: Image.Image | None = None, **save: Any
) -> Callable[[Path], None]:
    """A photo of some name and kind beside ordinary masks."""

    def make(folder: Path) -> None:
        (image or photo()).save(folder / name, kind, **save)
        for index, mask in enumerate(masks()):
            picture(mask).save(folder / f"{index}_mask.png")

    return make


def beside(*writers: Callable[[Path], Any], name: str = "scene.jpg") -> Callable[[Path], None]:
    """An ordinary photo beside unusual masks."""

    def make(folder: Path) -> None:
        photo().save(folder / name)
        for write in writers:
            write(folder)

    return make


def pictures(
    pattern: str, convert: Callable[[np.ndarray], Image.Image] = picture, **save: Any
) -> Callable[[Path], None]:
    """One picture an object, named by a pattern of its number."""

    def write(folder: Path) -> None:
        (folder / pattern).parent.mkdir(exist_ok=True)
        for index, mask in enumerate(masks()):
            convert(mask).save(folder / pattern.format(index), **save)

    return write


def one(name: str, image: Image.Image, **save: Any) -> Callable[[Path], None]:
    return lambda folder: image.save(folder / name, **save)


def array(value: np.ndarray, name: str = "masks.npy") -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, value)


def archive(*values: np.ndarray, **named: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.savez_compressed(folder / "masks.npz", *values, **named)


def data(name: str, value: Any) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))


def junk(*names: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"\0junk")

    return write


def polygon(mask: np.ndarray) -> list[float]:
    rows, columns = np.nonzero(mask)
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return [float(value) for value in (left, top, right, top, right, bottom, left, bottom)]


def coco(shape: Callable[[np.ndarray], Any], image_id: int = 7) -> dict[str, Any]:
    return {
        "images": [{"id": image_id, "file_name": "scene.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": [
            {"id": index, "image_id": image_id, "segmentation": shape(mask), "iscrowd": 0}
            for index, mask in enumerate(masks())
        ],
    }


def rle(mask: np.ndarray) -> dict[str, Any]:
    return {"size": [HEIGHT, WIDTH], "counts": encode_counts(mask)}


def rle_text(mask: np.ndarray) -> dict[str, Any]:
    return {"size": [HEIGHT, WIDTH], "counts": compress_counts(encode_counts(mask))}


def smooth(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1))


def png_16_bit_rgb(folder: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + np.asarray(photo())[row].astype(">u2").tobytes() for row in range(HEIGHT))
    (folder / "scene.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def turned(orientation: int, *writers: Callable[[Path], Any]) -> Callable[[Path], None]:
    """A photo that is stored on its side, beside masks drawn on it as it is stored."""

    def make(folder: Path) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        photo().save(folder / "scene.jpg", exif=exif)
        for write in writers:
            write(folder)

    return make


def heic(folder: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed (extra heic)")
    heif.from_pillow(photo()).save(folder / "scene.heic")
    pictures("{}_mask.png")(folder)


TREMBLING = [photo(), photo().point(lambda level: level // 2)]
LOGITS = np.where(masks(), 4.5, -6.0).astype(np.float32)
PROBABILITIES = np.where(masks(), 0.9, 0.2).astype(np.float32)

ACCEPTED: dict[str, Callable[[Path], None]] = {
    # photos
    "photo .jpg": scene(),
    "photo .JPG": scene("SCENE.JPG"),
    "photo .jpeg": scene("scene.jpeg"),
    "photo .png": scene("Scene.PNG"),
    "photo .webp": scene("scene.webp"),
    "photo .avif": scene("scene.avif"),
    "photo .heic": heic,
    "photo .tif": scene("scene.tif"),
    "photo .tiff": scene("scene.TIFF"),
    "photo .bmp": scene("scene.bmp"),
    "photo .gif": scene("scene.gif"),
    "photo called image": scene("image.jpg"),
    "photo called Image": scene("Image.webp"),
    "photo is a PNG called .jpg": scene("scene.jpg", "png"),
    "photo is a WebP called .png": scene("scene.png", "webp"),
    "photo CMYK": scene(image=photo().convert("CMYK")),
    "photo CMYK TIFF": scene("scene.tif", image=photo().convert("CMYK")),
    "photo grey": scene(image=photo().convert("L")),
    "photo with a palette": scene("scene.png", image=photo().quantize(64)),
    "photo with transparency": scene("scene.png", image=cutout(masks().any(axis=0))),
    "photo grey with 16 bits": scene(
        "scene.png", image=Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257)
    ),
    "photo in colour with 16 bits": beside(
        pictures("{}_mask.png"), png_16_bit_rgb, lambda f: (f / "scene.jpg").unlink()
    ),
    "photo of floats": scene(
        "scene.tif", image=Image.fromarray(np.asarray(photo().convert("L")).astype(np.float32) / 255)
    ),
    "photo animated GIF": scene("scene.gif", image=TREMBLING[0], save_all=True, append_images=TREMBLING[1:]),
    "photo animated WebP": scene(
        "scene.webp", image=TREMBLING[0], save_all=True, append_images=TREMBLING[1:]
    ),
    "photo animated PNG": scene("scene.png", image=TREMBLING[0], save_all=True, append_images=TREMBLING[1:]),
    "photo black and white": scene("scene.png", image=photo().convert("1")),
    # pictures of objects
    "masks 0_mask.jpg": beside(pictures("{}_mask.jpg", quality=80)),
    "masks 0_mask.JPEG": beside(pictures("{}_mask.JPEG")),
    "masks 0_mask.webp": beside(pictures("{}_mask.webp")),
    "masks 0_mask.bmp": beside(pictures("{}_mask.bmp")),
    "masks 0_mask.tif": beside(pictures("{}_mask.tif")),
    "masks 0-mask.png": beside(pictures("{}-mask.png")),
    "masks mask_0.png": beside(pictures("mask_{}.png")),
    "masks mask0.png": beside(pictures("mask{}.png")),
    "masks MASK_00.PNG": beside(pictures("MASK_0{}.PNG")),
    "masks mask_0.jpg": beside(pictures("mask_{}.jpg")),
    "masks with words": beside(
        *(one(f"{word}_mask.png", picture(mask)) for word, mask in zip(("bed", "chair", "lamp"), masks()))
    ),
    "masks 0.png black and white": beside(pictures("{}.png")),
    "masks 0.jpg black and white": beside(pictures("{}.jpg")),
    "masks 0.png in RGB": beside(pictures("{}.png", lambda mask: picture(mask).convert("RGB"))),
    "masks of 1 bit": beside(pictures("{}_mask.png", lambda mask: picture(mask).convert("1"))),
    "masks of 16 bits": beside(
        pictures("{}_mask.png", lambda mask: Image.fromarray(mask.astype(np.uint16) * 65535))
    ),
    "masks of 0 and 1": beside(pictures("{}_mask.png", lambda mask: Image.fromarray(mask.astype(np.uint8)))),
    "masks with soft edges": beside(pictures("{}_mask.png", lambda mask: smooth(picture(mask)))),
    "masks in colour": beside(
        pictures("{}_mask.png", lambda m: Image.fromarray(m[..., None] * np.uint8([[[0, 90, 0]]])))
    ),
    "masks in alpha": beside(
        pictures(
            "{}_mask.png", lambda m: Image.merge("LA", (Image.new("L", (WIDTH, HEIGHT), 255), picture(m)))
        )
    ),
    "masks in a folder": beside(pictures("masks/{}.png")),
    "masks in a folder, named": beside(pictures("masks/mask_{}.png")),
    "SAM 3D Objects: image.png and 0.png with alpha": beside(pictures("{}.png", cutout), name="image.png"),
    "cut-outs in WebP": beside(pictures("{}.webp", cutout, lossless=True)),
    "cut-outs alone": pictures("{}.png", cutout),
    # label images
    "labels.png": beside(one("labels.png", Image.fromarray(labels()))),
    "labels.jpg": beside(one("labels.jpg", coloured(), quality=85)),
    "labels.bmp": beside(one("labels.bmp", coloured())),
    "labels.webp with losses": beside(one("labels.webp", coloured(), quality=80)),
    "labels.tif of 16 bits": beside(
        one("labels.tif", Image.fromarray(labels((300, 7000, 65535), np.uint16)))
    ),
    "labels.png of 32 bits": beside(one("labels.tif", Image.fromarray(labels((1, 70000, 90000), np.int32)))),
    "labels smoothed": beside(one("labels.png", smooth(coloured()))),
    "labels resized": beside(
        one("labels.png", coloured().resize((72, 48), Image.Resampling.BICUBIC).resize((WIDTH, HEIGHT)))
    ),
    "labels with specks": beside(
        lambda folder: (
            image := coloured(),
            image.putpixel((2, 2), (255, 0, 0)),
            image.save(folder / "labels.png"),
        )
    ),
    "labels with transparency": beside(
        one(
            "labels.png",
            Image.fromarray(np.dstack([PALETTE[labels()], (labels() > 0) * np.uint8(255)])),
        )
    ),
    "labels.gif": beside(one("labels.gif", Image.fromarray(labels()))),
    "rgb_mask.png of the published demo": beside(one("rgb_mask.png", coloured())),
    "MIDI: 04_rgb.png and 04_seg.png": lambda folder: (
        photo().save(folder / "04_rgb.png"),
        coloured().save(folder / "04_seg.png"),
    ),
    "MIDI: rgb.png and seg.png": lambda folder: (
        photo().save(folder / "rgb.png"),
        coloured().save(folder / "seg.png"),
    ),
    # arrays
    "array (N, H, W) bool": beside(array(masks())),
    "array (N, H, W) of 0 and 255": beside(array(masks() * np.uint8(255))),
    "array (N, 1, H, W)": beside(array(masks()[:, None])),
    "array (1, N, H, W)": beside(array(masks()[None])),
    "array (N, H, W, 1)": beside(array(masks()[..., None])),
    "array (H, W, N)": beside(array(np.moveaxis(masks(), 0, -1))),
    "array of labels, 64 bits": beside(array(labels((1, 2, 3), np.int64))),
    "array of labels, 16 bits": beside(array(labels((9, 300, 60000), np.uint16))),
    "array of labels with -1": beside(array(labels((1, 2, 3), np.int32) - (labels() == 0))),
    "array of labels as floats": beside(array(labels((1, 2, 3), np.float64))),
    "array of logits": beside(array(LOGITS)),
    "array of logits (N, 1, H, W), half": beside(array(LOGITS[:, None].astype(np.float16))),
    "array of probabilities": beside(array(PROBABILITIES)),
    "array with soft edges": beside(array(np.stack([np.asarray(smooth(picture(mask))) for mask in masks()]))),
    "array in Fortran's order": beside(array(np.asfortranarray(masks()))),
    "archive of one array": beside(archive(masks())),
    "archive with masks and scores": beside(archive(masks=masks(), scores=np.ones(3))),
    "archive of one array an object": beside(archive(*masks())),
    "archive of labels": beside(archive(labels=labels((1, 2, 3), np.int32))),
    # COCO
    "COCO polygons": beside(data("coco.json", coco(lambda mask: [polygon(mask)]))),
    "COCO run lengths": beside(data("annotations.json", coco(rle))),
    "COCO compressed run lengths": beside(data("coco.json", coco(rle_text))),
    "COCO as Roboflow names it": beside(data("_annotations.coco.json", coco(lambda mask: [polygon(mask)]))),
    "list of SAM's automatic masks": beside(
        data("masks.json", [{"segmentation": rle_text(mask), "area": 1} for mask in masks()])
    ),
    # photos that their EXIF data turns
    "photo turned, masks drawn on the file (6)": turned(6, pictures("{}_mask.png")),
    "photo turned, masks drawn on the file (8)": turned(8, pictures("{}_mask.png")),
    "photo turned, masks drawn on the file (5)": turned(5, pictures("{}_mask.png")),
    "photo turned, masks drawn on the file (7)": turned(7, pictures("{}_mask.png")),
    "photo turned, labels drawn on the file": turned(6, one("labels.png", coloured())),
    "photo turned, array of the file": turned(8, array(masks())),
    "photo turned, labels in an array of the file": turned(7, array(labels())),
    "photo turned, run lengths of the file": turned(5, data("coco.json", coco(rle))),
    # what lies around
    "junk of operating systems": beside(
        pictures("{}_mask.png"),
        junk("__MACOSX/._scene.jpg", ".DS_Store", "Thumbs.db", "._0_mask.png", "desktop.ini"),
    ),
    "other files": beside(pictures("{}_mask.png"), junk("notes.txt", "masked_scene.png", "scene.jpg.xmp")),
}


@pytest.mark.parametrize("variant", ACCEPTED)
def test_input_is_read_as_it_is(tmp_path, variant):
    folder = tmp_path / "room"
    folder.mkdir()
    ACCEPTED[variant](folder)
    (source,) = find_scene_folders(folder)
    (images,) = read_layout(detect_scene(source))
    assert images.photo.mode == "RGB" and not images.left_out
    orientation = Image.open(folder / "scene.jpg").getexif().get(ORIENTATION, 1) if "turned" in variant else 1
    assert_objects(images, orientation)


def assert_objects(images: SceneImages, orientation: int = 1) -> None:
    """The three boxes, on a photo whose file was stored with an EXIF orientation."""
    assert images.object_ids == (0, 1, 2)
    for mask, drawn in zip(images.masks, masks(), strict=True):
        upright = np.asarray(upright_of(picture(drawn), orientation)) > 0
        assert (mask & upright).sum() / (mask | upright).sum() > 0.9
    for found, mask in zip(images.cutouts, images.masks, strict=True):
        assert found.mode == "RGBA" and (np.asarray(found)[..., 3] > 127).sum() == mask.sum()


def upright_of(image: Image.Image, orientation: int) -> Image.Image:
    """As a viewer turns a picture with this orientation: by its definition in EXIF, on arrays."""
    stored = np.asarray(image)
    seen = {
        1: stored,
        5: stored.T,
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).T,
        8: np.rot90(stored),
    }
    return Image.fromarray(np.ascontiguousarray(seen[orientation]))


SAID = {
    "photo CMYK": "scene.jpg: CMYK (without its colour profile), converted to RGB",
    "photo grey": "scene.jpg: grey, converted to RGB",
    "photo with a palette": "scene.png: palette, converted to RGB",
    "photo with transparency": "scene.png: has transparency, laid over white",
    "photo grey with 16 bits": "scene.png: levels up to 65535, scaled to 8 bits",
    "photo in colour with 16 bits": "scene.png: 16 bits a channel, the upper 8 are used",
    "photo animated GIF": "scene.gif: animated, the first of its 2 frames is used",
    "photo animated WebP": "scene.webp: animated, the first of its 2 frames is used",
    "masks with words": "chair_mask.png: object 1",
    "labels.jpg": "labels.jpg: 3 objects, told apart by colours; smoothed or compressed edges",
    "labels with specks": "labels.png: 3 objects, told apart by colours; left out 1 speck below 4 pixels",
    "array (H, W, N)": "masks.npy: (64, 96, 3): the last axis is that of the objects",
    "array of logits": "masks.npy: logits from -6 to 4.5, cut at 0",
    "array of probabilities": "masks.npy: probabilities, cut at a half",
    "array with soft edges": "masks.npy: soft edges, cut at half of each mask's highest level",
    "photo turned, masks drawn on the file (6)": "0_mask.png: drawn on the photo as it is stored, turned",
    "photo turned, array of the file": "masks.npy: drawn on the photo as it is stored, turned with it",
}


@pytest.mark.parametrize("variant", SAID)
def test_conversion_is_said_in_one_line(tmp_path, variant, caplog):
    ACCEPTED[variant](tmp_path)
    with caplog.at_level(logging.INFO, "scenegen.inputs"):
        read_scene(tmp_path)
    lines = [record.getMessage() for record in caplog.records]
    assert any(SAID[variant] in line for line in lines) and not any("\n" in line for line in lines)


def test_ordinary_input_says_nothing(tmp_path, caplog):
    ACCEPTED["photo .jpg"](tmp_path)
    with caplog.at_level(logging.INFO, "scenegen.inputs"):
        read_scene(tmp_path)
    assert not caplog.records


BY_FILE: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "labels of any name": ("lounge_labels.jpg", one("lounge_labels.jpg", coloured(), quality=90)),
    "archive of any name": (
        "found.NPZ",
        lambda f: (archive(masks())(f), (f / "masks.npz").rename(f / "found.NPZ")),
    ),
    "COCO of any name": ("lounge.json", data("lounge.json", coco(rle))),
    "folder of masks": ("parts", pictures("parts/{}.png")),
}


@pytest.mark.parametrize("variant", BY_FILE)
def test_masks_of_one_photo_by_file(tmp_path, variant):
    name, write = BY_FILE[variant]
    photo().save(tmp_path / "lounge.webp")
    write(tmp_path)
    (images,) = read_photo(tmp_path / "lounge.webp", tmp_path / name)
    assert_objects(images)


def test_photos_beside_their_label_images_are_scenes(tmp_path):
    for number in ("04", "10", "9"):
        photo().save(tmp_path / f"{number}_rgb.png")
        coloured().save(tmp_path / f"{number}_seg.png")
    sources = find_scene_folders(tmp_path)
    assert [source.name for source in sources] == ["04_rgb.png", "9_rgb.png", "10_rgb.png"]
    for source in sources:
        assert_objects(*read_layout(detect_scene(source)))


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "photo is JPEG XL": (
        lambda f: (scene()(f), (f / "scene.jpg").write_bytes(b"\xff\x0a" + bytes(50))),
        "scene.jpg: expected a JPEG, PNG or other common image, got JPEG XL; save it as JPEG or PNG",
    ),
    "photo is a PDF": (
        lambda f: (scene()(f), (f / "scene.jpg").write_bytes(b"%PDF-1.7 ...")),
        "got a PDF; save it as JPEG or PNG",
    ),
    "photo is a web page": (
        lambda f: (scene()(f), (f / "scene.jpg").write_text("<!DOCTYPE html><html>")),
        "got a web page; save it",
    ),
    "photo is empty": (
        lambda f: (scene()(f), (f / "scene.jpg").write_bytes(b"")), "got an empty file; save it",
    ),
    "no photo": (pictures("{}_mask.png"), "scene.jpg: expected the photo of the scene, found none; add it"),
    "photo without masks": (beside(), "found none; add them, or boxes.json, or use --auto-masks"),
    "two photos": (
        lambda f: (scene()(f), photo().save(f / "image.png")),
        "expected one photo, found image.png and scene.jpg; remove all but one of them",
    ),
    "two label images": (
        beside(one("labels.png", coloured()), one("seg.png", coloured())),
        "expected one labels.png, found labels.png and seg.png; remove all but one of them",
    ),
    "masks of another photo": (
        beside(pictures("{}_mask.png", lambda mask: picture(mask).resize((48, 32)))),
        "0_mask.png: expected a mask of 96x64 like the photo, got 48x32; save a mask at full photo size",
    ),
    "cut-outs without an outline": (
        beside(pictures("{}.jpg", lambda mask: photo())),
        "0.jpg: expected 0_mask.png beside it",
    ),
    "labels are a photo": (
        beside(one("labels.jpg", photo().filter(ImageFilter.UnsharpMask()))),
        "values that fill none, like a photo; save the label image itself, as a PNG",
    ),
    "all masks empty": (
        beside(pictures("{}_mask.png", lambda mask: picture(mask & False))),
        "expected an object that can be used, got none of 3: expected pixels above 0",
    ),
    "array of embeddings": (
        beside(array(np.ones((3, 256, 16, 16)))), "save one mask per object at full photo size",
    ),
    "array of another photo": (
        beside(array(np.ones((3, 40, 40)))), "expected masks (N, 64, 96), (N, 1, 64, 96)",
    ),
    "array with NaN": (
        beside(array(np.full((3, HEIGHT, WIDTH), np.nan))), "got NaN or Infinity; set them to 0",
    ),
    "array of objects": (beside(array(np.array([{}], object))), "expected an array file of numbers"),
    "archive of several arrays without names": (
        beside(archive(a=masks(), b=masks())),
        "expected an array named 'masks' among several, found a, b",
    ),
    "COCO boxes alone": (
        beside(data("coco.json", {"annotations": [{"bbox": [1, 2, 3, 4]}]})),
        "export the masks as COCO JSON, not boxes or key points alone",
    ),
    "COCO of two photos": (
        beside(
            data(
                "coco.json",
                {"annotations": coco(rle, 1)["annotations"] + coco(rle, 2)["annotations"]},
            )
        ),
        "expected annotations of one photo, got those of 2; export one file a photo",
    ),
    "COCO of another size": (
        beside(data("coco.json", coco(lambda mask: {"size": [8, 8], "counts": [10, 54]}))),
        "expected run lengths of the size [64, 96] [height, width] like the photo, got [8, 8]; export",
    ),
    "COCO run lengths too short": (
        beside(data("coco.json", coco(lambda mask: {"size": [HEIGHT, WIDTH], "counts": [10, 5]}))),
        "expected run lengths over the 6144 pixels of the photo, got runs over 15 pixels; export it again",
    ),
    "COCO text damaged": (
        beside(data("coco.json", coco(lambda mask: {"size": [HEIGHT, WIDTH], "counts": "é~~~"}))),
        "does not belong to compressed run lengths; export it again as COCO JSON",
    ),
    "COCO polygon of two corners": (
        beside(data("coco.json", coco(lambda mask: [[1, 2, 3, 4]]))), "expected polygons [x0, y0, x1, y1, x2",
    ),
    "COCO polygon outside": (
        beside(data("coco.json", coco(lambda mask: [[0, 0, 900, 0, 900, 700]]))),
        "expected a polygon inside the photo, 96x64, got one up to 900, 700; export it for the photo at full",
    ),
    "COCO is no JSON": (beside(data("coco.json", "{")), "not valid JSON, line 1 column 2"),
    "more objects than the limit": (
        beside(array(np.repeat(masks()[:1], 70, axis=0))),
        "expected at most 64 objects, found 70; split the scene, or raise --max-objects",
    ),
}  # fmt: skip


@pytest.mark.parametrize("variant", REFUSED)
def test_unusable_input_gives_one_line_with_the_remedy(tmp_path, variant):
    make, says = REFUSED[variant]
    make(tmp_path)
    with pytest.raises(SceneInputError) as error:
        read_scene(tmp_path)
    message = str(error.value)
    assert says in message and "\n" not in message
    assert message.startswith(str(tmp_path))


def test_heic_without_its_package_names_it(tmp_path, monkeypatch):
    heic(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(
        SceneInputError, match="scene.heic: .* got HEIC; run bash setup.sh --heic or pip install"
    ):
        read_scene(tmp_path)


UNUSABLE = {
    "empty": (np.zeros((HEIGHT, WIDTH), bool), "expected pixels above 0 on the object, the mask is empty"),
    "one pixel": (np.eye(HEIGHT, WIDTH) * np.eye(1, WIDTH) > 0, "the mask has 1 pixel; redraw it"),
    "whole photo": (np.ones((HEIGHT, WIDTH), bool), "the mask covers the whole photo; redraw it"),
    "inverted": (
        ~masks()[1],
        "covers 84 % of the photo and all its border: is the object what is left free?",
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("form", ["pictures", "array"])
def test_object_with_an_unusable_mask_is_left_out(tmp_path, caplog, kind, form):
    mask, says = UNUSABLE[kind]
    drawn = np.stack([masks()[0], mask, masks()[2]])
    photo().save(tmp_path / "scene.jpg")
    if form == "array":
        np.save(tmp_path / "masks.npy", drawn)
    else:
        for index, each in enumerate(drawn):
            picture(each).save(tmp_path / f"{index}_mask.png")
    (images,) = read_scene(tmp_path)
    assert images.object_ids == (0, 2) and says in images.left_out[1]
    (line,) = [record.getMessage() for record in caplog.records]
    assert says in line and "object 1 is left out" in line
    with pytest.raises(SceneInputError, match="1_mask.png: |masks.npy: mask 1: ") as error:
        read_scene(tmp_path, ReadOptions(strict=True))
    assert says in str(error.value)


def test_mask_that_looks_inverted_is_inverted_or_kept_when_told(tmp_path):
    photo().save(tmp_path / "scene.jpg")
    np.save(tmp_path / "masks.npy", np.stack([masks()[0], ~masks()[1]]))
    (images,) = read_scene(tmp_path, ReadOptions(inverted="invert"))
    assert (images.masks[1] == masks()[1]).all() and (images.masks[0] == masks()[0]).all()
    (images,) = read_scene(tmp_path, ReadOptions(inverted="keep"))
    assert (images.masks[1] == ~masks()[1]).all()


def test_object_that_is_unusable_in_one_view_is_left_out_of_all(tmp_path):
    for view, empty in (("view_0", None), ("view_1", 1)):
        folder = tmp_path / view
        folder.mkdir()
        drawn = masks()
        if empty is not None:
            drawn[empty] = False
        photo().save(folder / "scene.jpg")
        np.save(folder / "masks.npy", drawn)
    scene_views = read_scene(tmp_path)
    assert [images.object_ids for images in scene_views] == [(0, 2), (0, 2)]
    assert all(list(images.left_out) == [1] for images in scene_views)


ODD_NAMES = ["line\nbreak", "x" * 250, 'it\'s "quoted"', "🛋 sofa", " spaces ", "tab\there", "-dash", "ünï"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_folders_of_any_name_work_and_their_messages_have_one_line(tmp_path, name):
    folder = tmp_path / "scenes" / name
    folder.mkdir(parents=True)
    scene()(folder)
    junk("__MACOSX/scene.jpg", "Thumbs.db", ".hidden/scene.jpg")(tmp_path / "scenes")
    assert find_scene_folders(tmp_path / "scenes") == [folder]
    assert detect_scene(folder).scene_id == name
    assert_objects(*read_scene(folder))
    (folder / "scene.jpg").unlink()
    with pytest.raises(SceneInputError) as error:
        read_scene(folder)
    assert str(error.value).isprintable() and "expected the photo of the scene" in str(error.value)


def test_what_is_accepted_and_refused_has_the_promised_extent():
    assert len(ACCEPTED) + len(BY_FILE) + len(ODD_NAMES) >= 73
    assert len(REFUSED) <= 26
