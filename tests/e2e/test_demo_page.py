"""The demo's page without a browser: every event, as a browser sends it, with a toy checkpoint."""

from __future__ import annotations

import io
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from scenegen.cli import infer
from scenegen.demo.controls import SceneControls
from scenegen.demo.jobs import Job
from scenegen.demo.listening import Address
from scenegen.demo.options import DemoOptions
from scenegen.demo.server import DemoServer
from scenegen.demo.service import check_idle
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import PALETTE, write_labels
from tests.e2e.conftest import add_few_steps_flow
from tests.page_client import PageClient, PageError, needs_demo

pytestmark = needs_demo

SIZE = (96, 72)
BOXES = ((4, 20, 40, 60), (50, 20, 90, 60))
CONTROLS = ["largest", "last", 0.95, 1024, 2, 3.0, 0.5, 1.0, 3.0, 2, 3.0, 0.5, 1.0, 3.0, False, False]
"""Values of the controls after the seed; steps and guidance are those of the toy checkpoint."""


def picture(boxes=BOXES) -> Image.Image:
    """A grey room with a coloured block in each box."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        pixels[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4] = (250 - 90 * index, 40 + 80 * index, 30)
    return Image.fromarray(pixels)


def label_array(boxes=BOXES) -> np.ndarray:
    labels = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        labels[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4] = index + 1
    return labels


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Path:
    """Two examples, and a folder that lacks its labels."""
    root = tmp_path_factory.mktemp("examples")
    for number in (1, 2, 3):
        folder = root / f"{number:05d}"
        folder.mkdir()
        picture().save(folder / "scene.jpg")
        if number < 3:
            write_labels(label_array(), folder / "rgb_mask.png")
    return root


@pytest.fixture(scope="module")
def server(shared_checkpoint, examples):
    options = DemoOptions(str(shared_checkpoint), max_objects=3, max_side=200, queue_size=2)
    with DemoServer(options, Address(), examples, quiet=True) as made:
        yield made


@pytest.fixture
def tab(server):
    client = PageClient(server.url)
    yield client
    server.service.sessions.drop(client.session_hash)
    client.close()


@pytest.fixture
def photo(tmp_path) -> Path:
    picture().save(tmp_path / "room.png")
    return tmp_path / "room.png"


def seen(tab, *boxes):
    """What the browser sends of picture and list: the server's boxes behind those that were drawn since."""
    shown = tab.shown["canvas"]
    drawn = [
        dict(zip(("xmin", "ymin", "xmax", "ymax"), box)) | {"label": "", "scaleFactor": 1} for box in boxes
    ]
    return {**shown, "boxes": [*reversed(drawn), *shown["boxes"]]}, tab.shown["objects"]


def act(tab, kind, number, *, target=None, **more):
    """Do something in the list of objects."""
    keys = [row["key"] for row in tab.shown["objects"]]
    event = {"kind": kind, "key": keys[number - 1], **more}
    if target is not None:
        event["target"] = keys[target - 1]
    tab.call("change_objects", *seen(tab), event=event)


def mark(tab, photo, boxes=BOXES):
    """Upload a picture and segment some boxes."""
    tab.call("upload", {"image": tab.upload(photo), "boxes": [], "orientation": 0})
    tab.call("run_segmentation", *seen(tab, *boxes), False, "smallest")


def cache(tab, tmp_path, labels, name="labels.png"):
    """Upload a picture with labels and add it to the cache."""
    picture().save(tmp_path / "cached.png")
    Image.fromarray(PALETTE[labels]).save(tmp_path / name)
    tab.call("upload", {"image": tab.upload(tmp_path / "cached.png"), "boxes": [], "orientation": 0})
    tab.call("upload_labels", tab.upload(tmp_path / name), 0)
    tab.call("add_to_cache")


def generate(tab, *, seed=7, randomize=False, controls=CONTROLS):
    tab.call("page_generate", randomize, seed, *controls)
    tab.call("page_show_scene")


