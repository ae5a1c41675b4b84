"""GrabCut on drawn pictures whose objects are known, and with a network that starts it."""

import sys
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw

from scenegen.inputs.image_files import SceneInputError
from scenegen.segmentation import ObjectPrompt, SegmenterUnavailable, load_segmenter, refine_polygon
from scenegen.segmentation.cutout_model import CutoutModel
from scenegen.segmentation.grabcut import GrabCutSegmenter, start_of
from tests.onnx_files import write_brightness

pytest.importorskip("cv2", reason="opencv-python-headless is not installed (extra demo)")

SIZE = (160, 120)
CHAIR, BALL = (20, 30, 70, 100), (95, 40, 145, 90)  # left, top, right, bottom


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def textured(colour: tuple[int, int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 8, (SIZE[1], SIZE[0], 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def ellipse(box: tuple[int, int, int, int]) -> np.ndarray:
    mask = Image.new("1", SIZE)
    ImageDraw.Draw(mask).ellipse(box, fill=1)
    return np.asarray(mask)


@pytest.fixture
def truth() -> np.ndarray:
    return np.stack([ellipse(CHAIR), ellipse(BALL)])


@pytest.fixture
def photo(truth) -> Image.Image:
    """A red and a green ellipse on a grey wall."""
    pixels = textured((150, 150, 160), 0)
    for mask, colour, seed in zip(truth, ((190, 60, 50), (40, 140, 70)), (1, 2)):
        pixels[mask] = textured(colour, seed)[mask]
    return Image.fromarray(pixels)


@pytest.fixture
def segmenter() -> GrabCutSegmenter:
    return GrabCutSegmenter()


def test_boxes_give_their_objects_the_same_every_time(segmenter, photo, truth):
    prompts = [ObjectPrompt(CHAIR), ObjectPrompt(BALL)]
    masks = segmenter.segment_prompts(photo, prompts)
    assert masks.shape == (2, 120, 160) and masks.dtype == bool
    assert overlap(masks[0], truth[0]) > 0.95 and overlap(masks[1], truth[1]) > 0.95
    np.testing.assert_array_equal(segmenter.segment_prompts(photo, prompts[::-1])[::-1], masks)
    assert segmenter.find_prompted(photo, prompts).scores is None


def test_no_prompt_gives_no_mask(segmenter, photo):
    assert segmenter.segment_prompts(photo, []).shape == (0, 120, 160)


def test_nothing_outside_the_box_belongs_to_the_object_but_what_is_clicked(segmenter, photo, truth):
    half = ObjectPrompt((20, 30, 60, 100))
    (mask,) = segmenter.segment_prompts(photo, [half])
    assert not mask[:, 61:].any() and overlap(mask, truth[0] & (np.arange(160) < 60)) > 0.9
    (both,) = segmenter.segment_prompts(photo, [ObjectPrompt(half.box, positive=((66, 65),))])
    assert both[65, 66] and (both & ~mask).any()


def test_an_object_in_the_colours_of_the_background_is_not_lost(segmenter, photo):
    """Next to its box lies more of the same, so that the cut leaves nothing at first."""
    (mask,) = segmenter.segment_prompts(photo, [ObjectPrompt((20, 30, 45, 100))])
    assert mask[65, 33] and not mask[:, 46:].any()


def test_negative_points_take_away_and_positive_ones_bring_back(segmenter, photo, truth):
    around = (10, 20, 150, 110)  # both ellipses
    (left,) = segmenter.segment_prompts(photo, [ObjectPrompt(around, ((45, 65),), ((120, 65), (110, 70)))])
    assert left[65, 45] and not left[65, 120]
    (right,) = segmenter.segment_prompts(photo, [ObjectPrompt(around, ((120, 65),), ((45, 65), (40, 50)))])
    assert right[65, 120] and not right[65, 45]


def test_points_alone_grow_over_their_object(segmenter, photo, truth):
    (mask,) = segmenter.segment_prompts(photo, [ObjectPrompt(positive=((120, 65),))])
    assert overlap(mask, truth[1]) > 0.9


def test_a_box_of_the_whole_photo_and_one_of_a_pixel(segmenter, photo):
    whole, pixel, corner = segmenter.segment_prompts(
        photo,
        [
            ObjectPrompt((0, 0, *SIZE)),
            ObjectPrompt((50.2, 60.2, 50.9, 60.9)),
            ObjectPrompt((159, 119, 999, 999)),
        ],
    )
    assert whole.any() and not whole.all()
    assert pixel.sum() <= 9 and corner.sum() <= 9


def test_a_photo_of_one_colour_is_no_error(segmenter):
    plain = Image.new("RGB", SIZE, "white")
    prompts = [
        ObjectPrompt(CHAIR),
        ObjectPrompt(positive=((5, 5),)),
        ObjectPrompt(CHAIR, ((30, 40),), ((60, 90),)),
    ]
    assert segmenter.segment_prompts(plain, prompts).shape == (3, 120, 160)


def test_the_map_of_a_network_starts_the_cut(tmp_path, truth):
    """Object and wall have the same colours, and only the network sees a difference in brightness."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra cutout)")
    pixels = textured((60, 60, 70), 0)
    pixels[truth[0]] = textured((210, 205, 200), 1)[truth[0]]
    pixels[40:60, 20:40] = (60, 60, 70)  # in the box, and dark as the wall
    photo = Image.fromarray(pixels)
    started = GrabCutSegmenter(CutoutModel(write_brightness(tmp_path / "isnet.onnx", shape=(1, 3, 64, 64))))
    (mask,) = started.segment_prompts(photo, [ObjectPrompt((10, 20, 90, 110))])
    bright = np.asarray(photo).mean(axis=2) > 130
    assert overlap(mask, bright) > 0.95
    assert (
        started.description == "GrabCut (OpenCV), started by isnet.onnx, 64x64 pixels, colours as for isnet"
    )


def test_a_map_about_another_object_does_not_count():
    box, saliency = ObjectPrompt((5, 5, 25, 25)), np.zeros((30, 30))
    saliency[5:10, 5:25] = 0.9  # a quarter of the box
    alone = start_of(box, (30, 30), None)
    np.testing.assert_array_equal(start_of(box, (30, 30), saliency), alone)
    saliency[5:15, 5:25] = 0.9
    started = start_of(box, (30, 30), saliency)
    np.testing.assert_array_equal(started[5:15, 5:25], alone[5:15, 5:25])
    assert (started[15:25, 5:25] != alone[15:25, 5:25]).all() and (started[25:] == alone[25:]).all()


def test_a_prompt_that_cannot_be_used_is_refused(segmenter, photo):
    with pytest.raises(SceneInputError, match="object 'lamp': expected a box with an area"):
        segmenter.segment_prompts(photo, [ObjectPrompt(CHAIR), ObjectPrompt((5, 5, 5, 5), name="lamp")])


def test_finding_everything_needs_sam2(photo):
    segmenter = load_segmenter()
    assert segmenter.description == "GrabCut (OpenCV) in the box, without a network"
    with pytest.raises(
        SceneInputError, match="expected boxes or points, since only SAM 2 finds objects without"
    ):
        segmenter.segment_everything(photo)


def test_missing_package_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SegmenterUnavailable, match=r"run bash setup.sh --demo, or give SAM 2 \(--sam2\)"):
        load_segmenter()


def test_four_boxes_of_a_large_photo_take_seconds(segmenter, photo):
    """The time does not grow with the photo, since a cut is made at a fixed size."""
    large = photo.resize((1024, 1024))
    boxes = [ObjectPrompt((x, y, x + 500, y + 500)) for x in (0, 520) for y in (0, 520)]
    start = time.process_time()
    assert segmenter.segment_prompts(large, boxes).any(axis=(1, 2)).all()
    assert time.process_time() - start < 10  # measured on a busy machine: 2.7 s


@pytest.mark.parametrize("seed", range(4))
def test_a_refined_mask_is_the_largest_outer_contour_of_opencv(seed):
    import cv2

    blobs = np.random.default_rng(seed).random((30, 40))
    mask = cv2.GaussianBlur(blobs, (0, 0), 1.5) > 0.5
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    drawn = [
        cv2.drawContours(np.zeros(mask.shape, np.uint8), [contour], -1, 1, cv2.FILLED) for contour in contours
    ]
    expected = max(drawn, key=np.sum)
    assert len(contours) > 1
    np.testing.assert_array_equal(refine_polygon(mask), expected > 0)


def test_refining_fills_holes_and_keeps_an_empty_mask():
    ring = np.zeros((9, 9), bool)
    ring[1:8, 1:8] = True
    ring[3:6, 3:6] = False
    ring[0, 0] = True  # touches the ring at a corner alone, and belongs to it
    refined = refine_polygon(ring)
    assert refined[1:8, 1:8].all() and refined[0, 0] and refined.sum() == 50
    assert not refine_polygon(np.zeros((4, 4), bool)).any()
