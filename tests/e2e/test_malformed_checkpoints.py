"""A checkpoint that contradicts itself is refused when it is loaded, in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import FEW_STEPS, add_few_steps_flow
from tests.e2e.malformed import Case, assert_one_line, checkpoint_case, description_case


def sampler(**params: Any) -> Callable[[dict[str, Any]], Any]:
    """Change settings of the structure sampler."""
    return lambda args: args["sparse_structure_sampler"]["params"].update(params)


def network_case(says: str, **args: Any) -> Case:
    """Change arguments of the flow."""
    return checkpoint_case(
        f"flow.json: {says}" if ".json" not in says else says,
        lambda i: i.network(lambda raw: raw["args"].update(args)),
    )


def few_steps_case(says: str, **args: Any) -> Case:
    """Change arguments of the second flow."""
    return checkpoint_case(
        says,
        lambda i: (
            add_few_steps_flow(i.checkpoint),
            i.network(lambda raw: raw["args"].update(args), "few"),
        ),
    )


CASES: dict[str, Case] = {
    "description empty": checkpoint_case(
        "pipeline.json: not valid JSON, line 1 column 1", lambda i: i.describe_as("")
    ),
    "description is a list": checkpoint_case(
        'pipeline.json: expected {"name": ..., "args": {...}}, got list', lambda i: i.describe_as("[]")
    ),
    "description without a name": checkpoint_case(
        "pipeline.json: missing key 'name'", lambda i: i.describe_as('{"args": {}}')
    ),
    "description of something else": checkpoint_case(
        "pipeline.json: missing key 'models'", lambda i: i.describe_as('{"name": "Other", "args": {}}')
    ),
    "description with args as text": checkpoint_case(
        "pipeline.json: args: expected an object, got 'b'",
        lambda i: i.describe_as('{"name": "a", "args": "b"}'),
    ),
    "description with more beside args": checkpoint_case(
        "pipeline.json: unknown key 'argz'", lambda i: i.describe_as('{"name": "a", "argz": {}}')
    ),
    "description in another encoding": checkpoint_case(
        "pipeline.json: cannot be read as text",
        lambda i: ((i.checkpoint / "pipeline.json").write_bytes(b"\xff\xfe{"), i.load()),
    ),
    "description is a folder": checkpoint_case(
        "pipeline.json: expected a checkpoint folder with pipeline.json, found none",
        lambda i: (
            (i.checkpoint / "pipeline.json").unlink(),
            (i.checkpoint / "pipeline.json").mkdir(),
            i.load(),
        ),
    ),
    "no models": description_case("missing key 'models'", lambda args: args.pop("models")),
    "models is a list": description_case(
        "models: expected an object, got ['ckpts/flow']", lambda args: args.update(models=["ckpts/flow"])
    ),
    "stem is a number": description_case(
        "models['sparse_structure_decoder']: expected str, got 3",
        lambda args: args["models"].update(sparse_structure_decoder=3),
    ),
    "stem leads nowhere": description_case(
        "ckpts/no.json, found none; put its .json and .safetensors there; the bundled small model",
        lambda args: args["models"].update(sparse_structure_decoder="ckpts/no"),
    ),
    "no image encoder": description_case(
        "missing key 'image_cond_model'", lambda args: args.pop("image_cond_model")
    ),
    "image encoder not downloaded": description_case(
        "about 1.2 GB): scenegen download --only dinov2; the bundled",
        lambda args: args.update(image_cond_model="dinov2_vitl14_reg"),
    ),
    "no geometry encoder": description_case(
        "vggt_model: expected the stem of the geometry encoder, got none", lambda args: args.pop("vggt_model")
    ),
    "geometry encoder not downloaded": description_case(
        "it comes from facebook/VGGT-1B (https://huggingface.co/facebook/VGGT-1B/resolve/",
        lambda args: args.update(vggt_model="checkpoints/VGGT-1B"),
    ),
    "image size is text": description_case(
        "image_size: expected int, got 'large'", lambda args: args.update(image_size="large")
    ),
    "image size is a truth value": description_case(
        "image_size: expected int, got True", lambda args: args.update(image_size=True)
    ),
    "no sampler": description_case(
        "missing key 'sparse_structure_sampler'", lambda args: args.pop("sparse_structure_sampler")
    ),
    "sampler is a name only": description_case(
        "sparse_structure_sampler: expected an object for SamplerConfig, got 'Euler'",
        lambda args: args.update(sparse_structure_sampler="Euler"),
    ),
    "sampler unknown setting": description_case(
        "sparse_structure_sampler: params: unknown key 'guidance'", sampler(guidance=1)
    ),
    "sampler steps a fraction": description_case("params: steps: expected int, got 2.5", sampler(steps=2.5)),
    "sampler interval of one number": description_case(
        "params: cfg_interval: expected 2 values, got [0.5]", sampler(cfg_interval=[0.5])
    ),
    "sampler interval reversed": description_case(
        "cfg_interval must be (low, high) with 0 <= low <= high <= 1, got (1.0, 0.5)",
        sampler(cfg_interval=[1.0, 0.5]),
    ),
    "sampler rescale_t zero": description_case("rescale_t must be positive, got 0.0", sampler(rescale_t=0.0)),
    "digests are a list": description_case(
        "sha256: expected an object, got []", lambda args: args.update(sha256=[])
    ),
    "latents without normalisation": description_case(
        "slat_sampler, slat_normalization: expected both",
        lambda args: args["models"].update(slat_flow_model="a", slat_decoder_mesh="b"),
    ),
    "normalisation of unequal lengths": description_case(
        "expected as many means as stds, got 1",
        lambda args: args.update(slat_normalization={"mean": [0.0], "std": []}),
    ),
    "network without a name": checkpoint_case(
        "flow.json: missing key 'name'", lambda i: i.network(lambda raw: raw.pop("name"))
    ),
    "network unknown": checkpoint_case(
        "for the role 'sparse_structure_flow_model', got 'os.system'; correct",
        lambda i: i.network(lambda raw: raw.update(name="os.system")),
    ),
    "network lacks an argument": checkpoint_case(
        "flow.json: missing key 'resolution'", lambda i: i.network(lambda raw: raw["args"].pop("resolution"))
    ),
    "network argument unknown": checkpoint_case(
        "flow.json: unknown key 'depth'", lambda i: i.network(lambda raw: raw["args"].update(depth=1))
    ),
    "network argument of another type": checkpoint_case(
        "flow.json: resolution: expected int, got '2'",
        lambda i: i.network(lambda raw: raw["args"].update(resolution="2")),
    ),
    "network argument refused": checkpoint_case(
        "flow.json: model_channels 32 must be divisible by num_heads 3",
        lambda i: i.network(lambda raw: raw["args"].update(num_heads=3)),
    ),
    "network of other sizes": checkpoint_case(
        "flow.safetensors: tensor 'pos_emb' has shape (8, 32), expected (27, 32)",
        lambda i: i.network(lambda raw: raw["args"].update(resolution=3)),
    ),
    "weights are a .pt": checkpoint_case(
        "flow.pt: expected .safetensors, got a pickle", lambda i: i.weights(b"anything", ".pt")
    ),
    "weights are a .pth": checkpoint_case(
        "flow.pth: expected .safetensors, got a pickle", lambda i: i.weights(b"anything", ".pth")
    ),
    "weights are a .bin": checkpoint_case(
        "flow.bin: expected .safetensors, got a pickle", lambda i: i.weights(b"anything", ".bin")
    ),
    "weights are a .ckpt": checkpoint_case(
        "convert it with: python scripts/convert_checkpoint.py", lambda i: i.weights(b"anything", ".ckpt")
    ),
    "weights missing beside their description": checkpoint_case(
        "flow.safetensors: expected weights beside flow.json, found none",
        lambda i: i.weights(b"anything", ".txt"),
    ),
    # sizes that would fill the memory or the day
    "image size 28,000": description_case(
        "image_size: expected 1 to 2048 pixels, got 28000", lambda args: args.update(image_size=28_000)
    ),
    "image size 0": description_case(
        "image_size: expected 1 to 2048 pixels, got 0", lambda args: args.update(image_size=0)
    ),
    "image size no multiple of the patches": description_case(
        "image_size: expected 28, a multiple of the patches of image_cond_model, got 30",
        lambda args: args.update(image_size=30),
    ),
    "a billion steps": description_case("steps must be at most 10000, got 1000000000", sampler(steps=10**9)),
    "steps negative": description_case("steps must be at least 1, got -1", sampler(steps=-1)),
    "guidance beyond floats": checkpoint_case(
        "expected a finite number, got 1e999",
        lambda i: i.describe_as('{"name": "a", "args": {"cfg_strength": 1e999}}'),
    ),
    "sigma_min of 2": description_case(
        "sigma_min must be in [0, 1), got 2.0",
        lambda args: args["sparse_structure_sampler"]["args"].update(sigma_min=2.0),
    ),
    "a hundred thousand networks": description_case(
        "models: expected at most 64 networks, got 10000",
        lambda args: args["models"].update({f"role{n}": "ckpts/flow" for n in range(100_000)}),
    ),
    "stem of 4000 characters": description_case(
        "'sparse_structure_decoder': expected a stem of 1 to 1024 printable characters, got 'nnnn",
        lambda args: args["models"].update(sparse_structure_decoder="n" * 4000),
    ),
    "stem longer than a file name": description_case(
        "expected the checkpoint",
        lambda args: args["models"].update(sparse_structure_decoder="n" * 1000),
    ),
    "stem of two lines": description_case(
        "expected a stem of 1 to 1024 printable characters, got 'a\\nb'",
        lambda args: args["models"].update(sparse_structure_decoder="a\nb"),
    ),
    "patch grid negative": description_case(
        "slat_patch_grid: expected 0 to 28 patches, got -1", lambda args: args.update(slat_patch_grid=-1)
    ),
    "normalisation with a deviation of 0": description_case(
        "slat_normalization: expected finite means and stds above 0",
        lambda args: args.update(slat_normalization={"mean": [0.0], "std": [0.0]}),
    ),
    "a billion blocks": network_case("num_blocks: expected 0 to 256, got 1000000000", num_blocks=10**9),
    "no heads": network_case("num_heads: expected 1 to 256, got 0", num_heads=0),
    "heads negative": network_case("num_heads: expected 1 to 256, got -2", num_heads=-2),
    "channels negative": network_case("model_channels: expected 1 to 65536, got -32", model_channels=-32),
    "channels 0": network_case("out_channels: expected 1 to 65536, got 0", out_channels=0),
    "channels 10^30": network_case("cond_channels: expected 1 to 65536, got 1000", cond_channels=10**30),
    "resolution 10^6": network_case("resolution: expected 1 to 256, got 1000000", resolution=10**6),
    "patch size 0": network_case("patch_size: expected 1 to 256, got 0", patch_size=0),
    "a billion iterations": network_case("num_iteration: expected 1 to 256", num_iteration=10**9),
    "feed-forward ratio 10^9": network_case("mlp_ratio: expected above 0 and up to 64", mlp_ratio=10**9),
    "feed-forward ratio 0": network_case("mlp_ratio: expected above 0 and up to 64, got 0", mlp_ratio=0),
    "a million levels": checkpoint_case(
        "channels: expected at most 256 values, got 1000000",
        lambda i: i.network(lambda raw: raw["args"].update(channels=[16] * 10**6), "decoder"),
    ),
    "encoder of a billion blocks": checkpoint_case(
        "depth: expected 1 to 256, got 1000000000",
        lambda i: i.network(lambda raw: raw["args"].update(depth=10**9), "image_encoder"),
    ),
    "aggregator of a billion blocks": checkpoint_case(
        "depth: expected 1 to 256, got 1000000000",
        lambda i: i.network(lambda raw: raw["args"]["aggregator"].update(depth=10**9), "geometry_encoder"),
    ),
    "patches of 0 pixels": checkpoint_case(
        "patch_size: expected 1 to 256, got 0",
        lambda i: i.network(lambda raw: raw["args"].update(patch_size=0), "image_encoder"),
    ),
    # networks in each other's place
    "flow as decoder": description_case(
        "flow.json: expected SparseStructureDecoder for the role 'sparse_structure_decoder', got "
        "'SparseStructureFlowModel'",
        lambda args: args["models"].update(sparse_structure_decoder="ckpts/flow"),
    ),
    "decoder as flow": description_case(
        "decoder.json: expected SparseStructureFlowModel for the role 'sparse_structure_flow_model'",
        lambda args: args["models"].update(sparse_structure_flow_model="ckpts/decoder"),
    ),
    "image encoder as geometry encoder": description_case(
        "image_encoder.json: expected VGGT for the role 'vggt_model', got 'VisionTransformer'",
        lambda args: args.update(vggt_model="ckpts/image_encoder"),
    ),
    "flow of single objects": network_case(
        "flow.json: expected a network with use_global for the pipeline SceneGen", use_global=False
    ),
    "flow and decoder of other latents": network_case(
        "decoder.json: latent_channels: expected 5, as made by", in_channels=5, out_channels=5
    ),
    "flow that gives other latents than it takes": network_case(
        "flow.json: out_channels: expected 4, as many channels as the structures have, got 8", out_channels=8
    ),
    "flow of other conditions": network_case(
        "flow.json: cond_channels: expected 32, the channels of the conditions, got 64", cond_channels=64
    ),
    # a second flow of structures
    "flow of few steps without a sampler": description_case(
        "few_step_sampler: expected it and the role 'sparse_structure_flow_few_steps_model' in models",
        lambda args: args["models"].update(sparse_structure_flow_few_steps_model="ckpts/flow"),
    ),
    "sampler of few steps without a flow": description_case(
        "few_step_sampler: expected it and the role 'sparse_structure_flow_few_steps_model' in models",
        lambda args: args.update(few_step_sampler={"params": FEW_STEPS}),
    ),
    "flow of few steps of single objects": few_steps_case(
        "few.json: expected a network with use_global for the pipeline SceneGen", use_global=False
    ),
    "flow of few steps of other latents": few_steps_case(
        "few.json: in_channels: expected 4, as sparse_structure_flow_model has, got 8",
        in_channels=8,
        out_channels=8,
    ),
    "flow of few steps of another grid": few_steps_case(
        "few.json: resolution: expected 2, as sparse_structure_flow_model has, got 4", resolution=4
    ),
    "flow of few steps of other conditions": few_steps_case(
        "few.json: cond_channels: expected 32, the channels of the conditions, got 64", cond_channels=64
    ),
    "sampler of few steps of single objects": checkpoint_case(
        "few_step_sampler: expected a name that ends with VGGT for the pipeline",
        lambda i: (
            add_few_steps_flow(i.checkpoint),
            i.describe(lambda args: args["few_step_sampler"].update(name="FlowEulerSampler")),
        ),
    ),
    "sampler of single objects": description_case(
        "sparse_structure_sampler: expected a name that ends with VGGT for the pipeline",
        lambda args: args["sparse_structure_sampler"].update(name="FlowEulerSampler"),
    ),
}

APPEARANCE_CASES: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "Gaussian decoder as mesh decoder": (
        "slat_dec_gs.json: expected SLatMeshDecoder for the role 'slat_decoder_mesh', got "
        "'ElasticSLatGaussianDecoder'",
        lambda args: args["models"].update(slat_decoder_mesh="ckpts/slat_dec_gs"),
    ),
    "mesh decoder as Gaussian decoder": (
        "slat_dec_mesh.json: expected SLatGaussianDecoder for the role 'slat_decoder_gs'",
        lambda args: args["models"].update(slat_decoder_gs="ckpts/slat_dec_mesh"),
    ),
    "structure flow as appearance flow": (
        "flow.json: expected SLatFlowModel for the role 'slat_flow_model', got 'SparseStructureFlowModel'",
        lambda args: args["models"].update(slat_flow_model="ckpts/flow"),
    ),
    "normalisation of another length": (
        "slat_normalization: expected 4, a mean for each channel of slat_flow_model, got 3",
        lambda args: args.update(slat_normalization={"mean": [0.0] * 3, "std": [1.0] * 3}),
    ),
    "sampler of scenes in the appearance stage": (
        "slat_sampler: expected a sampler of single objects, got 'FlowEulerSamplerVGGT'",
        lambda args: args["slat_sampler"].update(name="FlowEulerSamplerVGGT"),
    ),
    "texture of a decoder that is not there": (
        "texture_source: 'gaussian' needs the role 'slat_decoder_gs', got none",
        lambda args: (args["models"].pop("slat_decoder_gs"), args.update(texture_source="gaussian")),
    ),
    "patch details without the channels": (
        "slat_flow.json: cond_channels: expected",
        lambda args: args.update(slat_patch_grid=2),
    ),
    "light without the channels": (
        "slat_flow.json: cond_channels: expected",
        lambda args: args.update(slat_light=True),
    ),
}


@pytest.mark.parametrize("name", APPEARANCE_CASES)
def test_malformed_appearance_stages_give_one_line(appearance_inputs, name):
    says, change = APPEARANCE_CASES[name]
    assert_one_line(description_case(says, change), appearance_inputs)


def test_what_no_stage_uses_is_told(appearance_inputs, caplog):
    appearance_inputs.describe(lambda args: args["models"].pop("slat_flow_model"))
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for name in ("slat_decoder_mesh", "slat_decoder_gs", "slat_sampler", "slat_normalization"):
        expected = f"pipeline.json: {name}: not used without the role 'slat_flow_model'"
        assert any(expected in line for line in told)
    caplog.clear()
    appearance_inputs.describe(lambda args: args["models"].update(painter="ckpts/flow"))
    assert "models: 'painter' is no role that a stage uses; it has no effect" in caplog.text


@pytest.mark.parametrize("name", CASES)
def test_malformed_checkpoints_gives_one_line(inputs, name):
    assert_one_line(CASES[name], inputs)