def test_a_scene_from_two_boxes_and_a_second_picture(server, tab, photo):
    mark(tab, photo)
    assert "Found 2 objects with GrabCut" in tab.shown["note"]
    assert [row["number"] for row in tab.shown["objects"]] == [1, 2]
    assert [box["xmin"] for box in tab.shown["canvas"]["boxes"]] == [4, 50], "numbers are the drawing order"
    act(tab, "select", 2)
    tab.call("click", *seen(tab), "take away from it", event={"index": [55, 25]})
    assert tab.shown["note"] == "Corrected object 2."
    act(tab, "rename", 2, name="red <b>box</b>")
    act(tab, "move", 2, target=1)
    act(tab, "query", 2)
    assert [row["name"] for row in tab.shown["objects"]] == ["red <b>box</b>", ""]
    tab.call("set_priority", *seen(tab), "order")
    tab.call("add_to_cache")
    assert "<b>" not in tab.shown["note"]
    mark(tab, photo, BOXES[::-1])
    assert tab.shown["objects"][0]["name"] == "red <b>box</b>", "names go by the order of the first picture"
    before = [row["state"] for row in tab.shown["objects"]]
    act(tab, "move", 2, target=1)
    assert [row["state"] for row in tab.shown["objects"]] == before[::-1]
    assert tab.shown["objects"][0]["name"] == "red <b>box</b>", "and not with the object that was moved"
    tab.call("add_to_cache")
    assert [item["caption"] for item in tab.shown["cached_images"]] == ["Pair 1", "Pair 2"]

    tab.call("page_offer_positions")
    generate(tab, controls=["order", "avg", *CONTROLS[2:-2], True, False])
    scene = trimesh.load(io.BytesIO(tab.fetch(tab.shown["glb"])), file_type="glb")
    assert {"obj_0", "obj_1"} <= set(scene.graph.nodes_geometry)
    assert "Done after" in tab.shown["status"] and "peak memory" in tab.shown["status"]
    assert "in the frame of **object 2**, seed 7" in tab.shown["report"]
    assert "the volume that objects share went from" in tab.shown["report"]
    assert [row[0] for row in tab.shown["poses"]["data"]] == ["0: red <b>box</b>", 1]
    assert len(tab.shown["went_in"]) == 2 and tab.shown["visible"] == [0, 1]

    tab.call("page_show_objects", [1])
    shown = trimesh.load(io.BytesIO(tab.fetch(tab.shown["scene"])), file_type="glb")
    assert set(shown.graph.nodes_geometry) == {"obj_1"}
    np.testing.assert_allclose(shown.graph["obj_1"][0], scene.graph["obj_1"][0], atol=1e-6)
    assert tab.call("page_show_objects", []) == [None]
    tab.call("page_show_objects", [0, 1])
    assert tab.shown["scene"]["path"] == tab.shown["glb"]["path"]


def test_an_object_is_made_anew_and_comes_back(tab, tmp_path):
    cache(tab, tmp_path, label_array())
    generate(tab)
    rows = tab.shown["objects"]
    assert [row["classes"].split()[-1] for row in rows] == ["made", "made"]
    first = tab.fetch(tab.shown["glb"])
    tab.call("page_reroll", event={"key": rows[0]["key"]})
    tab.call("page_show_rerolled_scene")
    assert "Done after" in tab.shown["status"]
    second = tab.fetch(tab.shown["glb"])
    assert second != first
    tab.call("page_undo")
    tab.call("page_show_undone_scene")
    assert tab.fetch(tab.shown["glb"]) == first


def test_downloads_are_one_archive_too(tab, tmp_path, small_pictures):
    cache(tab, tmp_path, label_array())
    generate(tab)
    tab.call("page_make_files", ["glb", "objects", "obj", "ply", "usd", "mp4"])
    names = [Path(file["path"]).name for file in tab.shown["files"]]
    assert {"scene.glb", "obj_1.glb", "scene.obj", "scene.ply", "scene.usda", "turntable.mp4"} <= set(names)
    assert {"poses.json", "labels_1.png"} <= set(names) and names[-1] == "scene.zip"
    with zipfile.ZipFile(io.BytesIO(tab.fetch(tab.shown["files"][-1]))) as archive:
        assert set(archive.namelist()) == set(names[:-1]) and archive.testzip() is None
    with pytest.raises(PageError, match="Expected at least one format, got none"):
        tab.call("page_make_files", [])
    with pytest.raises(PageError, match="'exe' .*not in the list of choices"):
        tab.call("page_make_files", ["exe"])


