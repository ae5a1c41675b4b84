"""A damaged checkpoint gives one line that names the file, and exit status 2."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import inference
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.hub import file_sha256
from scenegen.pipelines.pipeline import SceneGenPipeline
from trellis_modules.checkpoint import CheckpointError


def _edit_description(folder: Path, change) -> None:
    path = folder / "pipeline.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def _edit_weights(folder: Path, change) -> None:
    """Change the flow's state dict and record the new digest, as someone who exports weights would."""
    path = folder / "ckpts" / "flow.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)
    _edit_description(
        folder, lambda raw: raw["args"]["sha256"].update({"ckpts/flow.safetensors": file_sha256(path)})
    )


def _flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 0xFF
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _edit_args(folder: Path, change) -> None:
    _edit_description(folder, lambda raw: change(raw["args"]))


def _edit_sampler(folder: Path, change) -> None:
    _edit_args(folder, lambda args: change(args["sparse_structure_sampler"]))


DESCRIPTION, FLOW, DECODER = "pipeline.json", "ckpts/flow.safetensors", "ckpts/decoder.safetensors"

# What is done to the checkpoint folder, the file that the message names, and what it says.
FAULTS = {
    "no description": (lambda f: (f / DESCRIPTION).unlink(), DESCRIPTION, "check --checkpoint"),
    "not JSON": (lambda f: (f / DESCRIPTION).write_text("{"), DESCRIPTION, "not valid JSON"),
    "another pipeline": (
        lambda f: _edit_description(f, lambda raw: raw.update(name="Other")), DESCRIPTION, "got 'Other'"),
    "role missing": (
        lambda f: _edit_args(f, lambda args: args["models"].pop("sparse_structure_decoder")),
        DESCRIPTION, "expected the role 'sparse_structure_decoder'"),
    "unknown key": (lambda f: _edit_args(f, lambda args: args.update(colour=1)), DESCRIPTION, "'colour'"),
    "unknown sampler": (
        lambda f: _edit_sampler(f, lambda sampler: sampler.update(name="Heun")), DESCRIPTION, "'Heun'"),
    "steps out of range": (
        lambda f: _edit_sampler(f, lambda sampler: sampler["params"].update(steps=0)),
        DESCRIPTION, "steps must be at least 1"),
    "weights missing": (lambda f: (f / FLOW).unlink(), "ckpts/flow", "expected weights"),
    "configuration missing": (
        lambda f: (f / "ckpts/flow.json").unlink(), DESCRIPTION, "ckpts/flow.json, found none"),
    "weights replaced": (lambda f: _flip_byte(f / FLOW), FLOW, "expected sha256"),
    "weights truncated": (lambda f: _truncate(f / DECODER), DECODER, "expected sha256"),
    "weights truncated, no digest": (
        lambda f: (_truncate(f / DECODER), _edit_args(f, lambda args: args.pop("sha256"))),
        DECODER, "truncated or damaged"),
    "tensor missing": (
        lambda f: _edit_weights(f, lambda state: state.pop("input_layer.weight")),
        FLOW, "tensor 'input_layer.weight'"),
    "tensor misshapen": (
        lambda f: _edit_weights(f, lambda state: state.update({"input_layer.weight": torch.zeros(3, 3)})),
        FLOW, "has shape (3, 3), expected (32, 4)"),
    "tensor too many": (
        lambda f: _edit_weights(f, lambda state: state.update(extra=torch.zeros(1))),
        FLOW, "unexpected tensor 'extra'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_gives_one_line_and_status_2(tmp_path, checkpoint, write_scene, caplog, fault):
    damage, name, expected = FAULTS[fault]
    damage(checkpoint)
    write_scene(tmp_path / "in" / "room", 1)
    arguments = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--checkpoint", checkpoint]
    assert inference.main([str(argument) for argument in arguments]) == 2
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert name in message.split(": ")[0] and expected in message and "\n" not in message


def test_unknown_checkpoint_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="gone/pipeline.json: expected a checkpoint folder"):
        SceneGenPipeline.from_pretrained(tmp_path / "gone")


def test_released_description_parses(tmp_path):
    """Keys and names of the released layout, with roles of stages that come later."""
    sampler = {"args": {"sigma_min": 1e-5}, "params": {"steps": 25, "cfg_interval": [0.5, 1.0]}}
    args = {
        "models": {
            "sparse_structure_decoder": "ckpts/ss_dec_conv3d_16l8_fp16",
            "sparse_structure_flow_model": "ckpts/ss_flow",
            "slat_decoder_gs": "ckpts/slat_dec_gs",
            "slat_decoder_mesh": "ckpts/slat_dec_mesh",
            "slat_decoder_rf": "ckpts/slat_dec_rf",
            "slat_flow_model": "ckpts/slat_flow",
        },
        "sparse_structure_sampler": {"name": "FlowEulerGuidanceIntervalSamplerVGGT", **sampler},
        "slat_sampler": {"name": "FlowEulerGuidanceIntervalSampler", **sampler},
        "slat_normalization": {"mean": [0.0] * 8, "std": [1.0] * 8},
        "image_cond_model": "dinov2_vitl14_reg",
        "vggt_model": "checkpoints/VGGT-1B",
    }
    description = {"name": "SceneGenImageToScenePipeline", "args": args}
    (tmp_path / "pipeline.json").write_text(json.dumps(description))
    config = PipelineConfig.load(tmp_path)
    assert config.image_size == 518
    assert config.models["slat_flow_model"] == "ckpts/slat_flow"
