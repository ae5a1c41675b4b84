"""The segmenter against the network called by hand, and its picture preparation against other libraries."""

import importlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from scenegen.inputs.image_files import SceneInputError
from scenegen.segmentation import AutomaticSettings, ObjectPrompt, Sam2Segmenter, sam2
from scenegen.segmentation.sam2 import IMAGE_MEAN, IMAGE_STD, at_photo_size, prepare_photo

WIDTH, HEIGHT = 48, 36
SIDE = 64
BOXES = np.array([[2, 3, 20, 30], [10, 3, 40, 30], [30, 1, 48, 36]], np.float32)
ONE_LEVEL = 1 / 255 / min(IMAGE_STD)  # of an 8-bit picture, once its colours are normalised


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("side", [64, 20], ids=["larger", "smaller"])
def test_photo_is_stretched_and_normalised_as_by_pillow(photo, side):
    stretched = np.asarray(photo.resize((side, side), Image.Resampling.BILINEAR)) / 255
    expected = (stretched - IMAGE_MEAN) / IMAGE_STD
    got = prepare_photo(photo, side)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(got, expected, atol=1.01 * ONE_LEVEL)  # Pillow rounds twice to 8 bits


def test_photo_is_prepared_as_by_transformers(library, photo):
    pytest.importorskip("torchvision", reason="the processor of transformers needs torchvision")
    processor = library.Sam2ImageProcessor(size={"height": SIDE, "width": SIDE})
    expected = processor(photo, return_tensors="pt").pixel_values
    torch.testing.assert_close(prepare_photo(photo, SIDE), expected, atol=0.51 * ONE_LEVEL, rtol=0)


