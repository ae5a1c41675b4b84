"""Pickles to safetensors: what is opened, what is refused, and the names that come out."""

import json
import pickle
import re
import zipfile

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from scenegen.hub.conversion import canonical_names, convert, find_network
from scenegen.hub.releases import HubError
from scripts import convert_checkpoint
from trellis_modules.config import NamedConfig
from vggt.layers.vision_transformer import VisionTransformer

ENCODER = NamedConfig("VisionTransformer", {"img_size": 28, "embed_dim": 16, "depth": 3, "num_heads": 2})


@pytest.fixture
def state():
    torch.manual_seed(0)
    return VisionTransformer(**ENCODER.args).state_dict()


@pytest.fixture
def write(tmp_path):
    """Pickle something as tmp_path/net.pth."""

    def call(content, name="net.pth", **keywords):
        torch.save(content, tmp_path / name, **keywords)
        return tmp_path / name

    return call


def assert_same(actual, expected):
    torch.testing.assert_close(actual, dict(expected), rtol=0, atol=0)


@pytest.mark.parametrize("is_zip", [True, False])
def test_state_dict_becomes_safetensors_of_the_same_numbers(write, state, is_zip, tmp_path):
    done = convert(write(state, _use_new_zipfile_serialization=is_zip))
    assert done.weights == tmp_path / "net.safetensors" and done.config is None
    assert done.tensors == len(state)
    assert done.parameters == sum(tensor.numel() for tensor in state.values())
    assert_same(load_file(done.weights), state)


@pytest.mark.parametrize("key", ["model", "state_dict", "teacher"])
def test_nested_state_dict_is_found_and_the_rest_is_named(write, state, key):
    done = convert(write({"epoch": 3, key: state, "optimizer": {"lr": 0.1}}))
    assert_same(load_file(done.weights), state)
    assert done.left_out == ("epoch", "optimizer")


def test_key_chooses_among_several(write, state):
    source = write({"model": {"x": torch.zeros(1)}, "ema": state})
    assert_same(load_file(convert(source, key="ema").weights), state)


@pytest.mark.parametrize("prefixes", ["module.", "_orig_mod.", "backbone.", "module.backbone."])
def test_wrappers_are_taken_off(write, state, prefixes):
    done = convert(write({prefixes + name: tensor for name, tensor in state.items()}), like=ENCODER)
    assert_same(load_file(done.weights), state)


def test_prefix_of_only_some_names_stays():
    names = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert canonical_names(names).keys() == names.keys()


def test_chunks_of_blocks_are_taken_out(write, state):
    """A DINOv2 in training numbers blocks.<chunk>.<block>, where the block counts through."""
    chunks = {"0": "0.0", "1": "0.1", "2": "1.2"}
    chunked = {
        re.sub(r"^blocks\.(\d)", lambda match: f"blocks.{chunks[match[1]]}", name): tensor
        for name, tensor in state.items()
    }
    assert "blocks.0.1.norm1.weight" in chunked and "blocks.1.2.norm1.weight" in chunked
    assert_same(load_file(convert(write(chunked), like=ENCODER).weights), state)


def test_numbers_that_repeat_are_no_blocks():
    names = {f"blocks.{i}.{j}.weight": torch.zeros(1) for i in (0, 1) for j in (0, 1)}
    assert canonical_names(names).keys() == names.keys()


def test_tensors_that_share_memory_become_independent(write):
    base = torch.arange(12.0)
    shared = {"a": base, "tied": base, "view": base[3:6], "transposed": base.view(3, 4).mT}
    assert_same(load_file(convert(write(shared)).weights), shared)


def test_kinds_of_numbers_are_kept_unless_asked(write):
    mixed = {
        "half": torch.ones(2, dtype=torch.float16),
        "count": torch.tensor(3),
        "empty": torch.zeros(0, 2),
        "nan": torch.tensor([float("nan"), float("inf")]),
    }
    kept = load_file(convert(write(mixed)).weights)
    assert {name: t.dtype for name, t in kept.items()} == {name: t.dtype for name, t in mixed.items()}
    assert kept["nan"].isnan().tolist() == [True, False]
    changed = load_file(convert(write(mixed), dtype=torch.bfloat16).weights)
    assert changed["half"].dtype == torch.bfloat16 and changed["count"].dtype == torch.int64


def test_network_that_fits_is_described_beside(write, state, tmp_path):
    done = convert(write(state), tmp_path / "deep" / "model.safetensors", like=ENCODER)
    assert json.loads(done.config.read_text()) == {"name": "VisionTransformer", "args": ENCODER.args}


