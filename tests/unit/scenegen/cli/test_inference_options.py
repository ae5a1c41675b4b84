"""Options of inference.py that reach the samplers and the scene attention."""

from dataclasses import replace
from pathlib import Path

import pytest

from scenegen.checkpoints.roles import FEW_STEPS_FLOW_ROLE
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.cli.bundled import bundled
from scenegen.cli.inference_options import parse_arguments
from scenegen.hub.releases import SMALL_MODEL
from scenegen.pipelines.settings import RunSettings
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.registry import SamplerConfig

ROLES = ("sparse_structure_flow_model", "slat_flow_model", "slat_decoder_gs", "slat_decoder_mesh")


@pytest.fixture(scope="module")
def config():
    return PipelineConfig.load(Path(bundled(SMALL_MODEL)))


def settings_of(*arguments):
    return parse_arguments("", ["--input", "photo", *arguments]).batch.settings


def test_samplers_are_told_solvers_and_the_times_of_guidance(config):
    flags = [
        "--solver",
        "multistep",
        "--steps",
        "9",
        "--cfg-interval",
        "0.25",
        "0.75",
        "--slat-solver",
        "heun",
    ]
    resolved = settings_of(*flags, "--slat-cfg-interval", "0", "0.5").resolve(config, ROLES)
    own = config.sparse_structure_sampler.params
    assert resolved.sampling == SamplingParams(9, own.rescale_t, own.cfg_strength, (0.25, 0.75), "multistep")
    assert resolved.slat_sampling.solver == "heun" and resolved.slat_sampling.cfg_interval == (0.0, 0.5)
    record = resolved.record()
    assert record["solver"] == "multistep" and record["appearance"]["solver"] == "heun"


def test_records_tell_of_solvers_and_groups_only_where_they_were_asked_for(config):
    plain = settings_of().resolve(config, ROLES)
    assert plain.sampling.solver == "euler" and plain.group is None
    assert "solver" not in plain.record() | plain.record()["appearance"] and "group" not in plain.record()
    assert settings_of("--group", "8").resolve(config, ROLES).record()["group"] == 8


def test_a_flow_of_few_steps_has_its_own_sampler_which_flags_override(config):
    few = SamplerConfig("FlowEulerSamplerVGGT", params=SamplingParams(4, 3.0, 0.0))
    models = config.models | {FEW_STEPS_FLOW_ROLE: "ckpts/few"}
    config = replace(config, models=models, few_step_sampler=few)
    assert settings_of("--few-steps").resolve(config, ROLES).sampling == few.params
    told = settings_of("--few-steps", "--steps", "3", "--cfg", "1.5").resolve(config, ROLES)
    assert (told.sampling.steps, told.sampling.cfg_strength) == (3, 1.5)
    assert told.record()["few_steps"] and "few_steps" not in settings_of().resolve(config, ROLES).record()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--group", "1"], "group: expected at least 2 objects"),
        (["--group", "4", "--no-scene-attention"], "group: expected at least 2 objects and scene attention"),
        (["--cfg-interval", "0.8", "0.2"], "--cfg-interval: expected 0 <= LOW <= HIGH <= 1, got 0.8 0.2"),
        (["--slat-cfg-interval", "0", "2"], "--slat-cfg-interval: expected 0 <= LOW <= HIGH <= 1, got 0 2"),
        (["--solver", "rk4"], "invalid choice: 'rk4'"),
        (["--no-appearance", "--slat-solver", "heun"], "--slat-solver: needs the appearance stage"),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments, words, capsys):
    with pytest.raises(SystemExit):
        settings_of(*arguments)
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_an_interval_that_is_none_is_refused_with_the_checkpoint(config):
    with pytest.raises(ValueError, match=r"cfg_interval must be \(low, high\) with 0 <= low <= high <= 1"):
        RunSettings(sampling={"cfg_interval": [0.8, 0.2]}).resolve(config, ROLES)