def test_the_same_seed_gives_the_bytes_of_inference(tab, tmp_path, shared_checkpoint, monkeypatch):
    picture().save(tmp_path / "room.jpg")
    write_labels(label_array(), tmp_path / "labels.png")
    arguments = {
        "input": "room.jpg",
        "masks": "labels.png",
        "checkpoint": shared_checkpoint,
        "seed": 7,
        "output": "made",
    }
    monkeypatch.chdir(tmp_path)
    assert infer.main([word for name, value in arguments.items() for word in (f"--{name}", str(value))]) == 0
    tab.call("upload", {"image": tab.upload(tmp_path / "room.jpg"), "boxes": [], "orientation": 0})
    tab.call("upload_labels", tab.upload(tmp_path / "labels.png"), 0)
    tab.call("add_to_cache")
    generate(tab)
    assert tab.fetch(tab.shown["glb"]) == (tmp_path / "made/room/scene.glb").read_bytes()
    assert tab.shown["seed"] == 7
    generate(tab, randomize=True)
    drawn = tab.shown["seed"]
    assert drawn != 7 and f"seed {drawn}" in tab.shown["report"]
    first = tab.fetch(tab.shown["glb"])
    generate(tab, seed=drawn)
    assert tab.fetch(tab.shown["glb"]) == first


def test_an_example_makes_a_scene_with_one_press_and_can_be_cached(tab):
    tab.call("page_auto_generate", False, 1, *CONTROLS)
    tab.call("page_show_example_scene")
    assert len(tab.fetch(tab.shown["scene"])) > 1000
    assert "Done after" in tab.shown["status"] and len(tab.shown["objects"]) == 2
    assert len(tab.shown["cached_images"]) == 1
    tab.call("add_to_cache")
    assert len(tab.shown["cached_images"]) == 2
    tab.call("page_choose_example", event={"index": 1})
    assert tab.shown["note"].startswith("The example has 2 objects")
    with pytest.raises(PageError, match="Expected an example from 1 to 2"):
        tab.call("page_choose_example", event={"index": 2})


@pytest.mark.slow
def test_textures_replace_plain_surfaces(tmp_path, shared_appearance_checkpoint, examples):
    """While a scene is made, a picture of plain surfaces is seen, then one more for each object."""
    options = DemoOptions(str(shared_appearance_checkpoint))
    with DemoServer(options, Address(), examples, quiet=True) as server:
        tab = PageClient(server.url)
        cache(tab, tmp_path, label_array())
        looks = {}
        for _ in tab.stream("page_generate", False, 1, *[*CONTROLS[:3], 512, *CONTROLS[4:]]):
            shown = tab.shown.get("look")
            if shown and shown["path"] not in looks:
                looks[shown["path"]] = tab.shown["status"]
                assert Image.open(io.BytesIO(tab.fetch(shown))).size == (768, 384)
        tab.call("page_show_scene")
        tab.close()
    assert len(looks) == 3 and not any("Done" in status for status in looks.values())
    assert tab.shown["look"] is None and tab.shown["scene"]["path"] == tab.shown["glb"]["path"]


def test_a_fast_structure_is_offered_where_there_is_a_flow_for_it(
    tmp_path, server, shared_checkpoint, examples
):
    folder = add_few_steps_flow(Path(shutil.copytree(shared_checkpoint, tmp_path / "both")))
    with DemoServer(DemoOptions(str(folder)), Address(), examples, quiet=True) as both:
        tab = PageClient(both.url)
        cache(tab, tmp_path, label_array())
        generate(tab, controls=[*CONTROLS[:-1], True])
        settings = both.service.sessions.get(tab.session_hash).scene.result.settings
        tab.close()
    assert settings.items() >= {"few_steps": True, "steps": 4, "cfg_strength": 0.0}.items()
    assert both.service.has_few_steps and not server.service.has_few_steps