def test_boxes_give_the_masks_of_the_network_called_by_hand(toy_model, photo):
    processing = importlib.import_module("transformers.models.sam2.processing_sam2")
    boxes = processing.Sam2Processor._normalize_coordinates(
        None, SIDE, torch.from_numpy(BOXES), (HEIGHT, WIDTH), is_bounding_box=True
    )
    with torch.no_grad():
        answer = toy_model(prepare_photo(photo, SIDE), input_boxes=boxes[None], multimask_output=False)
    logits = F.interpolate(answer.pred_masks[0], (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    masks = Sam2Segmenter(toy_model).segment_boxes(photo, BOXES)
    assert masks.shape == (3, HEIGHT, WIDTH) and masks.dtype == bool
    assert 0 < masks.sum() < masks.size
    assert (masks == (logits[:, 0] > 0).numpy()).mean() > 0.999


def test_many_boxes_go_in_parts_and_keep_their_order(toy_model, photo, monkeypatch):
    together = Sam2Segmenter(toy_model).segment_boxes(photo, BOXES)
    assert (together[0] != together[1]).any()
    monkeypatch.setattr(sam2, "PROMPTS_AT_ONCE", 2)
    np.testing.assert_array_equal(Sam2Segmenter(toy_model).segment_boxes(photo, BOXES[::-1]), together[::-1])


PROMPTS = [
    ObjectPrompt((2, 3, 20, 30)),
    ObjectPrompt(positive=((12, 15),)),
    ObjectPrompt((10, 3, 40, 30), ((20, 10), (25, 20)), ((12, 28),)),
    ObjectPrompt(positive=((33, 8), (40, 20)), negative=((5, 5),)),
    ObjectPrompt((30, 1, 48, 36)),
]


def by_hand(model, photo, *, multimask_output=False, **prompts) -> tuple[np.ndarray, np.ndarray]:
    """Masks and scores of one prompt by the network, which gets numbers in its own square."""
    with torch.no_grad():
        answer = model(prepare_photo(photo, SIDE), multimask_output=multimask_output, **prompts)
    best = int(answer.iou_scores[0, 0].argmax())
    return at_photo_size(answer.pred_masks[0, :, best], photo.size)[0], answer.iou_scores[0, 0, best].item()


def test_points_and_boxes_give_the_answers_of_the_network_called_by_hand(toy_model, photo):
    scale = torch.tensor([SIDE / WIDTH, SIDE / HEIGHT])

    def box(prompt):
        return {"input_boxes": (torch.tensor(prompt.box) * scale.repeat(2))[None, None]}

    def points(prompt):
        labels = [1] * len(prompt.positive) + [0] * len(prompt.negative)
        given = torch.tensor(prompt.positive + prompt.negative) * scale
        return {"input_points": given[None, None], "input_labels": torch.tensor(labels)[None, None]}

    expected = [
        by_hand(toy_model, photo, **box(PROMPTS[0])),
        by_hand(toy_model, photo, **points(PROMPTS[1]), multimask_output=True),
        by_hand(toy_model, photo, **box(PROMPTS[2]), **points(PROMPTS[2])),
        by_hand(toy_model, photo, **points(PROMPTS[3])),
        by_hand(toy_model, photo, **box(PROMPTS[4])),
    ]
    found = Sam2Segmenter(toy_model).find_prompted(photo, PROMPTS)
    assert found.masks.shape == (5, HEIGHT, WIDTH) and found.masks.dtype == bool
    for row, (mask, score) in enumerate(expected):
        assert (found.masks[row] == mask).mean() > 0.999
        assert found.scores[row] == pytest.approx(min(max(score, 0), 1), abs=1e-5)


def test_each_object_is_found_by_itself_and_the_photo_is_encoded_once(toy_model, photo, monkeypatch):
    segmenter = Sam2Segmenter(toy_model)
    together = segmenter.segment_prompts(photo, PROMPTS)
    monkeypatch.setattr(toy_model, "get_image_embeddings", lambda _: pytest.fail("encoded again"))
    alone = [segmenter.segment_prompts(photo.copy(), [prompt])[0] for prompt in PROMPTS]
    np.testing.assert_array_equal(np.stack(alone), together)
    assert segmenter.segment_prompts(photo, []).shape == (0, HEIGHT, WIDTH)


def test_only_the_last_photos_are_kept(toy_model, photo, monkeypatch):
    encoded, encode = [], toy_model.get_image_embeddings
    monkeypatch.setattr(
        toy_model, "get_image_embeddings", lambda pixels: encoded.append(pixels) or encode(pixels)
    )
    monkeypatch.setattr(sam2, "PHOTOS_KEPT", 2)
    segmenter = Sam2Segmenter(toy_model)
    photos = [photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT), photo.rotate(180)]
    for each in [photos[0], photos[1], photos[0], photos[2], photos[0], photos[1]]:
        segmenter.segment_prompts(each, PROMPTS[:1])
    assert len(encoded) == 4  # the second photo was given up for the third


def test_a_prompt_outside_the_photo_is_refused(toy_model, photo):
    with pytest.raises(SceneInputError, match="expected points inside the photo, 48x36 pixels"):
        Sam2Segmenter(toy_model).segment_prompts(photo, [ObjectPrompt(positive=((50, 3),))])


def test_a_box_outside_the_photo_is_refused(toy_model, photo):
    with pytest.raises(SceneInputError, match="box 0: expected a box inside the photo, 48x36 pixels"):
        Sam2Segmenter(toy_model).segment_boxes(photo, np.array([[0, 0, HEIGHT, WIDTH]]))


def test_everything_asks_for_points_in_the_networks_square(toy_model, photo):
    anything = AutomaticSettings(
        points_per_side=1, min_quality=0, min_stability=0, min_area=0, max_area=1, max_border=1,
        duplicate_overlap=1.1, part_overlap=1.1,
    )  # fmt: skip
    with torch.no_grad():
        point = torch.tensor([[[[SIDE / 2, SIDE / 2]]]])
        answer = toy_model(prepare_photo(photo, SIDE), input_points=point, multimask_output=True)
    expected = at_photo_size(answer.pred_masks[0, 0], photo.size)
    expected = expected[np.argsort(-(answer.pred_masks[0, 0] > 0).sum(dim=(1, 2)).numpy(), kind="stable")]
    found = Sam2Segmenter(toy_model).segment_everything(photo, anything)
    assert found.shape == (3, HEIGHT, WIDTH)
    assert (found == expected).mean() > 0.999


def test_nothing_found_is_an_empty_array(toy_model, photo):
    found = Sam2Segmenter(toy_model).segment_everything(photo, AutomaticSettings(4, min_quality=1.1))
    assert found.shape == (0, HEIGHT, WIDTH)
