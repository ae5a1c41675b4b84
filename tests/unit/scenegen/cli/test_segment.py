"""``scenegen segment`` with a stand-in for SAM 2, from the command line to the label images."""

import json

import numpy as np
import pytest
from PIL import Image

from scenegen.cli import segment
from scenegen.segmentation import ObjectPrompt, Sam2Segmenter
from tests.box_filler import BoxFiller

BOXES = [[26, 4, 44, 14], [3, 4, 20, 12]]


@pytest.fixture
def loads(monkeypatch):
    """Replace SAM 2 by one that finds an object at the left, and note with which arguments it is loaded."""
    noted = []
    found = np.zeros((1, 36, 48), bool)
    found[0, :, :9] = True

    def load(*arguments):
        noted.append(arguments)
        return BoxFiller(found)

    monkeypatch.setattr(Sam2Segmenter, "from_pretrained", load)
    return noted


@pytest.fixture
def run(tmp_path, loads):
    def call(source, *arguments):
        paths = ["--input", source, "--output", tmp_path / "out"]
        return segment.main([str(argument) for argument in [*paths, *arguments]])

    return call


def write_photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (48, 36), "grey").save(path)
    return path


def labels(tmp_path, scene):
    return np.asarray(Image.open(tmp_path / "out" / scene / "labels.png"))


def test_a_photo_without_a_hint(tmp_path, run, capsys):
    assert run(write_photo(tmp_path / "lounge.jpg")) == 0
    found = labels(tmp_path, "lounge")
    assert (found[:, :9] == 1).all() and not found[:, 9:].any()
    assert "1 done, 0 skipped, 0 failed" in capsys.readouterr().out


def test_a_photo_with_boxes_by_file(tmp_path, run):
    (tmp_path / "boxes.json").write_text(json.dumps(BOXES))
    assert run(write_photo(tmp_path / "lounge.jpg"), "--boxes", tmp_path / "boxes.json") == 0
    found = labels(tmp_path, "lounge")
    assert (found[4:14, 26:44] == 1).all() and (found[4:12, 3:20] == 2).all()


def test_scene_folders_take_boxes_where_there_are_some_and_keep_masks(tmp_path, run, loads, capsys):
    for name in ("automatic", "boxes", "finished"):
        write_photo(tmp_path / "in" / name / "scene.jpg")
    (tmp_path / "in" / "boxes" / "boxes.json").write_text(json.dumps(BOXES))
    Image.new("L", (48, 36), 255).save(tmp_path / "in" / "finished" / "labels.png")
    assert run(tmp_path / "in") == 0
    assert "2 done, 1 skipped, 0 failed" in capsys.readouterr().out
    assert labels(tmp_path, "automatic").max() == 1 and labels(tmp_path, "boxes").max() == 2
    assert not (tmp_path / "out" / "finished").exists()
    assert len(loads) == 1


def test_label_images_that_are_there_stay_unless_asked(tmp_path, run, loads):
    photo = write_photo(tmp_path / "lounge.jpg")
    assert run(photo) == 0 and run(photo) == 0 and len(loads) == 1
    assert run(photo, "--overwrite") == 0 and len(loads) == 2


def test_a_label_image_that_was_corrected_stays_even_so(tmp_path, run, loads):
    photo = write_photo(tmp_path / "lounge.jpg")
    assert run(photo) == 0
    corrected = Image.new("L", (48, 36), 7)
    corrected.save(tmp_path / "out" / "lounge" / "labels.png")
    assert run(photo) == 0
    assert (labels(tmp_path, "lounge") == 7).all() and len(loads) == 1
    assert run(photo, "--overwrite") == 0
    assert (labels(tmp_path, "lounge") == 7).all()
    (tmp_path / "out" / "lounge" / "labels.png").unlink()
    assert run(photo) == 0 and labels(tmp_path, "lounge").max() == 1


def test_a_faulty_scene_does_not_stop_the_others(tmp_path, run, capsys, caplog):
    write_photo(tmp_path / "in" / "a" / "scene.jpg")
    write_photo(tmp_path / "in" / "b" / "scene.jpg")
    (tmp_path / "in" / "a" / "boxes.json").write_text("[[0, 0, 1, 99]]")
    (tmp_path / "in" / "c").mkdir()
    assert run(tmp_path / "in") == 1
    assert "1 done, 0 skipped, 2 failed" in capsys.readouterr().out
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "boxes.json: box 0" in errors[0] and "scene.jpg: expected the photo" in errors[1]