def test_cache_buttons(tab, tmp_path):
    for _ in range(3):
        cache(tab, tmp_path, label_array())
    with pytest.raises(PageError, match="none is selected; click on one in the gallery first"):
        tab.call("delete_selected")
    tab.call("select_pair", event={"index": 1})
    tab.call("delete_selected")
    assert len(tab.shown["cached_images"]) == 2
    assert tab.call("page_offer_positions")[0]["choices"] == [["last", "last"], ["avg", "avg"]]
    tab.call("clear_all")
    assert tab.shown["cached_images"] == [] and tab.call("page_offer_positions")[0]["choices"] == [
        ["last", "last"]
    ]


def test_boxes_can_be_typed(tab, photo):
    tab.call("upload", {"image": tab.upload(photo), "boxes": [], "orientation": 0})
    tab.call("add_box", *seen(tab), "4, 20, 40, 60")
    tab.call("submit_box", *seen(tab), "50 20 90 60")
    assert [box["xmax"] for box in tab.shown["canvas"]["boxes"]] == [40, 90] and tab.shown["box"] == ""
    with pytest.raises(PageError, match="four numbers x1 y1 x2 y2 in pixels, got '1 2'"):
        tab.call("add_box", *seen(tab), "1 2")
    tab.call("click", *seen(tab), "new object", event={"index": [45, 5]})
    assert len(tab.shown["objects"]) == 3


def test_another_picture_has_no_masks_of_the_one_before(tab, photo, tmp_path):
    mark(tab, photo)
    Image.new("RGB", (60, 40)).save(tmp_path / "other.png")
    tab.call("upload", {"image": tab.upload(tmp_path / "other.png"), "boxes": [], "orientation": 0})
    assert tab.shown["objects"] == [] and tab.shown["canvas"]["boxes"] == []
    tab.call("new_image")
    assert tab.shown["canvas"] is None and tab.shown["overlay"] is None
    tab.call("new_image_1")


def test_nothing_is_lost_of_what_is_done_before_the_answers_come(tab, photo):
    """Names, a choice and a click follow each other so quickly that the page still shows the first state."""
    mark(tab, photo)
    first, second = (row["key"] for row in tab.shown["objects"])
    view = seen(tab)
    done = [{"kind": "rename", "key": key, "name": name} for key, name in ((first, "sofa"), (second, "lamp"))]
    done += [{"kind": "select", "key": key} for key in (first, second)]
    click = ("click", (*view, "take away from it"), {"index": [55, 25]})
    tab.at_once(*(("change_objects", view, event) for event in done), click)
    assert tab.shown["note"] == "Corrected object 2 (lamp)."
    assert [row["name"] for row in tab.shown["objects"]] == ["sofa", "lamp"]
    view = seen(tab, (42, 2, 48, 10))
    tab.at_once(
        ("change_objects", view, {"kind": "delete", "key": first}),
        ("change_objects", view, {"kind": "rename", "key": second, "name": "tall lamp"}),
    )
    assert [row["name"] for row in tab.shown["objects"]] == ["tall lamp", ""]
    assert [row["state"] == "no mask yet" for row in tab.shown["objects"]] == [False, True]
    modes = {item["api_name"]: item["trigger_mode"] for item in tab.config["dependencies"]}
    assert modes["change_objects"] == modes["click"] == "multiple", "the browser sends all of them"


def test_large_pictures_are_made_smaller(tab, tmp_path):
    picture().resize((400, 300)).save(tmp_path / "large.png")
    tab.call("upload", {"image": tab.upload(tmp_path / "large.png"), "boxes": [], "orientation": 0})
    assert "from 400 x 300 to 200 x 150 pixels" in tab.shown["note"]


