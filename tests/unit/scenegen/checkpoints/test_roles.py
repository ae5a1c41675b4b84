"""The names in pipeline.json: read from any content, written anew, and the same as those of the schema."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from scenegen.checkpoints.roles import (
    DECODER_ROLE,
    ENCODER_ROLES,
    FEW_STEPS_FLOW_ROLE,
    FEW_STEPS_SAMPLER,
    FLOW_ROLE,
    GEOMETRY_ENCODER_ROLE,
    IMAGE_ENCODER_ROLE,
    model_stems,
    network_stems,
    with_networks,
)
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.hub.releases import PublishedNetwork
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.registry import SamplerConfig

CONFIG = PipelineConfig(
    models={FLOW_ROLE: "ckpts/flow", DECODER_ROLE: "ckpts/decoder"},
    sparse_structure_sampler=SamplerConfig("FlowEulerSamplerVGGT"),
    image_cond_model="ckpts/image",
    vggt_model="owner/VGGT-1B",
)


def content() -> dict[str, Any]:
    named = CONFIG.to_named()
    return {"name": named.name, "args": named.args}


def test_the_schema_has_the_keys_of_the_roles() -> None:
    assert {"models", "sha256", *ENCODER_ROLES} <= {field.name for field in fields(PipelineConfig)}
    assert network_stems(content()) == CONFIG.stems
    assert model_stems(content()) == CONFIG.models
    assert CONFIG.stems[GEOMETRY_ENCODER_ROLE] == "owner/VGGT-1B"


def test_networks_that_were_not_written_are_left_out() -> None:
    stems, sha256 = {FLOW_ROLE: "new/flow", IMAGE_ENCODER_ROLE: "new/image"}, {"new/flow.safetensors": "ab"}
    written = with_networks(content(), stems, sha256)
    assert network_stems(written) == stems | {GEOMETRY_ENCODER_ROLE: "owner/VGGT-1B"}
    assert written["args"]["sha256"] == sha256
    assert written["args"]["sparse_structure_sampler"] == content()["args"]["sparse_structure_sampler"]


def test_a_flow_of_few_steps_is_described_with_its_sampler() -> None:
    few = SamplerConfig("FlowEulerSamplerVGGT", params=SamplingParams(4, 3.0, 0.0))
    models = CONFIG.models | {FEW_STEPS_FLOW_ROLE: "ckpts/few"}
    sha256 = {"ckpts/few.safetensors": "ab"}
    config = replace(CONFIG, models=models, few_step_sampler=few, sha256=sha256)
    assert (config.structure_flow().sha256, config.structure_flow(True).sha256) == (None, "ab")
    named = config.to_named()
    assert PipelineConfig.parse(named, "here") == config
    args = named.args | {FEW_STEPS_SAMPLER: {"params": named.args[FEW_STEPS_SAMPLER]["params"]}}
    assert PipelineConfig.parse(replace(named, args=args), "here") == config, "its name may be left out"
    assert FEW_STEPS_SAMPLER in {field.name for field in fields(PipelineConfig)}
    assert FEW_STEPS_SAMPLER not in content()["args"]
    written = with_networks({"name": named.name, "args": named.args}, {FLOW_ROLE: "new/flow"}, {})
    assert FEW_STEPS_SAMPLER not in written["args"]


@pytest.mark.parametrize("wrong", [None, [], {}, {"args": []}, {"args": {"models": {FLOW_ROLE: 3}}}])
def test_content_of_something_else_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected args.models with a stem for each role"):
        network_stems(wrong)


def test_encoder_that_is_no_text_is_named() -> None:
    wrong = content()
    wrong["args"][IMAGE_ENCODER_ROLE] = 3
    with pytest.raises(ValueError, match=f"expected a stem in args.{IMAGE_ENCODER_ROLE}, got int"):
        network_stems(wrong)


def test_published_network_of_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="role: expected one of .*, got 'flow'"):
        PublishedNetwork("flow", 1, "VGGT")
