"""Weights to start from: what fits, what a network lacks, where files are looked for, and adapters."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import train
from scenegen.models.registry import build_model
from scenegen.trainers.finetune import (
    find_start,
    find_starts,
    load_what_fits,
    start_from_checkpoints,
    start_scene_attention,
)
from scenegen.trainers.loop_config import LoopConfig
from scenegen.trainers.lora import WEIGHTS_FILE, merge_adapter
from trellis_modules.checkpoint import CheckpointError, save_checkpoint
from trellis_modules.config import ConfigError

FLOW = {
    "resolution": 2, "in_channels": 4, "out_channels": 4, "model_channels": 16, "cond_channels": 16,
    "num_blocks": 2, "num_heads": 2, "patch_size": 1, "qk_rms_norm": True, "trunk_depth": 1,
}  # fmt: skip


def flow(seed, **changes):
    torch.manual_seed(seed)
    model = build_model({"name": "SparseStructureFlowModel", "args": {**FLOW, **changes}})
    for parameter in model.parameters():  # some start as zeros
        nn.init.normal_(parameter)
    return model


@pytest.fixture
def object_flow(tmp_path):
    """A flow of single objects, and the stem of its checkpoint."""
    save_checkpoint(model := flow(1), tmp_path / "single", dtype=torch.float32)
    return model, tmp_path / "single"


def start(model, stem, **options):
    config = LoopConfig(max_steps=1, finetune_ckpt={"denoiser": str(stem)}, **options)
    start_from_checkpoints({"denoiser": model}, find_starts(["denoiser"], config), config)
    return dict(model.named_parameters())


def test_what_a_checkpoint_lacks_keeps_its_values_and_one_line_tells_so(object_flow, caplog):
    single, stem = object_flow
    model = flow(2, use_global=True)
    before = {name: value.clone() for name, value in model.named_parameters()}
    with caplog.at_level(logging.INFO):
        after = start(model, stem, init_global_params=False)
    for name, value in single.named_parameters():
        assert torch.equal(after[name], value), name
    lacking = [name for name in before if name not in dict(single.named_parameters())]
    assert lacking and all(torch.equal(before[name], after[name]) for name in lacking)
    (line,) = caplog.messages
    assert f"{len(single.state_dict())} tensors loaded; {len(lacking)} are not in it and keep" in line


def test_the_first_of_several_files_that_has_a_tensor_gives_it(object_flow, tmp_path, caplog):
    single, stem = object_flow
    save_checkpoint(whole := flow(3, use_global=True), tmp_path / "whole", dtype=torch.float32)
    config = LoopConfig(max_steps=1, finetune_ckpt={"flow": (str(stem), str(tmp_path / "whole"))})
    model = flow(2, use_global=True)
    with caplog.at_level(logging.INFO):
        start_from_checkpoints({"flow": model}, find_starts(["flow"], config), config)
    own, rest = dict(single.named_parameters()), dict(whole.named_parameters())
    for name, value in model.named_parameters():
        assert torch.equal(value, own.get(name, rest[name])), name
    assert len(caplog.messages) == 2  # one line a file, and nothing that would start as the objects' own


def test_inputs_that_a_checkpoint_lacks_start_at_zero_where_that_is_asked_for(object_flow, caplog):
    single, stem = object_flow
    kept = start(flow(2, cond_channels=20), stem)["blocks.0.cross_attn.to_kv.weight"]
    assert kept.abs().sum(0)[16:].min() > 0 and "have another shape" in caplog.messages[-1]
    wider = flow(2, cond_channels=20)
    start(wider, stem, widen_inputs=True)
    x, t, cond = torch.randn(2, 4, 2, 2, 2), torch.tensor([10.0, 900.0]), torch.randn(2, 5, 16)
    more = torch.cat([cond, torch.randn(2, 5, 4)], -1)
    torch.testing.assert_close(wider(x, t, more).velocity, single(x, t, cond).velocity, rtol=1e-4, atol=1e-4)


def test_scene_attention_starts_as_that_of_single_objects(object_flow):
    single, stem = object_flow
    after, own = start(flow(2, use_global=True), stem), dict(single.named_parameters())
    for part in ("to_qkv", "to_out"):
        assert torch.equal(
            after[f"blocks.1.global_attn.{part}.weight"], own[f"blocks.1.self_attn.{part}.weight"]
        )
    for part in ("to_q", "to_kv", "to_out"):
        assert torch.equal(
            after[f"blocks.0.global_cross_attn.{part}.bias"], own[f"blocks.0.cross_attn.{part}.bias"]
        )
    modulation = after["blocks.0.adaLN_modulation_global.1.weight"]
    assert len(modulation) == 3 * FLOW["model_channels"]
    assert torch.equal(modulation, own["blocks.0.adaLN_modulation.1.weight"][: len(modulation)])


def test_a_shared_modulation_network_is_taken_over_too():
    model = flow(2, use_global=True, share_mod=True)
    changed = start_scene_attention(model)
    parameters = dict(model.named_parameters())
    assert "adaLN_modulation_global.1.weight" in changed
    rows = 3 * FLOW["model_channels"]
    assert torch.equal(
        parameters["adaLN_modulation_global.1.weight"], parameters["adaLN_modulation.1.weight"][:rows]
    )


def test_scene_attention_of_the_checkpoint_is_kept(tmp_path):
    save_checkpoint(scene := flow(3, use_global=True), tmp_path / "scene", dtype=torch.float32)
    after = start(flow(2, use_global=True), tmp_path / "scene")
    assert all(torch.equal(after[name], value) for name, value in scene.named_parameters())


def test_tensors_of_other_shapes_are_told_and_keep_their_values(object_flow, caplog):
    single, stem = object_flow
    model = flow(2, out_channels=6)
    bias = model.out_layer.bias.clone()
    after = start(model, stem)
    assert torch.equal(after["out_layer.bias"], bias)
    assert torch.equal(after["input_layer.weight"], single.input_layer.weight)
    assert "2 have another shape there and keep their values (like out_layer." in caplog.messages[-1]


def test_a_checkpoint_may_hold_more(caplog):
    model = nn.Linear(2, 2)
    loaded = load_what_fits(model, {**nn.Linear(2, 2).state_dict(), "head.weight": torch.zeros(1)}, "here")
    assert loaded.unused == ("head.weight",) and not loaded.missing


def test_a_checkpoint_of_which_nothing_fits_is_refused():
    with pytest.raises(
        CheckpointError, match="here: expected tensors like 'weight', got none that fits, but 'head'"
    ):
        load_what_fits(nn.Linear(2, 2), {"head": torch.zeros(1)}, "here")
    with pytest.raises(CheckpointError, match="expected tensors like 'weight', got none that fits, but ''"):
        load_what_fits(nn.Linear(2, 2), {}, "here")


def test_unknown_network_is_refused(object_flow):
    config = LoopConfig(1, finetune_ckpt={"denoiser": str(object_flow[1])})
    with pytest.raises(ConfigError, match="trainer.finetune_ckpt: unknown name 'denoiser'; known: .'flow'.$"):
        find_starts(["flow"], config)


# ---- where the file is


def test_file_and_stem_name_the_same_weights(object_flow):
    stem = object_flow[1]
    assert find_start(str(stem), "here") == find_start(f"{stem}.safetensors", "here")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        (
            "./none/ckpts/flow.safetensors",
            "here: expected none/ckpts/flow.safetensors, found none; train that",
        ),
        ("/none/flow", "here: expected /none/flow.safetensors, found none"),
        (
            "./checkpoints/scenegen/ckpts/ss_flow_img_dit_L_16l8_fp16.safetensors",
            "fp16.safetensors, found none; fetch it with: scenegen download --only trellis-flow",
        ),
        (
            "outputs/image_encoder/ckpts/image_encoder",
            "found none; train that stage first: python train.py --config configs/small/image_encoder.json",
        ),
    ],
)
def test_missing_weights_are_named_with_what_makes_or_fetches_them(reference, says, tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to(Path(train.__file__).parent / "configs")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as error:
        find_start(reference, "here")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path):
    torch.save({}, tmp_path / "flow.pt")
    for reference in ("flow.pt", "flow"):
        with pytest.raises(
            CheckpointError, match=r"flow.pt: expected .safetensors, got a pickle.*convert_checkp"
        ):
            find_start(str(tmp_path / reference), "here")


# ---- adapters


def adapter(folder, layers, rank=2, alpha=None, prefix="base_model.model.", outputs=16):
    """An adapter of layers of 16 inputs, and its factors."""
    folder.mkdir(exist_ok=True)
    factors = {name: (torch.randn(rank, 16), torch.randn(outputs, rank)) for name in layers}
    state = {}
    for name, (down, up) in factors.items():
        state |= {f"{prefix}{name}.lora_A.weight": down, f"{prefix}{name}.lora_B.weight": up}
    save_file(state, folder / WEIGHTS_FILE)
    if alpha is not None:
        (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": alpha}))
    return factors


@pytest.mark.parametrize(("alpha", "used"), [(4.0, 4.0), (None, 128.0)])
def test_an_adapter_changes_the_weights_as_its_layers_would(tmp_path, alpha, used):
    layers = ["blocks.0.self_attn.to_out", "blocks.1.cross_attn.to_q"]
    factors, model = adapter(tmp_path / "lora", layers, alpha=alpha), flow(1)
    before = {name: value.clone() for name, value in model.named_parameters()}
    assert (
        merge_adapter({"other": nn.Linear(2, 2), "denoiser": model}, tmp_path / "lora", "here") == "denoiser"
    )
    x = torch.randn(3, 16)
    for layer, (down, up) in factors.items():
        expected = nn.functional.linear(x, before[f"{layer}.weight"]) + used / 2 * (x @ down.T @ up.T)
        torch.testing.assert_close(
            nn.functional.linear(x, model.get_submodule(layer).weight), expected, atol=1e-3, rtol=1e-4
        )
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {f"{layer}.weight" for layer in layers}


def test_an_adapter_is_merged_where_the_configuration_names_it(tmp_path, caplog):
    adapter(tmp_path / "lora", ["blocks.0.self_attn.to_out"])
    model = flow(1)
    before = model.blocks[0].self_attn.to_out.weight.clone()
    with caplog.at_level(logging.INFO):
        start_from_checkpoints({"flow": model}, {}, LoopConfig(1, peft_ckpt_path=str(tmp_path / "lora")))
    assert not torch.equal(before, model.blocks[0].self_attn.to_out.weight)
    assert caplog.messages[-1].endswith("is merged into flow")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: None, "here: expected an adapter as"),
        (lambda folder: adapter(folder, ["head"]), "expected an adapter of one of the networks flow, got"),
        (lambda folder: adapter(folder, ["input_layer"], outputs=5), "expected factors of a weight (16, 4)"),
        (lambda folder: adapter(folder, ["input_layer"], alpha="big"), "expected the number lora_alpha"),
        (lambda folder: adapter(folder, []), "expected lora_A and lora_B of each layer"),
        (
            lambda folder: (folder.mkdir(), save_file({"w": torch.zeros(1)}, folder / WEIGHTS_FILE)),
            "expected factors lora_A and lora_B, got 'w'",
        ),
        (
            lambda folder: (folder.mkdir(), (folder / WEIGHTS_FILE).write_text("no")),
            "not a readable weight file",
        ),
        (
            lambda folder: (folder.mkdir(), torch.save({}, folder / "adapter_model.bin")),
            "got a pickle",
        ),
    ],
)  # fmt: skip
def test_what_is_no_adapter_of_the_network_is_refused_in_one_line(tmp_path, spoil, says):
    spoil(tmp_path / "lora")
    with pytest.raises(CheckpointError) as error:
        merge_adapter({"flow": flow(1)}, tmp_path / "lora", "here")
    assert says in str(error.value) and "\n" not in str(error.value)
