"""What is told of a scene folder from the names of its files: nothing is decoded, so the files are empty."""

from pathlib import Path

import pytest

from scenegen.inputs.forms import FORMS, form_of_file, label_image, mask_array, numbered_pictures
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.layout import detect_scene
from scenegen.inputs.scene_folder import read_layout

PICTURES, LABELS, ARRAY = numbered_pictures.FORM, label_image.FORM, mask_array.FORM


def _folder(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "photo", "form", "files"),
    [
        pytest.param(
            ["scene.jpg", "10.png", "9.png", "9_mask.png", "notes.txt"],
            "scene.jpg", PICTURES, ["9.png", "9_mask.png", "10.png"], id="cut-outs and masks",
        ),
        pytest.param(["Scene.PNG", "0_mask.png"], "Scene.PNG", PICTURES, ["0_mask.png"], id="masks"),
        pytest.param(["1.png", "0.png"], None, PICTURES, ["0.png", "1.png"], id="cut-outs alone"),
        pytest.param(["scene.jpg", "labels.png"], "scene.jpg", LABELS, ["labels.png"], id="label image"),
        pytest.param(["scene.jpg", "masks.npy"], "scene.jpg", ARRAY, ["masks.npy"], id="array"),
        pytest.param(
            ["scene.jpg", "0.png", "boxes.json"],
            "scene.jpg", PICTURES, ["0.png"], id="masks count more than boxes",
        ),
    ],
)  # fmt: skip
def test_form_of_the_objects_is_told_by_the_names(tmp_path, names, photo, form, files):
    folder = _folder(tmp_path / "room", *names, "._scene.jpg", ".DS_Store")
    scene = detect_scene(folder)
    assert (scene.source, scene.scene_id, scene.fault) == (folder, "room", None)
    (found,) = scene.photos
    assert found.photo == (photo and folder / photo)
    assert found.form is form and [path.name for path in found.files] == files
    assert found.place == folder and found.boxes is None and found.view is None


@pytest.mark.parametrize("boxes", [None, "boxes.json"])
def test_photo_without_masks_has_no_form_until_they_are_found(tmp_path, boxes):
    folder = _folder(tmp_path / "room", "scene.jpg", *([boxes] if boxes else []))
    (photo,) = detect_scene(folder).photos
    assert photo.photo == folder / "scene.jpg" and photo.form is None and photo.files == ()
    assert photo.boxes == (boxes and folder / boxes)
    found = photo.with_found_labels(tmp_path / "out")
    assert found.form is LABELS and found.files == (tmp_path / "out" / "labels.png",)


def test_views_may_have_different_forms_and_keep_their_names(tmp_path):
    _folder(tmp_path, "view_10/scene.jpg", "view_10/boxes.json", "view_2/scene.jpg", "view_2/masks.npy")
    scene = detect_scene(tmp_path)
    assert [photo.view for photo in scene.photos] == ["view_2", "view_10"]
    assert [photo.form for photo in scene.photos] == [ARRAY, None]
    assert scene.photos[1].found_labels(Path("out")) == Path("out/view_10/labels.png")


def test_photo_by_itself_takes_masks_or_boxes_by_file(tmp_path):
    _folder(tmp_path, "lounge.jpg", "found.NPY", "painted.gif")
    photo = tmp_path / "lounge.jpg"
    for masks, form in (("found.NPY", ARRAY), ("painted.gif", LABELS)):
        scene = detect_scene(photo, masks=tmp_path / masks)
        assert scene.scene_id == "lounge" and scene.photos[0].photo == photo
        assert scene.photos[0].form is form and scene.photos[0].files == (tmp_path / masks,)
    (with_boxes,) = detect_scene(photo, boxes=tmp_path / "any.json").photos
    assert with_boxes.form is None and with_boxes.boxes == tmp_path / "any.json"
    (alone,) = detect_scene(photo).photos
    assert alone.form is None and alone.boxes is None


FAULTS = {
    "labels beside an array": (
        ["scene.jpg", "labels.png", "masks.npy"],
        "labels.png: expected either labels.png or masks.npy, found both",
    ),
    "array beside masks": (
        ["scene.jpg", "masks.npy", "0_mask.png"],
        "masks.npy: expected either masks.npy or <k>_mask.png files, found both",
    ),
    "labels beside cut-outs": (
        ["labels.png", "0.png"], "labels.png: expected either labels.png or <k>_mask.png files, found both",
    ),
    "masks without a photo": (["0.png", "0_mask.png"], "scene.jpg: expected the photo of the scene"),
    "labels without a photo": (["labels.png"], "scene.jpg: expected the photo of the scene"),
    "two photos beside cut-outs": (
        ["scene.jpg", "scene.png", "0.png"], "expected one photo, found scene.jpg and scene.png"
    ),
    "nothing that is known": (["holiday.txt"], "scene.jpg: expected the photo of the scene, found none"),
    "photo beside views": (
        ["scene.jpg", "view_0/scene.jpg"], "scene.jpg: expected either a photo with masks or folders view_0"
    ),
    "too many views": ([f"view_{index}/0.png" for index in range(33)], "expected at most 32 views, found 33"),
    "view without a photo": (
        ["view_0/0.png", "view_1/0_mask.png"], "view_1/scene.jpg: expected the photo of the scene"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_kept_in_one_line_until_the_scene_is_read(tmp_path, fault):
    names, says = FAULTS[fault]
    scene = detect_scene(_folder(tmp_path / "room", *names))
    assert scene.photos == ()
    assert says in scene.fault and "\n" not in scene.fault
    with pytest.raises(SceneInputError) as error:
        read_layout(scene)
    assert str(error.value) == scene.fault


def test_missing_source_is_a_fault_too(tmp_path):
    assert "gone: expected a folder, found nothing" in detect_scene(tmp_path / "gone").fault
    assert "expected a photo, found none" in detect_scene(tmp_path, boxes=tmp_path / "boxes.json").fault


def test_folder_is_listed_once_and_nothing_is_opened(tmp_path, monkeypatch):
    folder = _folder(tmp_path / "room", "view_0/scene.jpg", "view_0/0.png", "view_1/scene.jpg")
    listed, iterdir = [], Path.iterdir

    def note(path):
        listed.append(path.name)
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", note)
    monkeypatch.setattr(Path, "open", None)
    assert detect_scene(folder).fault is None
    assert listed == ["room", "view_0", "view_1"]


def test_no_name_belongs_to_two_forms():
    names = [
        "0.png",
        "0_mask.png",
        "chair_mask.png",
        "labels.png",
        "masks.npy",
        "scene.png",
        "labels_mask.png",
    ]
    assert all(sum(form.claims(name) for form in FORMS) <= 1 for name in names)
    assert [form_of_file(Path(name)) for name in ("a.npy", "a.png", "a")] == [ARRAY, LABELS, LABELS]


def test_every_file_of_the_folder_of_forms_is_a_form():
    files = {path.stem for path in Path(label_image.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == {form.read.__module__.rpartition(".")[2] for form in FORMS}
