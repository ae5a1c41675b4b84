"""Photos whose masks are found first: from boxes or automatically, through the command line's entry point."""

import json
import logging
import weakref

import numpy as np
import pytest
import trimesh
from PIL import Image

import inference
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.segmentation import Sam2Segmenter
from tests.box_filler import BoxFiller

BOXES = [[26, 4, 44, 14], [3, 4, 20, 12]]


class Loads:
    """What was loaded, in order, and what the segmenter finds."""

    def __init__(self):
        self.names: list[str] = []
        self.segmenters: list[weakref.ref] = []
        self.found = np.zeros((0, 36, 48), bool)

    def segmenter(self, *arguments) -> BoxFiller:
        self.names.append("segmenter")
        made = BoxFiller(self.found)
        self.segmenters.append(weakref.ref(made))
        return made


@pytest.fixture
def loads(monkeypatch) -> Loads:
    """Replace SAM 2, and note what is loaded when."""
    noted, load_pipeline = Loads(), SceneGenPipeline.from_pretrained

    def pipeline(*arguments, **keywords):
        noted.names.append("pipeline")
        assert [made() for made in noted.segmenters] == [None] * len(noted.segmenters), "SAM 2 is not freed"
        return load_pipeline(*arguments, **keywords)

    monkeypatch.setattr(Sam2Segmenter, "from_pretrained", noted.segmenter)
    monkeypatch.setattr(SceneGenPipeline, "from_pretrained", pipeline)
    return noted


@pytest.fixture
def run(tmp_path, shared_checkpoint):
    """Call inference.main on an input with output tmp_path/out and return its exit status."""

    def call(source, *arguments):
        paths = ["--input", source, "--output", tmp_path / "out", "--checkpoint", shared_checkpoint]
        return inference.main([str(argument) for argument in [*paths, "--formats", "glb", *arguments]])

    return call


@pytest.fixture
def photo(tmp_path, write_scene):
    """A photo by itself, with a file of boxes that its objects overlap."""
    path = tmp_path / "lounge.jpg"
    (write_scene(tmp_path / "made", 2) / "scene.jpg").rename(path)
    (tmp_path / "boxes.json").write_text(json.dumps(BOXES))
    return path


@pytest.fixture
def write_boxes(write_scene):
    """Function folder -> folder of a photo with boxes.json and no mask."""

    def write(folder, boxes=BOXES):
        write_scene(folder, 2)
        for path in folder.glob("*.png"):
            path.unlink()
        (folder / "boxes.json").write_text(json.dumps(boxes))
        return folder

    return write


def _labels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_boxes_become_objects_of_the_same_numbers(tmp_path, run, photo, loads):
    assert run(photo, "--boxes", tmp_path / "boxes.json") == 0
    folder = tmp_path / "out" / "lounge"
    scene = trimesh.load(folder / "scene.glb")
    assert sorted(scene.graph.nodes_geometry) == ["obj_0", "obj_1"]
    labels = _labels(folder / "labels.png")
    assert (labels[4:14, 26:44] == 1).all() and (labels[4:12, 3:20] == 2).all()
    assert (labels > 0).sum() == 10 * 18 + 8 * 17
    assert loads.names == ["segmenter", "pipeline"]


def test_the_written_labels_give_the_same_scene(tmp_path, run, photo, loads):
    assert run(photo, "--boxes", tmp_path / "boxes.json") == 0
    made = tmp_path / "out" / "lounge"
    content = (made / "scene.glb").read_bytes()
    assert run(photo, "--masks", made / "labels.png", "--overwrite") == 0
    assert (made / "scene.glb").read_bytes() == content
    assert loads.names == ["segmenter", "pipeline", "pipeline"]


def test_labels_that_were_corrected_by_hand_stay_and_count(tmp_path, run, photo, loads, caplog):
    boxes = ("--boxes", tmp_path / "boxes.json", "--overwrite")
    path = tmp_path / "out" / "lounge" / "labels.png"
    assert run(photo, *boxes) == 0
    found = path.read_bytes()
    assert run(photo, *boxes) == 0
    assert path.read_bytes() == found and "changed by hand" not in caplog.text  # they are found again
    corrected = np.where(_labels(path) == 2, 0, _labels(path))
    Image.fromarray(corrected.astype(np.uint8)).save(path)
    mine = path.read_bytes()
    assert run(photo, *boxes) == 0
    assert path.read_bytes() == mine and "changed by hand, so it is used as it is" in caplog.text
    scene = trimesh.load(path.with_name("scene.glb"))
    assert sorted(scene.graph.nodes_geometry) == ["obj_0"]


def test_one_segmenter_serves_the_scenes_without_masks(
    tmp_path, run, write_scene, write_boxes, loads, capsys
):
    write_boxes(tmp_path / "in" / "a")
    write_boxes(tmp_path / "in" / "b", boxes=[[0, 0, 1, 99]])
    write_boxes(tmp_path / "in" / "c", boxes=[BOXES[0]])
    write_scene(tmp_path / "in" / "d", 1)
    assert run(tmp_path / "in", "--json") == 1
    reports = json.loads(capsys.readouterr().out)["scenes"]
    assert [report["status"] for report in reports] == ["done", "failed", "done", "done"]
    assert "b/boxes.json: box 0: expected a box inside the photo, 48x36 pixels" in reports[1]["error"]
    assert loads.names == ["segmenter", "pipeline"]
    assert sorted(path.parent.name for path in (tmp_path / "out").glob("*/labels.png")) == ["a", "c"]
    assert run(tmp_path / "in") == 1  # finished scenes do not ask for masks again
    assert loads.names == ["segmenter", "pipeline", "segmenter"]


