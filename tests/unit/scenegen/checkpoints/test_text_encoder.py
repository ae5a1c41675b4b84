"""Captions to tokens, with a CLIP of toy size and random weights."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from scenegen.checkpoints.text_encoder import load_text_encoder
from trellis_modules.checkpoint import CheckpointError

WORDS = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "box</w>": 3, "red</w>": 4, "b": 5}
WIDTH = 16


@pytest.fixture(scope="module")
def library():
    """The package transformers."""
    return pytest.importorskip("transformers", reason="transformers is not installed (extra segment)")


@pytest.fixture
def folder(library, tmp_path):
    """A whole CLIP, as it is published, and its tokenizer."""
    torch.manual_seed(0)
    text = {
        "vocab_size": len(WORDS), "hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": 1,
        "pad_token_id": 1,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config = library.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    library.CLIPModel(config).save_pretrained(tmp_path / "clip")
    library.CLIPTokenizer(vocab=WORDS, merges=[]).save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_tokens_are_those_of_the_package_transformers(library, folder):
    encoder = load_text_encoder(folder)
    tokens = encoder(["a red box", "", "a box"])
    assert tokens.shape == (3, 12, WIDTH) and encoder.width == WIDTH and not tokens.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    whole = library.CLIPModel.from_pretrained(folder).eval()
    words = library.CLIPTokenizer.from_pretrained(folder)(
        ["a red box", "", "a box"], padding="max_length", max_length=12, return_tensors="pt"
    )
    with torch.no_grad():
        expected = whole.text_model(input_ids=words["input_ids"]).last_hidden_state
    torch.testing.assert_close(tokens, expected)
    assert not torch.equal(tokens[0], tokens[2])


def test_long_captions_are_cut_and_a_batch_changes_nothing(folder):
    encoder = load_text_encoder(folder)
    long = encoder(["a red box " * 40, "a"])
    assert long.shape == (2, 12, WIDTH)
    torch.testing.assert_close(long[1], encoder(["a"])[0])
    with pytest.raises(ValueError, match="expected at least one caption"):
        encoder([])


def one_line(folder) -> str:
    with pytest.raises(CheckpointError) as error:
        load_text_encoder(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_missing_is_named(library, folder, tmp_path, monkeypatch):
    assert "model.safetensors: expected a file of a text encoder, found none" in one_line(tmp_path / "none")
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json: expected a file of a text encoder" in one_line(folder)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert one_line(folder).startswith(
        "captions: expected the package 'transformers', which is not installed"
    )


@pytest.mark.parametrize("change", ["cut", "other shape", "other kind"])
def test_another_network_is_refused(folder, change):
    if change == "cut":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:200])
    else:
        config = json.loads((folder / "config.json").read_text())
        if change == "other shape":
            config["text_config"]["hidden_size"] = 32
        else:
            config = {"model_type": "bert"}
        (folder / "config.json").write_text(json.dumps(config))
    assert "expected the text encoder of a CLIP model" in one_line(folder)
