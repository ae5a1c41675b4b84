"""Where the networks of a checkpoint are found, and how long they stay in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from scenegen.checkpoints.networks import CheckpointFolder, Networks, load_network
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.models.registry import build_model
from trellis_modules.checkpoint import CheckpointError, save_checkpoint
from trellis_modules.samplers.registry import SamplerConfig

DECODER = {
    "name": "SparseStructureDecoder",
    "args": {"out_channels": 1, "latent_channels": 2, "num_res_blocks": 1, "channels": [4, 2]},
}
GEOMETRY_ARGS = {
    "img_size": 28, "patch_size": 14, "embed_dim": 32,
    "aggregator": {"depth": 1, "num_heads": 2, "patch_embed": "conv"},
    "point_head": None, "depth_head": None, "track_head": None,
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
}  # fmt: skip


def _folder(path: Path, **keys: object) -> CheckpointFolder:
    config = PipelineConfig(
        models={"sparse_structure_flow_model": "a", "sparse_structure_decoder": "b"},
        sparse_structure_sampler=SamplerConfig("FlowEulerSamplerVGGT"),
        image_cond_model="c",
        vggt_model="d",
    )
    return CheckpointFolder(path, config, **keys)


def _save(stem: Path, raw: dict = DECODER) -> nn.Module:
    torch.manual_seed(0)
    network = build_model(raw)
    save_checkpoint(network, stem, torch.float32)
    return network


@pytest.mark.parametrize(
    ("place", "stem"),
    [
        ("scenegen/ckpts/x", "ckpts/x"),
        ("x", "checkpoints/x"),
        ("TRELLIS/ckpts/x", "owner/TRELLIS/ckpts/x"),
    ],
)
def test_networks_are_found_inside_and_beside_the_folder(tmp_path, place, stem):
    _save(tmp_path / place)
    found = _folder(tmp_path / "scenegen").find(stem)
    assert found.weights == tmp_path / f"{place}.safetensors" and found.config.name == DECODER["name"]


def test_network_given_by_its_own_path_is_found(tmp_path):
    _save(tmp_path / "elsewhere" / "x")
    found = _folder(tmp_path / "deep" / "scenegen").find(str(tmp_path / "elsewhere" / "x"))
    assert found.weights == tmp_path / "elsewhere" / "x.safetensors"


def test_geometry_encoder_comes_without_its_heads_and_all_of_its_file_is_checked(tmp_path):
    whole = _save(tmp_path / "ckpts" / "vggt", {"name": "VGGT", "args": GEOMETRY_ARGS})
    folder = _folder(tmp_path, dtype=torch.bfloat16)
    loaded = folder.load_geometry_encoder("ckpts/vggt")
    assert loaded.state_dict().keys() == whole.aggregator.state_dict().keys()
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    state = whole.state_dict()
    torch.testing.assert_close(
        loaded.camera_token.float(), state["aggregator.camera_token"], atol=1e-2, rtol=0
    )
    description = json.loads((tmp_path / "ckpts" / "vggt.json").read_text())
    description["args"]["camera_head"] = None
    (tmp_path / "ckpts" / "vggt.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match="unexpected tensor 'camera_head"):
        folder.load_geometry_encoder("ckpts/vggt")


def test_pickle_beside_its_description_is_refused_with_the_remedy(tmp_path):
    _save(tmp_path / "ckpts" / "x")
    (tmp_path / "ckpts" / "x.safetensors").rename(tmp_path / "ckpts" / "x.pt")
    with pytest.raises(
        CheckpointError, match=r"x.pt: expected .safetensors, got a pickle.*convert_checkpoint"
    ):
        _folder(tmp_path).find("ckpts/x")


def test_optional_networks_may_be_missing_and_others_may_not(tmp_path):
    kinds = {"a": ("SparseStructureFlowModel", {"use_global": True}), "c": ("VisionTransformer", {})}
    for stem in "abc":
        _save(tmp_path / stem)
        if stem in kinds:
            (tmp_path / f"{stem}.json").write_text(json.dumps(dict(zip(("name", "args"), kinds[stem]))))
    folder = _folder(tmp_path)
    assert folder.networks(optional=["vggt_model"]).roles == folder.config.stems.keys() - {"vggt_model"}
    with pytest.raises(CheckpointError, match="expected the checkpoint .*d.json, found none"):
        folder.networks()


def test_kept_networks_are_loaded_once_and_others_for_every_use():
    made = []

    def make() -> nn.Module:
        made.append(nn.Linear(2, 2))
        return made[-1]

    kept = Networks({"a": make})
    kept.load(["a"])
    with kept.use("a") as first, kept.use("a") as second:
        assert first is second is made[0] and len(made) == 1
    assert not first.weight.is_meta
    freed = Networks({"a": make}, keep=False)
    freed.load(["a"])
    assert len(made) == 1
    for count in (2, 3):
        with freed.use("a") as network:
            assert network(torch.ones(2)).shape == (2,) and len(made) == count
        assert network.weight.is_meta
    with pytest.raises(RuntimeError, match="boom"), freed.use("a"):
        raise RuntimeError("boom")
    assert made[-1].weight.is_meta


ENCODER = {
    "name": "SparseStructureEncoder",
    "args": {
        "in_channels": 1,
        "latent_channels": 2,
        "num_res_blocks": 0,
        "num_res_blocks_middle": 0,
        "channels": [4, 4],
    },
}
PUBLISHED = "microsoft/TRELLIS-image-large/ckpts/ss_enc_conv3d_16l8_fp16"


@pytest.mark.parametrize(
    ("place", "reference"),
    [
        ("own/enc", "own/enc"),
        ("checkpoints/trellis-encoders/ckpts/ss_enc_conv3d_16l8_fp16", PUBLISHED),
    ],
)
def test_one_network_is_found_by_its_path_or_where_downloads_go(tmp_path, monkeypatch, place, reference):
    _save(tmp_path / place, ENCODER)
    monkeypatch.chdir(tmp_path)
    assert type(load_network(reference)).__name__ == "SparseStructureEncoder"


def test_published_network_that_is_not_there_says_how_to_fetch_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scenegen.checkpoints.networks.fetch_reference", lambda reference: None)
    with pytest.raises(CheckpointError, match="scenegen download --only trellis-encoders"):
        load_network(PUBLISHED)
    with pytest.raises(CheckpointError, match="own/enc: expected a network as own/enc.json"):
        load_network("own/enc")
