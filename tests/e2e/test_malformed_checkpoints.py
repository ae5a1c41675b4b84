"""A checkpoint that contradicts itself is refused when it is loaded, in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.malformed import Case, assert_one_line, checkpoint_case, description_case


def sampler(**params: Any) -> Callable[[dict[str, Any]], Any]:
    """Change settings of the structure sampler."""
    return lambda args: args["sparse_structure_sampler"]["params"].update(params)


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
}


@pytest.mark.parametrize("name", CASES)
def test_malformed_checkpoints_gives_one_line(inputs, name):
    assert_one_line(CASES[name], inputs)
