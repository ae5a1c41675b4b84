"""Checkpoints: round trips, dtypes, and one message for each kind of damage."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from trellis_modules import checkpoint as checkpoint_module
from trellis_modules.checkpoint import (
    PICKLE_SUFFIXES,
    CheckpointError,
    load_checkpoint,
    read_state,
    save_checkpoint,
    write_state,
)
from trellis_modules.config import NamedConfig
from trellis_modules.models import build_model, from_arguments

DECODER = {
    "name": "SparseStructureDecoder",
    "args": {"out_channels": 1, "latent_channels": 2, "num_res_blocks": 1, "channels": [4, 2]},
}


@pytest.fixture
def decoder() -> nn.Module:
    torch.manual_seed(0)
    return build_model(DECODER)


@pytest.fixture
def stem(decoder: nn.Module, tmp_path: Path) -> Path:
    stem = tmp_path / "ckpts" / "decoder_v1.5"
    save_checkpoint(decoder, stem, dtype=torch.float32)
    return stem


def weights(stem: Path, suffix: str = ".safetensors") -> Path:
    return stem.with_name(stem.name + suffix)


def test_round_trip_is_exact_and_leaves_two_files(decoder: nn.Module, stem: Path) -> None:
    loaded = load_checkpoint(stem)
    assert not loaded.training
    for name, tensor in decoder.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)
    assert sorted(path.name for path in stem.parent.iterdir()) == [
        "decoder_v1.5.json",
        "decoder_v1.5.safetensors",
    ]
    assert json.loads(weights(stem, ".json").read_text()) == DECODER


def test_weights_may_be_read_by_whoever_may_read_new_files(decoder: nn.Module, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_checkpoint(decoder, tmp_path / "decoder")
    finally:
        os.umask(before)
    modes = {path.suffix: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
    assert modes == {".json": "0o640", ".safetensors": "0o640"}


def test_disk_that_refuses_weights_is_an_error_of_the_system(
    decoder: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(state, path, metadata):
        raise SafetensorError("Error while serializing: no space\nleft")

    monkeypatch.setattr(checkpoint_module, "save_file", refuse)
    with pytest.raises(OSError, match=r"decoder.safetensors.part: Error while serializing: no space$"):
        save_checkpoint(decoder, tmp_path / "decoder")


def test_half_on_disk_computes_in_the_dtype_asked(decoder: nn.Module, tmp_path: Path) -> None:
    save_checkpoint(decoder, tmp_path / "half")
    assert {t.dtype for t in load_file(tmp_path / "half.safetensors").values()} == {torch.float16}
    z = torch.randn(1, 2, 4, 4, 4)
    expected = decoder.eval()(z)
    for dtype, tolerance in ((None, 1e-2), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)):
        loaded = load_checkpoint(tmp_path / "half", dtype=dtype)
        assert loaded.middle_block[0].conv1.weight.dtype == (dtype or torch.float32)
        assert loaded.input_layer.weight.dtype == torch.float32
        torch.testing.assert_close(loaded(z), expected, rtol=tolerance, atol=tolerance)


def test_use_fp16_in_the_configuration_does_not_decide_how_it_computes(tmp_path: Path) -> None:
    named = {**DECODER, "args": {**DECODER["args"], "use_fp16": True}}
    save_checkpoint(build_model(named), tmp_path / "d")
    assert {p.dtype for p in load_checkpoint(tmp_path / "d").parameters()} == {torch.float32}


def test_weights_that_are_not_finite_load(stem: Path) -> None:
    state = load_file(weights(stem))
    state["out_layer.2.bias"].fill_(float("nan"))
    save_file(state, weights(stem))
    assert load_checkpoint(stem).out_layer[2].bias.isnan().all()


def test_loading_draws_no_random_numbers(stem: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    load_checkpoint(stem)
    assert torch.equal(torch.rand(1), expected)


class Initialised(nn.Module):
    """Every way of drawing initial weights that the networks use."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(5))
        nn.init.trunc_normal_(self.layers[0].weight, mean=3.0, std=0.02, a=2.9, b=3.1)
        nn.init.xavier_uniform_(self.layers[1].weight)
        nn.init.normal_(self.layers[2].weight, 1.0, std=0.1)
        nn.init.uniform_(self.layers[3].weight, a=2.0, b=4.0)
        nn.init.kaiming_normal_(self.layers[4].weight)


