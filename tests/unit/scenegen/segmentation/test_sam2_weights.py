"""SAM 2 from disk: every weight from the file, and one line where something is missing."""

import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from scenegen.hub import transformers_folders as folders
from scenegen.segmentation import Sam2Segmenter, SegmenterUnavailable
from scenegen.segmentation.sam2_weights import load_sam2
from trellis_modules.checkpoint import CheckpointError

CPU = torch.device("cpu")


def _assert_same_weights(model: torch.nn.Module, expected: torch.nn.Module) -> None:
    state = model.state_dict()
    assert state.keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(state[name], tensor), name


def _one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def _change_weights(folder, change) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def test_weights_are_those_of_the_file(toy_checkpoint, toy_model):
    model = load_sam2(toy_checkpoint, CPU)
    assert not model.training
    _assert_same_weights(model, toy_model)


def test_network_for_videos_gives_the_one_for_photos(library, toy_parts, tmp_path):
    torch.manual_seed(1)
    sizes = {
        "image_size": 64, "memory_attention_hidden_size": 32, "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 16, "memory_encoder_hidden_size": 32,
        "memory_encoder_output_channels": 8, "mask_downsampler_embed_dim": 32,
        "memory_fuser_num_layers": 1, "memory_fuser_embed_dim": 32,
    }  # fmt: skip
    video = library.Sam2VideoModel(library.Sam2VideoConfig(**toy_parts, **sizes)).eval()
    video.save_pretrained(tmp_path)
    model = load_sam2(tmp_path, CPU)
    assert isinstance(model, library.Sam2Model)
    stored = video.state_dict()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.state_dict().items())


def test_half_precision_weights_run_in_single(toy_checkpoint):
    _change_weights(
        toy_checkpoint, lambda state: state.update({name: value.half() for name, value in state.items()})
    )
    assert {tensor.dtype for tensor in load_sam2(toy_checkpoint, CPU).parameters()} == {torch.float32}


def test_a_tensor_with_two_names_may_be_stored_once(toy_checkpoint, toy_model):
    name = "shared_image_embedding.positional_embedding"
    other = "prompt_encoder.shared_embedding.positional_embedding"
    _change_weights(toy_checkpoint, lambda state: state.pop(other))
    state = load_sam2(toy_checkpoint, CPU).state_dict()
    assert torch.equal(state[other], toy_model.state_dict()[name])


def test_missing_package_is_named_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SegmenterUnavailable) as error:
        Sam2Segmenter.from_pretrained(tmp_path)
    assert "bash setup.sh --segment, or give the masks in a file" in _one_line(error)


def test_missing_weights_are_named_with_source_and_size(library, tmp_path):
    with pytest.raises(SegmenterUnavailable) as error:
        Sam2Segmenter.from_pretrained(tmp_path / "sam2")
    message = _one_line(error)
    weights = tmp_path / "sam2" / "model.safetensors"
    assert message.startswith(f"{weights}: expected a file of SAM 2, found none; it comes from facebook/")
    assert "model.safetensors, about 898.0 MB): scenegen download --only sam2" in message
    assert message.endswith("(labels.png, --masks), or find them in boxes with --segmenter grabcut")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(SegmenterUnavailable, match="config.json: expected a file of SAM 2, found none"):
        Sam2Segmenter.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("{", "not valid JSON", id="truncated"),
        pytest.param(
            '{"model_type": "bert"}', "expected model_type 'sam2' or 'sam2_video', got 'bert'", id="bert"
        ),
        pytest.param("[]", "expected model_type 'sam2' or 'sam2_video', got None", id="list"),
        pytest.param(
            '{"model_type": "sam2", "mask_decoder_config": {"hidden_size": "large"}}',
            "expected the sizes of a SAM 2 network, building it stopped",
            id="text for a size",
        ),
        pytest.param(
            '{"model_type": "sam2", "vision_config": {"model_type": "no such"}}',
            "expected the sizes of a SAM 2 network, building it stopped",
            id="unknown part",
        ),
    ],
)
def test_faulty_descriptions_give_one_line(toy_checkpoint, content, says):
    (toy_checkpoint / "config.json").write_text(content)
    with pytest.raises(SegmenterUnavailable) as error:
        load_sam2(toy_checkpoint, CPU)
    message = _one_line(error)
    assert message.startswith(f"{toy_checkpoint / 'config.json'}: ") and says in message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda state: state.pop("no_memory_embedding"), "no_memory_embedding", id="one missing"),
        pytest.param(
            lambda state: state.update(no_memory_embedding=torch.zeros(2)), "no_memory_embedding", id="shape"
        ),
        pytest.param(lambda state: state.update(more=torch.zeros(2)), "more", id="one too many"),
    ],
)
def test_weights_of_another_network_are_refused(toy_checkpoint, change, says):
    _change_weights(toy_checkpoint, change)
    with pytest.raises(CheckpointError) as error:
        load_sam2(toy_checkpoint, CPU)
    message = _one_line(error)
    assert "model.safetensors: " in message and f"tensor '{says}'" in message


def test_damaged_weights_give_one_line(toy_checkpoint):
    (toy_checkpoint / "model.safetensors").write_bytes(b"0" * 99)
    with pytest.raises(CheckpointError) as error:
        load_sam2(toy_checkpoint, CPU)
    assert "model.safetensors: not a readable weight file" in _one_line(error)


def test_hub_repository_is_fetched(toy_checkpoint, monkeypatch):
    fetched = []

    def get(repository, name):
        fetched.append((repository.name, repository.revision, name))
        return toy_checkpoint / name

    monkeypatch.setattr(folders.Repository, "get", get)
    load_sam2("owner/sam", CPU, revision="v1")
    assert fetched == [("owner/sam", "v1", "config.json"), ("owner/sam", "v1", "model.safetensors")]
