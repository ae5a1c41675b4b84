"""Objects by their names, with a Grounding DINO of toy size and random weights."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from scenegen.inputs.image_files import SceneInputError
from scenegen.segmentation import ObjectPrompt, SegmenterUnavailable
from scenegen.segmentation.text import TextDetector, detect, load_detector

WIDTH, HEIGHT = 96, 64
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "chair", "red", "lamp", "table", "?"]


@pytest.fixture(scope="module")
def toy_folder(library, tmp_path_factory):
    """A network with random weights and its tokenizer, as they are published."""
    torch.manual_seed(0)
    swin = {
        "model_type": "swin", "image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 1, 1], "window_size": 4, "out_indices": [2, 3, 4],
    }  # fmt: skip
    bert = {
        "model_type": "bert", "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 32,
    }  # fmt: skip
    config = library.GroundingDinoConfig(
        backbone_config=swin, text_config=bert, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        num_queries=12, max_text_len=24,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("detector")
    network = library.GroundingDinoForObjectDetection(config).eval()
    network.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = library.BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def detector(toy_folder) -> TextDetector:
    return load_detector(toy_folder)


@pytest.fixture
def photo() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def test_boxes_and_names_are_those_of_the_package_transformers(library, detector, photo):
    """Its processor turns the answer of the network into boxes and words."""
    small = TextDetector(detector.network, detector.tokenizer, short_side=64, long_side=120)
    tokens = detector.tokenizer("chair. red lamp. ", return_tensors="pt")
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None] / 255
    mean, spread = (
        torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        answer = detector.network(pixel_values=(pixels - mean) / spread, **tokens)
    processor = library.models.grounding_dino.processing_grounding_dino.GroundingDinoProcessor
    threshold = float(answer.logits[0].sigmoid().amax(dim=1).median())
    (expected,) = processor.post_process_grounded_object_detection(
        type("Processor", (), {"batch_decode": staticmethod(detector.tokenizer.batch_decode)})(),
        answer, tokens["input_ids"], threshold, threshold, [(HEIGHT, WIDTH)],
    )  # fmt: skip
    boxes = np.clip(expected["boxes"].numpy(), 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
    found = detect(photo, ["chair", "Red lamp"], small, threshold)
    assert 0 < len(found) <= len(boxes)
    for item in found:
        assert np.abs(boxes - item.box).max(axis=1).min() < 0.05
        assert item.name in ("chair", "Red lamp") and item.clipped(WIDTH, HEIGHT).box is not None


def answering(detector: TextDetector, scores: list[dict[int, float]], boxes: list[tuple]) -> TextDetector:
    """A detector whose network gives these scores to tokens, and these boxes."""

    class Network:
        config, device = detector.network.config, torch.device("cpu")

        def __call__(self, **given):
            logits = torch.full((1, len(scores), 24), -20.0)
            for row, of_tokens in enumerate(scores):
                for token, score in of_tokens.items():
                    logits[0, row, token] = torch.logit(torch.tensor(score))
            return type("Answer", (), {"logits": logits, "pred_boxes": torch.tensor([boxes])})

    return TextDetector(Network(), detector.tokenizer)


def test_each_box_gets_the_name_whose_words_fit_best(detector, photo):
    """Tokens: mark, chair, end, red, lamp, end, mark."""
    scores = [{1: 0.6, 3: 0.4}, {3: 0.35, 4: 0.8}, {1: 0.29}, {4: 0.5, 1: 0.45}, {2: 0.99, 1: 0.1}]
    boxes = [
        (0.5, 0.5, 0.5, 0.5),
        (0.25, 0.5, 0.5, 1.2),
        (0.5, 0.5, 0.1, 0.1),
        (0.75, 0.75, 0.5, 0.5),
        (0.2,) * 4,
    ]
    assert detect(photo, ["chair", "red lamp"], answering(detector, scores, boxes)) == [
        ObjectPrompt((0.0, 0.0, 48.0, 64.0), name="red lamp"),
        ObjectPrompt((24.0, 16.0, 72.0, 48.0), name="chair"),
        ObjectPrompt((48.0, 32.0, 96.0, 64.0), name="red lamp"),
    ]


def test_a_box_found_twice_counts_once_and_one_without_area_not_at_all(detector, photo):
    boxes = [(0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.49, 0.5), (0.5, 0.5, 0.2, 0.2), (0.3, 0.3, 0.0, 0.4)]
    scores = [{1: 0.5}, {1: 0.9}, {1: 0.7}, {1: 0.8}]
    found = detect(photo, ["chair"], answering(detector, scores, boxes))
    assert [np.round(item.box).tolist() for item in found] == [[24, 16, 72, 48], [38, 26, 58, 38]]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([], "expected at least one and none empty"),
        (["chair", " . "], "expected at least one and none empty"),
        (["chair"] * 30, "expected at most 24 tokens together, got 62; look for fewer"),
    ],
)
def test_names_that_cannot_be_looked_for_are_refused(detector, photo, texts, says):
    with pytest.raises(SceneInputError, match=says):
        detect(photo, texts, detector)


def test_missing_files_and_packages_give_one_line(library, tmp_path, toy_folder, monkeypatch):
    with pytest.raises(
        SegmenterUnavailable, match="model.safetensors: expected a file of Grounding DINO, found"
    ):
        load_detector(tmp_path)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((toy_folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"0" * 99)
    with pytest.raises(SegmenterUnavailable, match="expected Grounding DINO in the layout .*fetch it again"):
        load_detector(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SegmenterUnavailable, match="run bash setup.sh --segment, or draw the boxes"):
        load_detector(tmp_path)


def test_weights_of_a_smaller_network_are_refused(toy_folder, tmp_path):
    for path in toy_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"encoder_layers": 3}))
    with pytest.raises(SegmenterUnavailable, match="it lacks .*encoder.layers.2.* more"):
        load_detector(tmp_path)