def test_every_initialisation_ends_and_is_overwritten(tmp_path: Path) -> None:
    model = Initialised()
    save_checkpoint(model, tmp_path / "m", torch.float32, named_config=NamedConfig("Initialised"))
    loaded = load_checkpoint(tmp_path / "m", models={"Initialised": from_arguments(Initialised)})
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_a_loaded_model_does_not_depend_on_its_file(decoder: nn.Module, stem: Path) -> None:
    loaded = load_checkpoint(stem)
    weights(stem).write_bytes(b"replaced while the model is in use")
    torch.testing.assert_close(loaded.state_dict(), decoder.state_dict(), rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_missing_files_are_named(stem: Path) -> None:
    weights(stem).unlink()
    with pytest.raises(CheckpointError, match=r"expected weights in decoder_v1.5.safetensors, found none"):
        load_checkpoint(stem)
    with pytest.raises(
        CheckpointError, match="nowhere.json: no such configuration|nowhere: expected weights"
    ):
        load_checkpoint(stem.parent / "nowhere")


def edit(stem: Path, change) -> None:
    state = load_file(weights(stem))
    change(state)
    save_file(state, weights(stem))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda state: state.pop("out_layer.2.bias"),
            r"tensor 'out_layer.2.bias' of shape \(1,\) is missing \(1 in all\)",
        ),
        (lambda state: state.update(extra=torch.zeros(2)), r"unexpected tensor 'extra' \(1 in all\)"),
        (
            lambda state: state.update({"input_layer.bias": torch.zeros(5)}),
            r"tensor 'input_layer.bias' has shape \(5,\), expected \(4,\)",
        ),
        (
            lambda state: state.update({"input_layer.bias": torch.zeros(4, dtype=torch.int64)}),
            r"tensor 'input_layer.bias' has dtype torch.int64, expected torch.float32",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(stem: Path, change, message: str) -> None:
    edit(stem, change)
    with pytest.raises(CheckpointError, match=r"decoder_v1.5.safetensors: " + message):
        load_checkpoint(stem)


@pytest.mark.parametrize("keep", [0, 4, 100, -8])
def test_truncated_weights_are_named(stem: Path, keep: int) -> None:
    content = weights(stem).read_bytes()
    weights(stem).write_bytes(content[:keep])
    with pytest.raises(CheckpointError, match="decoder_v1.5.safetensors: not a readable weight file"):
        load_checkpoint(stem)


@pytest.mark.parametrize("suffix", PICKLE_SUFFIXES)
def test_pickle_is_refused_unread_with_the_command_that_converts_it(stem: Path, suffix: str) -> None:
    weights(stem, suffix).write_bytes(b"anything")
    load_checkpoint(stem)  # safetensors beside it are what is read
    weights(stem).unlink()
    problem, remedy = "expected .safetensors, got a pickle", rf"convert_checkpoint.py \S+{suffix}"
    expected = rf"decoder_v1.5{suffix}: {problem}.*{remedy}"
    with pytest.raises(CheckpointError, match=expected):
        load_checkpoint(stem)
    with pytest.raises(CheckpointError, match=expected):
        read_state(weights(stem, suffix))


def test_configuration_faults_name_the_file(stem: Path) -> None:
    config = weights(stem, ".json")
    config.write_text("{")
    with pytest.raises(CheckpointError, match="decoder_v1.5.json: not valid JSON"):
        load_checkpoint(stem)
    config.write_text(json.dumps({**DECODER, "name": "Unheard"}))
    with pytest.raises(CheckpointError, match="decoder_v1.5.json: unknown name 'Unheard'"):
        load_checkpoint(stem)
    config.write_text(json.dumps({**DECODER, "args": {**DECODER["args"], "depth": 3}}))
    with pytest.raises(CheckpointError, match="decoder_v1.5.json: unknown key 'depth'"):
        load_checkpoint(stem)


def test_save_needs_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="pass named_config"):
        save_checkpoint(nn.Linear(2, 2), tmp_path / "m")


def test_save_refuses_what_half_precision_cannot_hold(decoder: nn.Module, tmp_path: Path) -> None:
    with torch.no_grad():
        decoder.input_layer.bias[0] = 1e6
    with pytest.raises(
        CheckpointError, match=r"'input_layer.bias': largest magnitude 1e\+06 is out of range"
    ):
        save_checkpoint(decoder, tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_notes_are_written_in_order(tmp_path):
    notes = {name: f'a "{name}" ü' for name in "zqamtbk"}
    for number in range(6):  # safetensors draws another order each time
        write_state({"x": torch.arange(3.0)}, tmp_path / f"{number}.safetensors", notes)
    contents = {(tmp_path / f"{number}.safetensors").read_bytes() for number in range(6)}
    assert len(contents) == 1
    with safe_open(tmp_path / "0.safetensors", "pt") as file:
        assert file.metadata() == notes and torch.equal(file.get_tensor("x"), torch.arange(3.0))
