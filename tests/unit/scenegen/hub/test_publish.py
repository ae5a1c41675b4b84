"""Writing checkpoint folders and uploading them."""

import json

import pytest
import torch
from safetensors.torch import load_file

from scenegen.hub import HubError, push_to_hub, save_pretrained
from scenegen.models.registry import build_model, load_checkpoint
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.config import NamedConfig

DECODER = {
    "name": "SparseStructureDecoder",
    "args": {"out_channels": 1, "latent_channels": 2, "num_res_blocks": 1, "channels": [4, 2]},
}
VGGT = {
    "name": "VGGT",
    "args": {"img_size": 14, "embed_dim": 8,
             "aggregator": {"depth": 1, "num_heads": 1, "patch_embed": "conv"},
             "camera_head": None, "depth_head": None, "point_head": None, "track_head": None},
}  # fmt: skip
DESCRIPTION = NamedConfig(
    "SceneGenImageToScenePipeline",
    {
        "models": {"sparse_structure_decoder": "ckpts/dec", "slat_decoder_gs": "owner/other/ckpts/gs"},
        "image_cond_model": "dinov2_vitl14_reg",
        "vggt_model": "checkpoints/VGGT-1B",
        "image_size": 14,
    },
)


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return {"sparse_structure_decoder": build_model(DECODER).half().float(), "vggt_model": build_model(VGGT)}


@pytest.fixture
def folder(networks, tmp_path):
    return save_pretrained(DESCRIPTION, networks, tmp_path / "saved")


def description(folder):
    return json.loads((folder / "pipeline.json").read_text())


def test_saved_networks_load_as_they_were(networks, folder):
    assert description(folder)["args"]["models"] == {"sparse_structure_decoder": "ckpts/dec"}
    assert description(folder)["args"]["vggt_model"] == "ckpts/vggt_model"
    assert description(folder)["args"]["image_size"] == 14
    for role, stem in (("sparse_structure_decoder", "ckpts/dec"), ("vggt_model", "ckpts/vggt_model")):
        loaded = load_checkpoint(folder / stem).state_dict()
        torch.testing.assert_close(loaded, networks[role].state_dict(), rtol=0, atol=0)


def test_half_precision_is_used_where_it_loses_nothing(folder):
    assert load_file(folder / "ckpts/dec.safetensors")["input_layer.bias"].dtype == torch.float16
    assert {t.dtype for t in load_file(folder / "ckpts/vggt_model.safetensors").values()} == {torch.float32}


def test_aggregator_alone_becomes_a_geometry_encoder_without_heads(networks, tmp_path):
    aggregator = networks["vggt_model"].aggregator
    aggregator.named_config = NamedConfig("VGGT", {**VGGT["args"], "camera_head": {}})
    folder = save_pretrained(DESCRIPTION, {"vggt_model": aggregator}, tmp_path / "saved")
    assert description(folder)["args"]["models"] == {}
    loaded = load_checkpoint(folder / "ckpts/vggt_model")
    assert loaded.camera_head is None
    torch.testing.assert_close(loaded.aggregator.state_dict(), aggregator.state_dict(), rtol=0, atol=0)


def test_network_without_configuration_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="pass named_config"):
        save_pretrained(DESCRIPTION, {"sparse_structure_decoder": torch.nn.Linear(1, 1)}, tmp_path)


def complete(networks, folder):
    """The description names an image encoder, which has to be there for an upload."""
    args = {**DESCRIPTION.args, "image_cond_model": None}
    return save_pretrained(NamedConfig(DESCRIPTION.name, args), networks, folder)


def test_upload_sends_the_checkpoint_and_nothing_else(networks, hub, tmp_path):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra hub)")
    folder = complete(networks, tmp_path / "saved")
    (folder / "notes.txt").write_text("private")
    (folder / "README.md").write_text("# A model\n")
    url = push_to_hub(folder, "owner/mine", token="secret", endpoint=hub.endpoint)
    assert url.startswith(f"{hub.endpoint}/owner/mine/commit/")
    assert sorted(hub.uploads) == [
        "README.md",
        "ckpts/dec.json",
        "ckpts/dec.safetensors",
        "ckpts/vggt_model.json",
        "ckpts/vggt_model.safetensors",
        "pipeline.json",
    ]
    assert hub.uploads["ckpts/dec.safetensors"] == (folder / "ckpts/dec.safetensors").read_bytes()


def test_hub_that_is_not_there_is_one_line(networks, tmp_path):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra hub)")
    folder = complete(networks, tmp_path / "saved")
    with pytest.raises(HubError, match="127.0.0.1:9/owner/mine: upload: .*check the network") as error:
        push_to_hub(folder, "owner/mine", token="secret", endpoint="http://127.0.0.1:9")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "pipeline.json").unlink(), "no such configuration file"),
        (lambda f: (f / "pipeline.json").write_text('{"name": "x"}'), "expected args.models with a stem"),
        (lambda f: (f / "ckpts/dec.json").unlink(), "expected ckpts/dec.json and dec.safetensors in"),
        (lambda f: (f / "ckpts/dec.safetensors").write_bytes(b""), "expected the sha256 in pipeline.json"),
        (lambda f: (f / "ckpts/old.pt").write_bytes(b""), "a pickle is not uploaded"),
    ],
)
def test_folder_that_is_not_whole_is_not_uploaded(networks, hub, tmp_path, damage, message):
    folder = complete(networks, tmp_path / "saved")
    damage(folder)
    with pytest.raises(HubError, match=message):
        push_to_hub(folder, "owner/mine", token="secret", endpoint=hub.endpoint)
    assert hub.requests == []