class Evil:
    """Unpickling it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickle_that_would_run_something_is_refused_unrun(write, tmp_path):
    source = write({"a": torch.zeros(1), "b": Evil(tmp_path / "ran")})
    with pytest.raises(
        HubError, match="expected tensors only, got io.open, which opening the file would run"
    ):
        convert(source)
    assert not (tmp_path / "ran").exists() and not source.with_suffix(".safetensors").exists()


def test_whole_module_is_refused(write):
    with pytest.raises(HubError, match=r"expected tensors only, got torch.nn.modules.linear.Linear"):
        convert(write(nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "expected a dictionary of tensors, got list"),
        ({}, "expected a dictionary of tensors, got an empty one"),
        ({"a": torch.zeros(1), "lr": 0.1}, "expected a tensor for each name, got float for 'lr'"),
        ({"a": {"b": torch.zeros(1)}}, "got dict for 'a'; name the entry that holds the weights with --key"),
        ({1: torch.zeros(1)}, "got Tensor for 1"),
        ({"model": {"a": torch.zeros(1)}, "teacher": {"a": torch.zeros(1)}},
         "expected one state dict, found model, teacher; choose one with --key"),
        ({"model": {}}, "got an empty one or none; check --key"),
        ({"a": torch.zeros(1).to_sparse()}, "tensor 'a': expected a dense tensor"),
    ],
)  # fmt: skip
def test_content_that_is_no_state_dict_is_named(write, content, message):
    source = write(content)
    with pytest.raises(HubError) as error:
        convert(source)
    assert str(source) in str(error.value) and message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("cls_token"), r"tensor 'cls_token' of shape \(1, 1, 16\) is missing"),
        (lambda s: s.update(head=torch.zeros(1)), "unexpected tensor 'head'"),
        (
            lambda s: s.update(cls_token=torch.zeros(2)),
            r"'cls_token' has shape \(2,\), expected \(1, 1, 16\)",
        ),
    ],
)
def test_weights_of_another_network_are_named(write, state, change, message):
    change(state)
    source = write(state)
    with pytest.raises(HubError, match=message):
        convert(source, like=ENCODER)
    assert not source.with_suffix(".safetensors").exists()


def test_key_that_is_not_there_is_named(write, state):
    with pytest.raises(HubError, match="--key: expected one of model, got 'ema'"):
        convert(write({"model": state}), key="ema")


def test_numbers_out_of_range_are_named(write):
    with pytest.raises(HubError, match=r"'a': largest magnitude 1e\+06 is out of range for torch.float16"):
        convert(write({"a": torch.tensor([1e6])}), dtype=torch.float16)


@pytest.mark.parametrize(
    "content", [b"", b"not a pickle", b"PK\x03\x04 broken", pickle.dumps({"a": 1}, 2)[:-3]]
)
def test_damaged_file_is_named(tmp_path, content):
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(HubError, match=r"net.pt: not a readable pickle .*truncated or damaged") as error:
        convert(tmp_path / "net.pt")
    assert "\n" not in str(error.value)


def test_archive_that_is_no_checkpoint_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("readme", "x")
    with pytest.raises(HubError, match="net.pt: not a readable pickle"):
        convert(tmp_path / "net.pt")


def test_missing_file_and_safetensors_are_named(tmp_path):
    with pytest.raises(HubError, match="gone.pt: expected a pickle .*found no such file"):
        convert(tmp_path / "gone.pt")
    with pytest.raises(HubError, match="expected a pickle, got safetensors, which need no conversion"):
        convert(tmp_path / "a.safetensors")


def test_networks_are_known_by_role_by_published_name_and_by_file(tmp_path):
    assert find_network("image_cond_model").name == "VisionTransformer"
    assert find_network("sparse_structure_flow_model").args["use_global"]
    assert not find_network("ss_flow_img_dit_L_16l8_fp16").args["use_global"]
    path = tmp_path / "net.json"
    path.write_text(json.dumps({"name": "X", "args": {"a": 1}}))
    assert find_network(str(path)) == NamedConfig("X", {"a": 1})
    path.write_text("{")
    with pytest.raises(HubError, match="net.json: not valid JSON"):
        find_network(str(path))
    with pytest.raises(HubError, match=r"--like: expected .*sparse_structure_flow_model.*VGGT-1B.*got 'vgt'"):
        find_network("vgt")


def test_command_converts_and_says_what_it_wrote(write, state, tmp_path, capsys):
    description = tmp_path / "encoder.json"
    description.write_text(json.dumps({"name": ENCODER.name, "args": ENCODER.args}))
    arguments = [write({"model": state, "epoch": 1}), "--like", description, "--dtype", "float16"]
    assert convert_checkpoint.main([str(argument) for argument in arguments]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{tmp_path}/net.safetensors: {len(state)} tensors")
    assert text.rstrip().endswith(f"checked against {tmp_path}/net.json; left out: epoch")
    assert load_file(tmp_path / "net.safetensors")["cls_token"].dtype == torch.float16


def test_command_ends_with_2_and_one_line(tmp_path, caplog):
    assert convert_checkpoint.main([str(tmp_path / "gone.pt")]) == 2
    assert "found no such file" in caplog.text
