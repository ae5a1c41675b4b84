"""Reading scene folders: layouts, order, and one message for each fault."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.layout import find_scene_folders
from scenegen.inputs.names import natural_key, scene_id_of
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_folder import read_photo, read_scene
from scenegen.inputs.scene_images import SceneImages

WIDTH, HEIGHT = 48, 32


def _photo() -> Image.Image:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.stack([rows * 7, columns * 5, rows + columns], axis=-1).astype(np.uint8))


def _mask(index: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[4 : 12 + index, 4 * index : 4 * index + 4] = 255
    return mask


def _write_scene(folder: Path, count: int = 2) -> Path:
    folder.mkdir(parents=True)
    _photo().save(folder / "scene.jpg")
    for index in range(count):
        Image.fromarray(_mask(index)).save(folder / f"{index}_mask.png")
        cutout = _photo().crop((0, 0, 20, 20))
        cutout.putalpha(Image.fromarray(_mask(0)[:20, :20]))
        cutout.save(folder / f"{index}.png")
    return folder


def _read_one(folder: Path) -> SceneImages:
    """Read a scene of one photo."""
    (images,) = read_scene(folder)
    return images


def _areas(images: SceneImages) -> list[int]:
    return [int(mask.sum()) for mask in images.masks]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _write_scene(tmp_path / "room")


def test_reads_photo_masks_and_cutouts(folder):
    images = _read_one(folder)
    assert images.photo.mode == "RGB" and images.photo.size == (WIDTH, HEIGHT)
    assert images.object_ids == (0, 1)
    assert images.masks[1].tolist() == (_mask(1) > 0).tolist()
    assert _areas(images)[1] == 9 * 4
    assert images.cutouts[0].mode == "RGBA" and images.cutouts[0].size == (20, 20)


def test_twelve_objects_come_in_natural_order_with_their_own_masks(tmp_path):
    images = _read_one(_write_scene(tmp_path / "room", count=12))
    assert images.object_ids == tuple(range(12))
    assert _areas(images) == [int((_mask(k) > 0).sum()) for k in range(12)]


def test_natural_key_orders_numbers_by_value():
    names = ["room10", "room9", "room", "2", "room9b", "10"]
    assert sorted(names, key=natural_key) == ["2", "10", "room", "room9", "room9b", "room10"]


def test_other_files_are_ignored(folder):
    (folder / "notes.txt").write_text("x")
    _photo().save(folder / "masked_scene.png")
    _photo().save(folder / "thumbnail.png")
    (folder / "._0_mask.png").write_bytes(b"\x00\x05\x16\x07")  # as macOS leaves them in archives
    (folder / "._scene.jpg").write_bytes(b"\x00\x05\x16\x07")
    assert len(_read_one(folder).masks) == 2


def test_mask_colours_and_alpha_both_count(folder):
    rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    rgba[..., :3] = 255  # white everywhere, shown by alpha only on the object
    rgba[..., 3] = _mask(0)
    Image.fromarray(rgba).save(folder / "0_mask.png")
    assert _areas(_read_one(folder))[0] == (_mask(0) > 0).sum()


def test_missing_mask_is_taken_from_a_full_size_cutout(folder):
    cutout = _photo()
    cutout.putalpha(Image.fromarray(_mask(1)))
    cutout.save(folder / "1.png")
    (folder / "1_mask.png").unlink()
    assert _read_one(folder).masks[1].tolist() == (_mask(1) > 0).tolist()


def test_full_size_cutout_without_alpha_gets_the_mask_as_alpha(folder):
    _photo().save(folder / "1.png")
    alpha = np.asarray(_read_one(folder).cutouts[1])[..., 3]
    assert alpha.tolist() == _mask(1).tolist()


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_label_image_gives_one_object_a_value(tmp_path, mode):
    folder = _write_scene(tmp_path / "room", count=0)
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[2:10, 2:10], labels[12:20, 5:25], labels[22:30, 30:34] = 9, 3, 200
    image = Image.fromarray(labels)
    if mode == "P":
        image = image.convert("P")
        image.putpalette([10, 10, 10] * 256)  # the palette's colours do not matter
    image.convert(mode).save(folder / "labels.png")
    if mode == "RGB":
        image.convert("L").convert("RGB").save(folder / "labels.png")
    images = _read_one(folder)
    assert _areas(images) == [160, 64, 32]
    cutout = np.asarray(images.cutouts[1])
    assert (cutout[..., 3] == np.where(labels == 9, 255, 0)).all()
    assert (cutout[labels != 9] == 0).all()
    assert (cutout[labels == 9][:, :3] == np.asarray(images.photo)[labels == 9]).all()


def test_mask_alone_cuts_its_object_out_of_the_photo(folder):
    (folder / "1.png").unlink()
    images = _read_one(folder)
    cutout, mask = np.asarray(images.cutouts[1]), images.masks[1]
    assert images.object_ids[1] == 1 and (cutout[..., 3] == _mask(1)).all()
    assert (cutout[mask][:, :3] == np.asarray(images.photo)[mask]).all()


def test_cutouts_alone_are_laid_over_white(tmp_path):
    for index, colour in enumerate([(200, 10, 10), (10, 200, 10)]):
        cutout = Image.new("RGB", (WIDTH, HEIGHT), colour)
        cutout.putalpha(Image.fromarray(_mask(index)))
        _save(cutout, tmp_path / f"{index}.png")
    images = _read_one(tmp_path)
    photo = np.asarray(images.photo)
    assert _areas(images) == [32, 36]
    assert (photo[_mask(0) > 0] == (200, 10, 10)).all() and (photo[31] == 255).all()


def test_array_of_masks(tmp_path):
    folder = _write_scene(tmp_path / "room", count=0)
    np.save(folder / "masks.npy", np.stack([_mask(2), _mask(0)]))
    assert _areas(_read_one(folder)) == [40, 32]


def test_photo_with_masks_by_file(tmp_path):
    _save(_photo(), tmp_path / "lounge.png")
    labels = (_mask(0) > 0) * np.uint8(3) + (_mask(1) > 0) * np.uint8(9)
    _save(Image.fromarray(labels), tmp_path / "labels.png")
    np.save(tmp_path / "found.npy", np.stack([_mask(0), _mask(1)]) > 0)
    for masks in ("labels.png", "found.npy"):
        (images,) = read_photo(tmp_path / "lounge.png", tmp_path / masks)
        assert _areas(images) == [32, 36]
    assert scene_id_of(tmp_path / "lounge.png") == "lounge"


def test_views_of_one_scene_come_in_natural_order(tmp_path):
    for index in (0, 2, 10):
        view = _write_scene(tmp_path / "room" / f"view_{index}", count=2)
        _photo().resize((WIDTH, HEIGHT)).point(lambda level, index=index: index).save(view / "scene.jpg")
    assert find_scene_folders(tmp_path / "room") == [tmp_path / "room"]
    scene = read_scene(tmp_path / "room")
    assert [images.object_ids for images in scene] == [(0, 1)] * 3
    assert [images.photo.getpixel((0, 0))[0] for images in scene] == [0, 2, 10]


@pytest.mark.parametrize("name", ["scene.JPG", "Scene.jpeg", "scene.png"])
def test_photo_is_known_by_its_name_in_any_case(folder, name):
    (folder / "scene.jpg").rename(folder / name)
    assert _read_one(folder).photo.size == (WIDTH, HEIGHT)
    assert find_scene_folders(folder) == [folder]


def test_photo_is_turned_upright_by_its_orientation_tag(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored sideways: turn by 90 degrees clockwise to view
    _photo().transpose(Image.Transpose.ROTATE_90).save(folder / "scene.jpg", exif=exif)
    assert _read_one(folder).photo.size == (WIDTH, HEIGHT)


def test_find_lists_folders_naturally_and_accepts_one_scene(tmp_path):
    for name in ("b10", "b9", ".hidden"):
        _write_scene(tmp_path / name)
    (tmp_path / "README.md").write_text("x")
    assert [path.name for path in find_scene_folders(tmp_path)] == ["b9", "b10"]
    assert find_scene_folders(tmp_path / "b9") == [tmp_path / "b9"]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _save(image: Image.Image, path: Path, kind: str | None = None) -> None:
    buffer = io.BytesIO()
    image.save(buffer, format=kind or path.suffix[1:].replace("jpg", "jpeg"))
    path.write_bytes(buffer.getvalue())


def _empty_mask() -> Image.Image:
    return Image.new("L", (WIDTH, HEIGHT))


def _full_mask() -> Image.Image:
    return Image.new("L", (WIDTH, HEIGHT), 255)


FAULTS = {
    "no photo": (lambda f: (f / "scene.jpg").unlink(), "scene.jpg", "expected the photo of the scene"),
    "two photos": (lambda f: _save(_photo(), f / "scene.png"), "room", "found scene.jpg and scene.png"),
    "photo truncated": (lambda f: _truncate(f / "scene.jpg"), "scene.jpg", "expected a whole image"),
    "photo empty": (
        lambda f: (f / "scene.jpg").write_bytes(b""),
        "scene.jpg",
        "expected a JPEG, PNG or other common image",
    ),
    "photo is text": (
        lambda f: (f / "scene.jpg").write_text("hi"),
        "scene.jpg",
        "expected a JPEG, PNG or other common image",
    ),
    "photo is a folder": (
        lambda f: ((f / "scene.jpg").unlink(), (f / "scene.jpg").mkdir()),
        "scene.jpg",
        "expected a file, got a folder",
    ),
    "photo tiny": (lambda f: _save(_photo().resize((9, 9)), f / "scene.jpg"), "scene.jpg", "got 9x9"),
    "photo a strip": (
        lambda f: _save(_photo().resize((900, 20)), f / "scene.jpg"),
        "scene.jpg",
        "at most 8:1",
    ),
    "mask of another size": (
        lambda f: _save(_empty_mask().resize((20, 10)), f / "1_mask.png"),
        "1_mask.png",
        "expected a mask of 48x32 like the photo, got 20x10",
    ),
    "mask empty": (lambda f: _save(_empty_mask(), f / "1_mask.png"), "1_mask.png", "the mask is empty"),
    "mask full": (
        lambda f: _save(_full_mask(), f / "1_mask.png"),
        "1_mask.png",
        "expected background (0) around the object, the mask covers the whole photo",
    ),
    "mask truncated": (lambda f: _truncate(f / "1_mask.png"), "1_mask.png", "expected a whole image"),
    "image without mask": (
        lambda f: (f / "1_mask.png").unlink(),
        "1.png",
        "got only RGBA of 20x20; add 1_mask.png",
    ),
    "two masks of one number": (
        lambda f: _save(_empty_mask(), f / "01_mask.png"),
        "mask.png",
        "expected one file for object 1",
    ),
    "cutout without alpha": (
        lambda f: _save(_photo().crop((0, 0, 9, 9)), f / "1.png"),
        "1.png",
        "expected a cut-out with transparency",
    ),
    "cutout transparent": (
        lambda f: _save(Image.new("RGBA", (20, 20)), f / "1.png"),
        "1.png",
        "expected opaque pixels",
    ),
    "cutout truncated": (lambda f: _truncate(f / "1.png"), "1.png", "expected a whole image"),
    "no objects": (
        lambda f: [path.unlink() for path in f.glob("*.png")],
        "room",
        "expected masks (0_mask.png with 0.png, ...)",
    ),
    "labels beside masks": (lambda f: _save(_empty_mask(), f / "labels.png"), "labels.png", "found both"),
}
LABEL_FAULTS = {
    "labels of another size": (_empty_mask().resize((20, 10)), "got 20x10"),
    "labels empty": (_empty_mask(), "all pixels are 0"),
    "labels without background": (_full_mask(), "expected background (0) around the object"),
    "labels smoothed": (
        Image.fromarray(np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint8)),
        "got 256 values that fill none",
    ),
    "labels in colours of a photo": (
        _photo(),
        "expected areas of one value or colour per object, got 1536 values",
    ),
}


def _assert_one_line(error: pytest.ExceptionInfo, name: str, expected: str) -> None:
    message = str(error.value)
    assert expected in message
    assert name in message.split(": ")[0]
    assert "\n" not in message


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_gives_one_line_naming_the_file(folder, fault):
    damage, name, expected = FAULTS[fault]
    damage(folder)
    with pytest.raises(SceneInputError) as error:
        read_scene(folder, ReadOptions(strict=True))
    _assert_one_line(error, name, expected)


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_label_fault_gives_one_line_naming_the_file(tmp_path, fault):
    folder = _write_scene(tmp_path / "room", count=0)
    image, expected = LABEL_FAULTS[fault]
    _save(image, folder / "labels.png")
    with pytest.raises(SceneInputError) as error:
        read_scene(folder)
    _assert_one_line(error, "labels.png", expected)


def _make_cutouts_alone(folder: Path) -> None:
    for name in ("scene.jpg", "0_mask.png", "1_mask.png"):
        (folder / name).unlink()


LAYOUT_FAULTS = {
    "cutouts of two sizes": (
        lambda f: (_make_cutouts_alone(f), _save(Image.new("RGBA", (9, 9), 0), f / "1.png")),
        "1.png", "expected a cut-out of 20x20 like 0.png",
    ),
    "cutout alone without alpha": (
        lambda f: (_make_cutouts_alone(f), _save(_photo().crop((0, 0, 20, 20)), f / "0.png")),
        "0.png", "as there is no photo, got RGB without",
    ),
    "view beside a photo": (
        lambda f: _write_scene(f / "view_0"), "0.png", "found both; move it into a view"),
    "array beside masks": (lambda f: np.save(f / "masks.npy", np.ones(3)), "masks.npy", "found both"),
}  # fmt: skip
ARRAY_FAULTS = {
    "of five axes": (np.ones((1, 1, 1, HEIGHT, WIDTH)), f"expected masks (N, {HEIGHT}, {WIDTH})"),
    "flat and of everything": (np.ones((HEIGHT, WIDTH)), "the mask covers the whole photo"),
    "of another size": (np.ones((1, WIDTH, HEIGHT)), f"got (1, {WIDTH}, {HEIGHT})"),
    "of text": (np.full((1, HEIGHT, WIDTH), "x"), "<U1"),
    "none": (np.ones((0, HEIGHT, WIDTH)), "expected at least one mask"),
    "one empty": (np.stack([_mask(0), np.zeros((HEIGHT, WIDTH))]), "mask 1: expected pixels above 0"),
    "one of everything": (
        np.stack([_mask(0), np.ones((HEIGHT, WIDTH))]),
        "mask 1: expected background (0) around the object",
    ),
    "of objects": (np.array([[[None] * WIDTH] * HEIGHT]), "reading stopped"),
}


@pytest.mark.parametrize("fault", LAYOUT_FAULTS)
def test_layout_fault_gives_one_line_naming_the_file(folder, fault):
    damage, name, expected = LAYOUT_FAULTS[fault]
    damage(folder)
    with pytest.raises(SceneInputError) as error:
        read_scene(folder)
    _assert_one_line(error, name, expected)


@pytest.mark.parametrize("fault", ARRAY_FAULTS)
def test_array_fault_gives_one_line_naming_the_file(tmp_path, fault):
    folder = _write_scene(tmp_path / "room", count=0)
    array, expected = ARRAY_FAULTS[fault]
    np.save(folder / "masks.npy", array)
    with pytest.raises(SceneInputError) as error:
        read_scene(folder, ReadOptions(strict=True))
    _assert_one_line(error, "masks.npy", expected)


def test_view_without_one_of_the_objects_is_named(tmp_path):
    _write_scene(tmp_path / "view_0", count=2)
    _write_scene(tmp_path / "view_1", count=1)
    with pytest.raises(SceneInputError) as error:
        read_scene(tmp_path)
    _assert_one_line(error, "view_1", "expected the objects [0, 1] of view_0, got [0]")


def test_masks_by_file_need_both_files(tmp_path):
    _save(_photo(), tmp_path / "lounge.png")
    with pytest.raises(SceneInputError, match="masks.npy: expected a label image, an array"):
        read_photo(tmp_path / "lounge.png", tmp_path / "masks.npy")
    with pytest.raises(SceneInputError, match="expected a photo, found none"):
        read_photo(tmp_path, tmp_path / "masks.npy")


def test_too_many_objects_is_a_fault(tmp_path):
    folder = _write_scene(tmp_path / "room")
    for index in range(2, 65):
        for suffix in (".png", "_mask.png"):
            (folder / f"{index}{suffix}").write_bytes((folder / f"0{suffix}").read_bytes())
    with pytest.raises(SceneInputError, match="expected at most 64 objects, found 65"):
        read_scene(folder)


def test_missing_root_file_as_root_and_empty_root(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, expected in (("gone", "found nothing"), ("file", "found a file"), ("empty", "found no folder")):
        with pytest.raises(SceneInputError, match=expected):
            find_scene_folders(tmp_path / name)


def test_unreadable_folder_names_the_cause(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)  # tests may run as root, whom no permission bit stops
    with pytest.raises(
        SceneInputError, match=r"cannot be listed \(Permission denied\); check its permissions"
    ):
        find_scene_folders(tmp_path)
