"""The list of what is published, and the messages that are made of it."""

from pathlib import Path

import pytest
import torch

from scenegen.hub.releases import (
    HubError,
    Release,
    ReleaseFile,
    expected_size,
    load_networks,
    load_releases,
    missing_checkpoint,
    missing_weights,
    size_text,
)
from scenegen.models.registry import build_model

WITHOUT = "the bundled small model, --checkpoint checkpoints/scenegen-small, works without it"


def test_list_has_what_inference_and_training_need():
    releases = load_releases()
    assert {"scenegen", "vggt", "dinov2", "sam2", "trellis"} <= releases.keys()
    assert releases["vggt"].address("config.json") == (
        "https://huggingface.co/facebook/VGGT-1B/resolve/main/config.json"
    )
    networks = load_networks()
    for release in releases.values():
        for known in release.files.values():
            assert known.network is None or known.network in networks


@pytest.mark.parametrize("name", load_networks())
def test_published_network_is_one_of_ours_and_as_large_as_said(name):
    network = load_networks()[name]
    with torch.device("meta"):
        state = build_model(network.config).state_dict()
    assert sum(tensor.nbytes for tensor in state.values()) == network.approximate_size


def test_size_of_a_release_is_that_of_its_networks():
    networks, total = load_networks(), 0
    chosen = {network.role: network for network in reversed(networks.values())}  # the first of a role counts
    elsewhere = {"sparse_structure_encoder", "slat_encoder", "image_cond_model", "vggt_model"}
    for role in chosen.keys() - elsewhere:
        total += chosen[role].approximate_size
    assert load_releases()["scenegen"].approximate_size == total


def test_size_is_that_recorded_else_about_else_of_the_network_else_of_the_role():
    files = {"a.pt": ReleaseFile(size=0, approximate_size=7), "b.pt": ReleaseFile(approximate_size=7)}
    release = Release("", "x", repo="o/n", files=files)
    assert expected_size(release, "a.pt") == 0
    assert expected_size(release, "b.pt") == 7
    assert expected_size(release, "ckpts/VGGT-1B.safetensors") == 5026150064
    assert expected_size(release, "ckpts/other.safetensors", "slat_decoder_gs") == 171441280
    assert expected_size(release, "ckpts/other.safetensors") is None
    assert expected_size(release, "VGGT-1B.json") is None


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (43e6, "43.0 MB"), (5.03e12, "5030.0 GB")],
)
def test_sizes_are_for_people(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("folder", "stem", "parts"),
    [
        ("scenegen", "ckpts/flow", ["scenegen/ckpts/flow.json, found none", "haoningwu/SceneGen",
                                    "/haoningwu/SceneGen/resolve/main/ckpts/flow.safetensors)",
                                    "--only scenegen"]),
        ("scenegen", "checkpoints/VGGT-1B", ["/VGGT-1B/model.safetensors, found no such file",
                                             "facebook/VGGT-1B", "about 5.0 GB", "--only vggt"]),
        ("scenegen", "dinov2_vitl14_reg", ["/dinov2_vitl14_reg/model.safetensors, found no such file",
                                           "dinov2_vitl14_reg4_pretrain.pth, about 1.2 GB", "--only dinov2"]),
        ("mine", "microsoft/TRELLIS-image-large/ckpts/ss_dec_conv3d_16l8_fp16",
         ["resolve/main/ckpts/ss_dec_conv3d_16l8_fp16.safetensors, about 147.6 MB", "--only trellis"]),
        ("mine", "ckpts/flow", ["mine/ckpts/flow.json, found none; put its .json and .safetensors there"]),
    ],
)  # fmt: skip
def test_missing_weights_say_which_file_where_from_how_large_and_what_works(tmp_path, folder, stem, parts):
    where = tmp_path / folder / "pipeline.json"
    message = str(missing_weights(where, stem))
    assert message.startswith(f"{where}: expected ") and message.endswith(WITHOUT) and "\n" not in message
    for part in parts:
        assert part in message


def test_missing_weights_know_the_size_by_the_role_and_name_the_file_that_is_missing(tmp_path):
    folder = tmp_path / "scenegen"
    (folder / "ckpts").mkdir(parents=True)
    (folder / "pipeline.json").write_text('{"args": {"models": {"sparse_structure_flow_model": "ckpts/f"}}}')
    (folder / "ckpts" / "f.json").write_text("{}")
    message = str(missing_weights(folder / "pipeline.json", "ckpts/f"))
    assert message.startswith(f"{folder}/ckpts/f.safetensors: expected weights beside f.json, found none")
    assert "ckpts/f.safetensors, about 1.8 GB)" in message


def test_neighbours_of_a_checkpoint_in_the_cache_are_those_that_were_downloaded(tmp_path):
    message = str(missing_weights(tmp_path / "0123abcd" / "pipeline.json", "dinov2_vitl14_reg"))
    assert "expected dinov2_vitl14_reg in checkpoints/dinov2_vitl14_reg/model.safetensors, found" in message


def test_missing_checkpoint_says_how_to_get_it():
    message = str(missing_checkpoint(Path("checkpoints/scenegen")))
    assert "pipeline.json, about 3.7 GB" in message and "--only scenegen" in message
    assert message.endswith(WITHOUT)
    assert "check --checkpoint" in str(missing_checkpoint(Path("checkpoints/other")))


def test_list_that_is_none_is_named(tmp_path):
    path = tmp_path / "r.json"
    for text, expected in (("[]", "expected an object"), ('{"a": 1}', "r.json: a: expected an object")):
        path.write_text(text)
        with pytest.raises(HubError, match=expected):
            load_releases(path)