def test_masks_of_a_folder_count_more_than_its_boxes(tmp_path, run, write_scene, loads):
    write_scene(tmp_path / "in" / "a", 1)
    (tmp_path / "in" / "a" / "boxes.json").write_text("not read")
    assert run(tmp_path / "in", "--auto-masks") == 0
    assert loads.names == ["pipeline"]


def test_nothing_is_found_without_being_asked_for(tmp_path, run, write_boxes, loads, caplog):
    (write_boxes(tmp_path / "in" / "a") / "boxes.json").unlink()
    assert run(tmp_path / "in") == 1
    assert "found none; add them, or boxes.json, or use --auto-masks" in caplog.text
    assert loads.names == ["pipeline"]


def test_objects_are_found_automatically(tmp_path, run, photo, loads):
    loads.found = np.zeros((2, 36, 48), bool)
    loads.found[0, 4:30, 4:20] = loads.found[1, 10:20, 10:30] = True
    assert run(photo, "--auto-masks") == 0
    labels = _labels(tmp_path / "out" / "lounge" / "labels.png")
    assert labels[5, 5] == 1 and labels[15, 15] == 2  # the smaller one lies over the larger


def test_views_keep_the_numbers_of_their_boxes(tmp_path, run, write_boxes, loads):
    for view, boxes in (("view_0", BOXES), ("view_1", BOXES[::-1])):
        write_boxes(tmp_path / "room" / view, boxes)
    assert run(tmp_path / "room") == 0
    first, second = (
        _labels(tmp_path / "out" / "room" / view / "labels.png") for view in ("view_0", "view_1")
    )
    assert (first[4:12, 3:20] == 2).all() and (second[4:12, 3:20] == 1).all()
    poses = json.loads((tmp_path / "out" / "room" / "poses.json").read_text())
    assert [item["id"] for item in poses["objects"]] == [0, 1]


def test_faults_of_boxes_and_photos_are_one_line(tmp_path, run, photo, loads, caplog):
    def fails(says, *arguments):
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            assert run(photo, *arguments) == 1
        (record,) = caplog.records
        assert says in record.message and "\n" not in record.message

    boxes = tmp_path / "boxes.json"
    fails("no.json: expected a list of boxes", "--boxes", tmp_path / "no.json")
    boxes.write_text("[[3, 4, 20, 12], [3.5, 4, 20.5, 12]]")  # the filler gives both the same pixels
    fails("boxes.json: box 0: expected an object of its own", "--boxes", boxes)
    boxes.write_text("[[3, 4, 20, 12], [21.1, 4, 21.2, 12]]")  # the filler finds nothing in the second
    fails("boxes.json: box 1: expected an object in the box, found none", "--boxes", boxes)
    fails("lounge.jpg: expected objects that can be found without a hint, found none", "--auto-masks")
    assert loads.names == ["segmenter"] * 4
    assert not (tmp_path / "out" / "lounge" / "scene.glb").exists()


def test_views_need_boxes_of_their_own(tmp_path, run, write_boxes, loads, caplog):
    for view in ("view_0", "view_1"):
        write_boxes(tmp_path / "room" / view)
    (tmp_path / "room" / "view_1" / "boxes.json").unlink()
    assert run(tmp_path / "room", "--auto-masks") == 1
    assert any("view_1: expected masks or boxes.json, found neither" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(
            ["{photo}"], "lounge.jpg: expected masks for this photo; add --masks, --boxes", id="no masks"
        ),
        pytest.param(
            ["{folder}", "--boxes", "boxes.json"],
            "expected the photo that boxes.json belongs to",
            id="folder",
        ),
        pytest.param(
            ["{photo}", "--boxes", "boxes.json", "--sam2", "{folder}/none"],
            "or give the masks in a file",
            id="sam2",
        ),
    ],
)
def test_nothing_starts_without_what_it_needs(tmp_path, run, photo, caplog, arguments, says):
    filled = [argument.format(photo=photo, folder=tmp_path) for argument in arguments]
    assert run(*filled) == 2
    message = caplog.records[-1].message
    assert says in message and "\n" not in message
    assert not (tmp_path / "out").exists()


def test_missing_segmenter_does_not_stop_scenes_that_have_masks(
    tmp_path, run, write_scene, write_boxes, caplog
):
    write_scene(tmp_path / "in" / "a", 1)
    write_boxes(tmp_path / "in" / "b")
    assert run(tmp_path / "in", "--sam2", str(tmp_path / "none")) == 1
    assert "or give the masks in a file" in caplog.text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_masks_come_from_one_source(run, photo, capsys):
    with pytest.raises(SystemExit) as stop:
        run(photo, "--auto-masks", "--boxes", "boxes.json")
    assert stop.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err
