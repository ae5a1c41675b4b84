"""The picture that is being marked: boxes, clicks, order, names and labels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from scenegen.demo.prompts import CanvasBox, CurrentPicture, MarkedObject, PageView
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import PALETTE, LabelImage, read_label_image, write_labels
from scenegen.segmentation.prompts import ObjectPrompt
from scenegen.segmentation.segmenter import PromptMasks, Segmenter

WIDTH, HEIGHT = 40, 30


class BoxFiller(Segmenter):
    """Every object fills its box, less the squares around negative points; points alone are small squares."""

    def __init__(self, scores=None):
        self.asked = []
        self._scores = scores

    @property
    def description(self):
        return "filled boxes"

    def find_prompted(self, image, prompts):
        self.asked.append(len(prompts))
        masks = np.zeros((len(prompts), image.height, image.width), bool)
        for mask, prompt in zip(masks, prompts):
            if prompt.box is not None:
                x0, y0, x1, y1 = map(round, prompt.box)
                mask[y0:y1, x0:x1] = True
            for points, value in ((prompt.positive, True), (prompt.negative, False)):
                for x, y in points:
                    mask[max(int(y) - 2, 0) : int(y) + 3, max(int(x) - 2, 0) : int(x) + 3] = value
        return PromptMasks(masks, self._scores)


@pytest.fixture
def picture() -> CurrentPicture:
    return CurrentPicture(Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)))


def take(picture, *corners, numbers=None, limit=16, keys=None):
    """Draw boxes on a page that knows the objects of ``keys``, by default all; numbers are its own."""
    keys = tuple(item.key for item in picture.objects) if keys is None else keys
    owners = [None if number is None else keys[number - 1] for number in numbers or [None] * len(corners)]
    drawn = (CanvasBox(tuple(map(float, box)), owner) for box, owner in zip(corners, owners))
    picture.take_boxes(PageView(tuple(drawn), keys), limit)


def test_boxes_become_objects_in_their_order_and_keep_their_numbers(picture):
    take(picture, (0, 0, 10, 10), (20, 0, 30, 10))
    segmenter = BoxFiller()
    picture.segment(segmenter, polygons=False)
    labels = picture.complete_labels()
    assert labels[5, 5] == 1 and labels[5, 25] == 2 and labels[20, 20] == 0
    assert [box["label"] for box in picture.canvas_boxes()] == ["1", "2"]
    take(picture, (0, 12, 10, 22), (0, 0, 10, 10), (20, 0, 30, 10), numbers=[None, 1, 2])
    assert [item.mask is None for item in picture.objects] == [False, False, True]
    picture.segment(segmenter, polygons=False)
    assert segmenter.asked == [2, 1], "masks that are there are not found again"


def test_a_moved_box_loses_its_mask_and_a_removed_one_its_object(picture):
    take(picture, (0, 0, 10, 10), (20, 0, 30, 10), (0, 15, 9, 25))
    picture.segment(BoxFiller(), polygons=False)
    picture.rename(3, "lamp")
    picture.choose_query(2)
    take(picture, (0, 0, 10, 10), (2, 15, 12, 25), numbers=[1, 3])
    assert picture.names == ("", "lamp") and picture.query is None
    assert [item.mask is None for item in picture.objects] == [False, True]
    with pytest.raises(SceneInputError, match=r"object 2 \(lamp\): expected a mask.*run the segmentation"):
        picture.complete_labels()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ((5, 5, 5, 9), "box 1: .*expected a box with an area"),
        ((50, 0, 60, 10), "box 1: .*expected a box inside the photo, 40x30 pixels"),
        ((0, 0, float("nan"), 10), "box 1: .*expected finite numbers"),
    ],
)
def test_bad_boxes_are_named_and_change_nothing(picture, wrong, words):
    take(picture, (0, 0, 10, 10))
    with pytest.raises(SceneInputError, match=words):
        take(picture, wrong, (0, 0, 10, 10), numbers=[None, 1])
    assert len(picture.objects) == 1
    with pytest.raises(SceneInputError, match="at most 2 objects, got 3.*--max-objects"):
        take(picture, (0, 0, 9, 9), (9, 9, 20, 20), (0, 0, 10, 10), numbers=[None, None, 1], limit=2)


def test_a_box_that_reaches_out_is_cut_off_and_corners_may_be_any(picture):
    take(picture, (30, 25, 55, -4))
    assert picture.objects[0].prompt.box == (30, 0, WIDTH, 25)


def test_what_the_canvas_sends_is_read():
    keys = (7, 9)
    sent = {"xmin": 10, "ymin": 20, "xmax": 30, "ymax": 40, "scaleFactor": 0.5, "label": "2: red chair"}
    assert CanvasBox.parse(sent, keys) == CanvasBox((20, 40, 60, 80), 9)
    for label in ("", "chair", "0", "3", "1" * 5000, "\u0661"):
        assert CanvasBox.parse({**sent, "label": label}, keys).key is None
    huge = int("9" * 400)
    for wrong in (
        {"xmin": 1},
        {"xmin": "a", "ymin": 2, "xmax": 3, "ymax": 4},
        {**sent, "label": "", "xmin": huge},
        {**sent, "label": "", "xmin": "1" * 5000},
        "box",
        3,
    ):
        with pytest.raises(SceneInputError, match="box") as caught:
            picture = CurrentPicture(Image.new("RGB", (WIDTH, HEIGHT)))
            picture.take_boxes(PageView((CanvasBox.parse(wrong, keys),)), 16)
        assert len(str(caught.value)) < 300


def test_a_page_that_lags_behind_neither_doubles_nor_loses_objects(picture):
    take(picture, (0, 0, 10, 10))
    take(picture, (0, 0, 10, 10), (20, 0, 30, 10), numbers=[1, None])
    first, second = (item.key for item in picture.objects)
    picture.segment(BoxFiller(), polygons=False)
    take(picture, (0, 0, 10, 10), (20, 0, 30, 10), (0, 15, 9, 25), numbers=[1, None, None], keys=(first,))
    assert [item.key for item in picture.objects][:2] == [first, second] and len(picture.objects) == 3
    assert [item.mask is None for item in picture.objects] == [False, False, True]
    picture.delete(1)
    third = picture.objects[1].key
    everything = [(0, 0, 10, 10), (20, 0, 30, 10), (0, 15, 9, 25)]
    take(picture, *everything, numbers=[1, 2, 3], keys=(first, second, third))
    assert [item.key for item in picture.objects] == [second, third], "a deleted object stays deleted"
    assert picture.objects[0].mask is not None, "and others keep their boxes and masks"


def test_clicks_correct_one_object(picture):
    take(picture, (0, 0, 10, 10), (20, 0, 30, 10))
    segmenter = BoxFiller()
    picture.segment(segmenter, polygons=False)
    picture.click(segmenter, 2, (25, 5), positive=False)
    picture.click(segmenter, 2, (25, 20), positive=True)
    labels = picture.labels()
    assert labels[5, 25] == 0 and labels[20, 25] == 2 and labels[5, 5] == 1
    assert picture.at(2).prompt.negative == ((25, 5),) and segmenter.asked == [2, 1, 1]
    with pytest.raises(SceneInputError, match="object 3: expected a number from 1 to 2"):
        picture.click(segmenter, 3, (1, 1), positive=True)
    with pytest.raises(SceneInputError, match="point: .*inside the photo"):
        picture.click(segmenter, 1, (400, 5), positive=True)


def test_a_click_that_leaves_nothing_changes_nothing(picture):
    take(picture, (4, 4, 8, 8))
    picture.segment(BoxFiller(), polygons=False)
    with pytest.raises(SceneInputError, match="object 1: expected an object in the box, found nothing"):
        picture.click(BoxFiller(), 1, (6, 6), positive=False)
    assert picture.at(1).prompt.negative == () and picture.labels().any()


def test_overlaps_go_by_the_priority(picture):
    take(picture, (0, 0, 10, 10), (5, 5, 30, 25))
    picture.segment(BoxFiller(np.array([0.2, 0.9])), polygons=False)
    places = {}
    for priority in ("smallest", "score", "order"):
        picture.priority = priority
        places[priority] = int(picture.labels()[7, 7])
    assert places == {"smallest": 1, "score": 2, "order": 2}
    picture.move(2, 1)
    assert picture.labels()[7, 7] == 2, "the last one in the order is drawn over the others"


def test_an_object_below_others_is_named(picture):
    take(picture, (0, 0, 20, 20), (0, 0, 20, 20))
    picture.segment(BoxFiller(), polygons=False)
    picture.rename(1, "rug")
    with pytest.raises(SceneInputError, match=r"object 1 \(rug\): .*other objects cover all of it"):
        picture.complete_labels()


def test_polygons_keep_the_largest_outline(picture):
    take(picture, (0, 0, 10, 10))
    picture.objects[0].prompt = ObjectPrompt((0, 0, 10, 10), positive=((30, 20),))
    segmenter = BoxFiller()
    picture.segment(segmenter, polygons=False)
    assert picture.labels()[20, 30] == 1
    picture.segment(segmenter, polygons=True)
    assert picture.labels()[20, 30] == 0 and picture.labels()[5, 5] == 1


def test_names_are_cut_to_one_short_line(picture):
    picture.add(ObjectPrompt(box=(0, 0, 9, 9)), 16)
    picture.rename(1, "  a\n chair " + "x" * 200)
    assert picture.names[0].startswith("a chair xxx") and len(picture.names[0]) == 60


@pytest.mark.parametrize("count", [23, 24, 40])
def test_many_labels_survive_upload_order_and_download(count, tmp_path):
    """Upload a label image, turn the order round, download it and upload that again."""
    labels = np.zeros((80, 100), np.uint8)
    for index in range(count):
        row, column = divmod(index, 10)
        labels[10 * row + 1 : 10 * row + 9, 10 * column + 1 : 10 * column + 9] = index + 1
    photo = Image.new("RGB", (100, 80))
    picture = CurrentPicture(photo)
    picture.use_labels(read_label_image(Image.fromarray(PALETTE[labels])), 64)
    assert len(picture.objects) == count and (picture.complete_labels() == labels).all()
    for number in range(2, count + 1):
        picture.move(number, 1)
    turned = picture.complete_labels()
    write_labels(turned, tmp_path / "labels.png")
    again = CurrentPicture(photo)
    with Image.open(tmp_path / "labels.png") as image:
        again.use_labels(read_label_image(image), 64)
    assert (again.complete_labels() == np.where(labels > 0, count + 1 - labels, 0)).all()
    with pytest.raises(SceneInputError, match=f"at most 16 objects, got {count}"):
        again.use_labels(read_label_image(Image.fromarray(PALETTE[labels])), 16)


def test_labels_7_and_14_stay_two_objects():
    """Their published colours have the same grey value."""
    labels = np.zeros((30, 40), np.uint8)
    labels[2:12, 2:12], labels[2:12, 22:32] = 7, 14
    picture = CurrentPicture(Image.new("RGB", (40, 30)))
    picture.use_labels(read_label_image(Image.fromarray(PALETTE[labels])), 16)
    assert len(picture.objects) == 2
    assert picture.objects[0].prompt.box == (2, 2, 12, 12) and picture.objects[1].prompt.box == (
        22,
        2,
        32,
        12,
    )


def test_nothing_to_segment_is_said(picture):
    with pytest.raises(SceneInputError, match="expected a box around each object, found none"):
        picture.segment(BoxFiller(), polygons=False)
    with pytest.raises(SceneInputError, match="expected objects on the picture, found none"):
        picture.complete_labels()


def test_a_label_image_replaces_objects_query_and_selection(picture):
    picture.objects = [MarkedObject(ObjectPrompt(box=(0, 0, 5, 5)))]
    picture.choose_query(1)
    picture.select(1)
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    labels[3:9, 3:9] = 200
    picture.use_labels(LabelImage(labels, (200,), "colours"), 16)
    assert picture.query is None and picture.selected is None and len(picture.objects) == 1
