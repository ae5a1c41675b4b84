"""Ranges, presets, and what the controls mean for a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scenegen.checkpoints.roles import FEW_STEPS_FLOW_ROLE
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.demo.controls import (
    MAX_SEED,
    OWN_PRESET,
    PRESETS,
    SamplingControls,
    SceneControls,
    draw_seed,
    preset,
)
from scenegen.inputs.image_files import SceneInputError
from scenegen.pipelines.settings import RunSettings
from trellis_modules.samplers import SamplingParams

SMALL_MODEL = Path(__file__).resolve().parents[4] / "checkpoints" / "scenegen-small"


@pytest.fixture(scope="module")
def config() -> PipelineConfig:
    return PipelineConfig.load(SMALL_MODEL)


def test_defaults_are_those_of_the_published_page():
    controls = SceneControls()
    assert (controls.seed, controls.order, controls.positions_type) == (0, "largest", "last")
    assert (controls.simplify, controls.texture_size, controls.refine) == (0.95, 1024, False)
    for stage in (controls.structure, controls.appearance):
        assert (stage.steps, stage.cfg_strength, stage.cfg_start, stage.cfg_end, stage.rescale_t) == (
            25,
            5,
            0.5,
            1,
            3,
        )


def test_the_checkpoints_own_preset_makes_what_inference_makes(config):
    """The same settings after resolution, and so the same bytes."""
    roles = {"slat_decoder_mesh"}
    own = replace(preset(OWN_PRESET, config), seed=42).run_settings(config).resolve(config, roles)
    assert own == RunSettings(seed=42).resolve(config, roles)
    assert own.record() == RunSettings(seed=42).resolve(config, roles).record()


def test_a_fast_structure_has_the_settings_of_its_own_sampler(config):
    controls = SceneControls(few_steps=True)
    with pytest.raises(SceneInputError, match="few_steps: expected a checkpoint with a structure flow"):
        controls.run_settings(replace(config, few_step_sampler=None, models=_without_few_steps(config)))
    few = replace(config.sparse_structure_sampler, params=SamplingParams(4, 3.0, 0.0))
    models = config.models | {FEW_STEPS_FLOW_ROLE: "ckpts/few"}
    config = replace(config, models=models, few_step_sampler=few)
    resolved = controls.run_settings(config).resolve(config, config.models)
    assert resolved.few_steps and resolved.sampling == few.params
    assert SceneControls.parse({"few_steps": True}, SceneControls()) == controls


def _without_few_steps(config):
    return {role: stem for role, stem in config.models.items() if role != FEW_STEPS_FLOW_ROLE}


def test_presets(config):
    own, fast, quality = (preset(name, config) for name in (OWN_PRESET, "fast", "quality"))
    assert own.structure.steps == 12 and own.structure.cfg_strength == 2 and own.appearance.steps == 2
    assert (fast.structure.steps, fast.appearance.steps, fast.texture_size) == (6, 1, 512)
    assert (quality.structure.steps, quality.appearance.steps, quality.texture_size) == (24, 4, 2048)
    assert fast.structure.cfg_strength == quality.structure.cfg_strength == own.structure.cfg_strength
    assert preset("balanced", config) == SceneControls()
    assert {preset(name, None) for name in PRESETS} == {SceneControls()}
    for name in PRESETS:
        preset(name, config).check(1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seed": MAX_SEED + 1}, "seed: expected a number from 0 to"),
        ({"seed": "many"}, "seed: expected a number"),
        ({"simplify": 1.0}, "simplify: expected a number from 0 to 0.99, got 1"),
        ({"texture_size": 1000}, "texture size: expected one of 512, 1024, 2048, 4096, got 1000"),
        ({"order": "drawn"}, "asset order: expected one of largest, smallest, order"),
        ({"positions_type": "avg"}, "expected several pictures for 'avg', got one"),
        ({"structure": SamplingControls(rescale_t=0)}, "structure: rescale factor: .* from 0.1 to 5, got 0"),
        ({"structure": SamplingControls(steps=101)}, "structure: inference steps"),
        ({"appearance": SamplingControls(cfg_strength=11)}, "appearance: CFG scale"),
        (
            {"appearance": SamplingControls(cfg_start=0.8, cfg_end=0.2)},
            "appearance: .* start before it ends, got 0.8",
        ),
    ],
)
def test_what_no_control_allows_is_refused(wrong, words):
    with pytest.raises(SceneInputError, match=words):
        replace(SceneControls(), **wrong).check(1)
    if "positions_type" in wrong:
        replace(SceneControls(), **wrong).check(2)


def test_settings_of_callers_change_only_what_they_name():
    default = SceneControls(seed=3)
    parsed = SceneControls.parse({"order": "order", "structure": {"steps": 4}}, default)
    assert parsed == replace(default, order="order", structure=SamplingControls(steps=4))
    for wrong in ({"stepz": 1}, {"structure": {"stepz": 1}}):
        with pytest.raises(SceneInputError, match="known: seed, order, .* steps, cfg_strength"):
            SceneControls.parse(wrong, default)


def test_a_query_and_an_order_reach_the_pipeline(config):
    settings = replace(SceneControls(), order="smallest").run_settings(config, query=2)
    assert (settings.order, settings.query) == ("smallest", 2)
    assert {"order": "smallest", "query": 2}.items() <= settings.resolve(config, ()).record().items()


def test_drawn_seeds_are_in_range_and_differ():
    seeds = {draw_seed() for _ in range(20)}
    assert len(seeds) > 15 and all(0 <= seed <= MAX_SEED for seed in seeds)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"texture_size": 512.0}, "whole number as texture_size"),
        ({"refine": "no"}, "true or false as refine"),
        ({"few_steps": 1}, "true or false as few_steps"),
        ({"appearance": False}, "expected appearance as an object"),
    ],
)
def test_settings_of_another_type_are_refused(raw, words):
    with pytest.raises(SceneInputError, match=words):
        SceneControls.parse(raw, SceneControls()).check(1)
