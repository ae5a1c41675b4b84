"""Published pickles of SAM 2: their names against those of transformers, and their conversion."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenegen.hub.releases import HubError
from scenegen.segmentation import Sam2Segmenter, load_segmenter, sam2_conversion
from scenegen.segmentation.sam2_conversion import convert_sam2, published_config, rename
from scenegen.segmentation.sam2_weights import build_network, with_both_names
from scripts import convert_checkpoint

MANIFEST = Path(__file__).parents[3] / "data" / "sam2_hiera_tiny.json"


def published_shapes() -> dict[str, list[int]]:
    """Names and shapes of ``sam2_hiera_tiny.pt``, as the code of its release makes them."""
    return json.loads(MANIFEST.read_text(encoding="utf-8"))


def of_photos(name: str) -> bool:
    return name.startswith(("image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.", "no_mem_embed"))


def test_every_published_tensor_has_its_place_in_the_network(library):
    published = {
        name: torch.empty(shape, device="meta")
        for name, shape in published_shapes().items()
        if of_photos(name)
    }
    network = build_network(published_config("sam2-hiera-tiny"), MANIFEST).state_dict()
    renamed = with_both_names(rename(published))
    assert {name: tensor.shape for name, tensor in renamed.items()} == {
        name: tensor.shape for name, tensor in network.items()
    }


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("sam2.1-hiera-small", 46), ("sam2-hiera-base-plus", 80.8), ("sam2-hiera-large", 224.4)],
)
def test_published_sizes_have_the_published_numbers_of_parameters(library, name, parameters):
    """In millions, as the release states them; the memory of the network for videos has 7 of them."""
    network = build_network(published_config(name), MANIFEST)
    millions = sum(tensor.numel() for tensor in network.parameters()) / 1e6
    assert millions == pytest.approx(parameters - 7.3, abs=0.6)


@pytest.fixture
def toy_pickle(toy_model, toy_parts, tmp_path, monkeypatch) -> Path:
    """The toy network as if it were published, with parts of videos, and its sizes as those of a name."""
    published = {
        "maskmem_tpos_enc": torch.zeros(7, 1, 1, 8),
        "memory_attention.norm.weight": torch.ones(3),
        "memory_attention.norm.bias": torch.ones(3),
    }
    state = toy_model.state_dict()
    known = {rename_one(name): name for name in published_names(state)}
    for name, published_name in known.items():
        published[published_name] = state[name]
    for name in state.keys() - known.keys():  # stages of the toy begin at other blocks
        if ".proj." in name:
            published[name.replace("vision_encoder.backbone", "image_encoder.trunk")] = state[name]
    for kind in range(4):
        name = f"sam_prompt_encoder.point_embeddings.{kind}.weight"
        published[name] = state["prompt_encoder.point_embed.weight"][kind : kind + 1]
    path = tmp_path / "sam2_hiera_tiny.pt"
    torch.save({"model": published}, path)
    monkeypatch.setattr(sam2_conversion, "published_config", lambda name: {"model_type": "sam2", **toy_parts})
    return path


def rename_one(name: str) -> str:
    """What a tensor is called in transformers; the kinds of points, which it keeps in one, stay."""
    return next(iter(rename({name: torch.zeros(1)})), name)


def published_names(state: dict[str, torch.Tensor]) -> list[str]:
    """Those of the manifest's names that a smaller network has too."""
    return [name for name in published_shapes() if of_photos(name) and rename_one(name) in state]


def test_a_converted_pickle_makes_the_masks_of_its_network(toy_pickle, toy_model, tmp_path, capsys):
    folder = tmp_path / "checkpoints" / "sam2-hiera-tiny"
    arguments = [str(toy_pickle), "--like", "sam2-hiera-tiny", "--output", str(folder)]
    assert convert_checkpoint.main(arguments) == 0
    said = capsys.readouterr().out
    assert f"checked against {folder / 'config.json'}" in said
    assert said.rstrip().endswith("left out: maskmem_tpos_enc, memory_attention")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (36, 48, 3), dtype=np.uint8))
    boxes = np.array([[2, 3, 20, 30], [10, 3, 40, 30]])
    np.testing.assert_array_equal(
        load_segmenter(folder).segment_boxes(photo, boxes),
        Sam2Segmenter(toy_model).segment_boxes(photo, boxes),
    )


def test_a_pickle_of_another_size_is_refused(toy_pickle, tmp_path, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(HubError) as error:
        convert_sam2(toy_pickle, "sam2-hiera-large", tmp_path / "large")
    message = str(error.value)
    assert message.startswith(f"{toy_pickle}: tensor '") and "\n" not in message
    assert not (tmp_path / "large").exists()