def test_input_that_is_not_there_starts_nothing(tmp_path, run, loads, caplog):
    assert run(tmp_path / "gone") == 2
    assert "gone: expected a folder, found nothing" in caplog.messages[-1] and not loads


def test_boxes_without_their_photo_are_refused(tmp_path, run, capsys):
    with pytest.raises(SystemExit) as exit_:
        run(tmp_path, "--boxes", tmp_path / "boxes.json")
    assert exit_.value.code == 2
    assert f"expected the photo that they belong to as --input, got {tmp_path}" in capsys.readouterr().err


def test_objects_are_found_by_their_names(tmp_path, run, monkeypatch, caplog):
    asked = []

    def detect(photo, texts, model):
        asked.append((photo.size, texts, model))
        return [ObjectPrompt(tuple(map(float, box)), name="chair") for box in BOXES]

    monkeypatch.setattr(segment, "load_detector", lambda folder, device: f"{folder} on {device}")
    monkeypatch.setattr(segment, "detect", detect)
    photo = write_photo(tmp_path / "lounge.jpg")
    assert run(photo, "--text", "chair, lamp", "--detector", "dino") == 0
    found = labels(tmp_path, "lounge")
    assert (found[4:14, 26:44] == 1).all() and (found[4:12, 3:20] == 2).all()
    assert asked == [((48, 36), ["chair", " lamp"], "dino on cpu")]
    monkeypatch.setattr(segment, "detect", lambda photo, texts, model: [])
    assert run(photo, "--text", "cow", "--detector", "dino", "--overwrite") == 1
    assert "lounge.jpg: expected objects of the given names, found none; use other names" in caplog.text


def test_grabcut_needs_no_weights_and_takes_points(tmp_path, run, loads):
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed (extra demo)")
    pixels = np.full((36, 48, 3), 200, np.uint8)
    pixels[4:14, 26:44], pixels[4:12, 3:20] = (180, 30, 30), (20, 90, 160)
    Image.fromarray(pixels).save(tmp_path / "lounge.png")
    hints = [{"box": [22, 1, 47, 18], "positive": [[30, 8]], "name": "sofa"}, [1, 2, 24, 15]]
    (tmp_path / "boxes.json").write_text(json.dumps(hints))
    arguments = ("--boxes", tmp_path / "boxes.json", "--segmenter", "grabcut")
    assert run(tmp_path / "lounge.png", *arguments) == 0
    found = labels(tmp_path, "lounge")
    assert (found[6:12, 28:42] == 1).all() and (found[6:10, 5:18] == 2).all()
    assert found[20:].max() == 0 and not loads


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--segmenter", "grabcut", "--sam2", "folder"], "--sam2: is for --segmenter sam2"),
        (["--cutout-model", "net.onnx"], "--cutout-model: starts GrabCut; add --segmenter grabcut"),
        (["--text", "chair"], "--text, --detector: expected both or neither"),
        (["--segmenter", "magic"], "invalid choice: 'magic'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, run, capsys, arguments, says):
    with pytest.raises(SystemExit) as stop:
        run(write_photo(tmp_path / "lounge.jpg"), *arguments)
    assert stop.value.code == 2 and says in capsys.readouterr().err


def test_grabcut_needs_boxes(tmp_path, run, caplog):
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed (extra demo)")
    assert run(write_photo(tmp_path / "lounge.jpg"), "--segmenter", "grabcut") == 1
    assert "lounge.jpg: GrabCut (OpenCV) in the box, without a network: expected boxes" in caplog.text
    assert "since only SAM 2 finds objects without a hint" in caplog.text


def test_masks_of_another_photo_of_that_name_or_of_other_boxes_are_found_again(tmp_path, run, loads, caplog):
    photo, boxes = write_photo(tmp_path / "lounge.jpg"), tmp_path / "boxes.json"
    boxes.write_text(json.dumps(BOXES))
    assert run(photo, "--boxes", boxes) == 0 == run(photo, "--boxes", boxes) and len(loads) == 1
    boxes.write_text(json.dumps(BOXES[:1]))
    assert run(photo, "--boxes", boxes) == 0 and len(loads) == 2
    Image.new("RGB", (48, 36), (9, 9, 9)).save(photo)
    caplog.clear()
    run(photo, "--boxes", boxes)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert lines[0].endswith("labels.png: is of another photo or other boxes; it is made again")