def test_callers_give_and_get_pixels_of_the_picture_that_they_sent(tab, tmp_path):
    large = tmp_path / "large.png"
    picture().resize((384, 288), Image.Resampling.NEAREST).save(large)
    objects = [{"box": [4 * value for value in box]} for box in BOXES]
    objects[0]["negative"] = [[4 * 5, 4 * 21]]
    (answer,) = tab.call("segment", tab.upload(large), objects, False)
    assert "from 384 x 288 to 200 x 150 pixels" in answer["note"]
    labels = np.asarray(Image.open(io.BytesIO(tab.fetch(answer["labels"]))))
    assert labels.shape == (288, 384)
    for number, (x0, y0, x1, y1) in enumerate(BOXES, start=1):
        rows, columns = np.nonzero(labels == number)
        inside = (4 * x0 <= columns) & (columns < 4 * x1) & (4 * y0 <= rows) & (rows < 4 * y1)
        assert inside.mean() > 0.99 and inside.sum() > 0.5 * 16 * (x1 - x0) * (y1 - y0)
        assert answer["objects"][number - 1]["pixels"] == len(rows)
    with pytest.raises(PageError, match="object 0: .*inside the photo, 384x288 pixels"):
        tab.call("segment", tab.upload(large), [{"box": [0, 0, 400, 100]}], False)
    (added,) = tab.call("add", tab.upload(large), {**answer["labels"]})
    assert added["objects"] == 2
    tab.call("upload", {"image": tab.upload(large), "boxes": [], "orientation": 0})
    tab.call("add_box", *seen(tab), "16 80 160 240")
    assert tab.shown["canvas"]["boxes"][0]["xmax"] == round(160 * 200 / 384), "as typed boxes do"
    with pytest.raises(PageError, match="box: expected pixels, got shares of the picture"):
        tab.call("add_box", *seen(tab), "0.1 0.1 0.5 0.9")


def test_presets_and_intervals(tab):
    values = tab.call("page_choose_preset", "balanced")
    assert values[:4] == [0.95, 1024, 25, 5.0]
    assert tab.call("page_choose_preset", "checkpoint's own")[2:7] == [2, 3.0, 0.5, 1.0, 3.0]
    assert tab.call("start_before_end_7", 0.9, 0.4) == [0.9, 0.9]
    assert tab.call("end_after_start_12", 0.9, 0.4) == [0.4, 0.4]
    assert tab.call("end_after_start_7", 0.1, 0.4) == [0.1, 0.4]
    assert tab.call("start_before_end_12", 0.1, 0.4) == [0.1, 0.4]


@pytest.fixture
def gate(server):
    """The only device is busy until the test ends."""
    release = threading.Event()
    job = server.service.queue.submit(Job(lambda job, device: release.wait(60)))
    yield release
    release.set()
    assert job.wait(60)


def test_a_waiting_scene_shows_its_place_and_can_be_cancelled(server, tab, tmp_path, gate):
    cache(tab, tmp_path, label_array())
    answers = tab.stream("page_generate", False, 1, *CONTROLS)
    next(answers)
    assert "Waiting: 1 scene before yours." in tab.shown["status"]
    with pytest.raises(SceneInputError, match="yours is still being made; wait for it or cancel it"):
        server.service.generate(server.service.sessions.get(tab.session_hash), SceneControls())
    with pytest.raises(SceneInputError, match="yours is still being made"):
        check_idle(server.service.sessions.get(tab.session_hash))
    tab.call("page_cancel")
    list(answers)
    assert "Cancelled after 0.0 s" in tab.shown["status"]
    with pytest.raises(PageError, match="none is being made"):
        tab.call("page_cancel")
    gate.set()
    generate(tab)
    assert "Done" in tab.shown["status"], "the cache is still there, and the next scene is made"


def test_a_full_queue_is_said(server, tab, tmp_path, gate):
    cache(tab, tmp_path, label_array())
    waiting = [server.service.queue.submit(Job(lambda job, device: None)) for _ in range(2)]
    with pytest.raises(PageError, match="at most 2 scenes to wait.*try again in some minutes"):
        generate(tab)
    gate.set()
    assert all(job.wait(60) for job in waiting)
    generate(tab)
    assert "Done" in tab.shown["status"]


BAD = [
    ("run_segmentation", lambda tab: (None, [], False, "smallest"), "Expected a picture, found none"),
    ("add_to_cache", lambda tab: (), "Expected a picture, found none"),
    ("page_generate", lambda tab: (False, 1, *CONTROLS), "Expected a picture in the cache, found none"),
    ("page_make_files", lambda tab: (["glb"],), "Expected a scene to download, found none"),
    ("page_show_objects", lambda tab: ([],), "Expected a scene, found none"),
    ("page_cancel", lambda tab: (), "none is being made"),
]


@pytest.mark.parametrize(("event", "data", "words"), BAD, ids=[event for event, _, _ in BAD])
def test_events_without_a_picture_say_what_to_do(tab, event, data, words):
    with pytest.raises(PageError, match=words):
        tab.call(event, *data(tab))


def drawn(*boxes):
    def act(tab, tmp_path):
        tab.call("run_segmentation", *seen(tab, *boxes), False, "smallest")

    return act


def labelled(labels, size=None):
    def act(tab, tmp_path):
        image = labels if isinstance(labels, Image.Image) else Image.fromarray(PALETTE[labels])
        image.resize(size or image.size, Image.Resampling.NEAREST).save(tmp_path / "bad.png")
        tab.call("upload_labels", tab.upload(tmp_path / "bad.png"), 0)

    return act


def uploaded(content: bytes):
    def act(tab, tmp_path):
        (tmp_path / "bad.png").write_bytes(content)
        tab.call("upload", {"image": tab.upload(tmp_path / "bad.png"), "boxes": [], "orientation": 0})

    return act


def controls(index, value, *more):
    def act(tab, tmp_path):
        values = list(CONTROLS)
        for place, changed in ((index, value), *more):
            values[place] = changed
        generate(tab, controls=values)

    return act


def unequal(tab, tmp_path):
    cache(tab, tmp_path, label_array(BOXES[:1]))
    generate(tab)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (drawn(), "Expected a box around each object, found none; draw boxes"),
        (drawn((5, 5, 5, 40)), "box 1: .*expected a box with an area"),
        (drawn((500, 5, 600, 40)), "box 1: .*inside the photo, 96x72 pixels"),
        (drawn(*[(i, i, 40, 40) for i in range(40)]), "Expected at most 3 objects, got 40"),
        (labelled(label_array(), (50, 50)), "^bad.png: expected labels of 96x72 like the picture, got 50x50"),
        (labelled(np.zeros((72, 96), np.uint8)), "all pixels are 0; draw the objects"),
        (uploaded(b"%PDF-1.4"), "^bad.png: expected a JPEG, PNG or other common image"),
        (unequal, "Expected the same objects .*pair 1 has 2, pair 2 has 1; delete a pair"),
        (controls(1, "avg"), "'avg' .*not in the list of choices"),
        (controls(2, 1.0), "1.0 is greater than maximum value 0.99"),
        (controls(6, 1.5), "1.5 is greater than maximum value 1"),
        (
            controls(6, 1.0, (7, 0.5)),
            "structure: expected the CFG interval to start before it ends, got 1 to 0.5",
        ),
        (controls(8, 0.0), "0.0 is less than minimum value 0.1"),
    ],
)
def test_bad_input_is_a_warning_and_the_cache_stays(server, tab, photo, tmp_path, act, words):
    cache(tab, tmp_path, label_array())
    tab.call("upload", {"image": tab.upload(photo), "boxes": [], "orientation": 0})
    with pytest.raises(PageError, match=words) as caught:
        act(tab, tmp_path)
    assert "Traceback" not in str(caught.value) and str(server.service.sessions.root) not in str(caught.value)
    session = server.service.sessions.get(tab.session_hash)
    assert session.pairs and len(session.pairs[0].names) == 2


def test_missing_weights_are_named_and_nothing_is_lost(tmp_path, examples):
    with DemoServer(DemoOptions(str(tmp_path / "nowhere")), Address(), examples, quiet=True) as server:
        tab = PageClient(server.url)
        cache(tab, tmp_path, label_array())
        with pytest.raises(PageError, match="nowhere"):
            generate(tab)
        assert "Failed" in tab.shown["status"]
        assert len(server.service.sessions.get(tab.session_hash).pairs) == 1
        tab.close()
