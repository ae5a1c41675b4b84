"""Settings that change nothing are told, and only those."""

import json
from pathlib import Path

import pytest

import train
from scenegen.trainers.experiment import load_experiment
from scenegen.trainers.without_effect import without_effect

CONFIGS = Path(train.__file__).parent / "configs"


def told(tmp_path, config, model=None, **arguments):
    """What is told of a configuration with other arguments of the trainer and of its denoiser."""
    raw = json.loads((CONFIGS / config).read_text())
    raw["trainer"]["args"] |= arguments
    for network in raw["models"].values():
        network["args"] |= model or {}
    (tmp_path / "e.json").write_text(json.dumps(raw))
    return [
        line.split(" changes nothing: ")[0] for line in without_effect(load_experiment(tmp_path / "e.json"))
    ]


RELEASED, SMALL = "generation/ss_scenegen_flow_img_train.json", "smoke/structure_vae.json"


@pytest.mark.parametrize(
    ("config", "arguments", "expected"),
    [
        (RELEASED, {}, []),
        (RELEASED, {"freeze_weights": ["input_layer"]}, ["trainer.freeze_weights"]),
        (RELEASED, {"batch_size_per_gpu": 16}, ["trainer.batch_size"]),
        (RELEASED, {"finetune_ckpt": None}, ["trainer.init_global_params"]),
        (
            RELEASED,
            {"fp16_mode": "bfloat16"},
            ["trainer.fp16_scale_growth", "models.denoiser.use_fp16"],
        ),
        (
            RELEASED,
            {"use_collision_loss": False},
            [
                "trainer.collision_smooth_scale",
                "trainer.collision_loss_weight",
                "trainer.collision_resolution",
                "trainer.pretrained_ss_dec",
            ],
        ),
        (
            RELEASED,
            {"use_collision_loss": False, "overlap_weight": 1.0},
            [
                "trainer.collision_smooth_scale",
                "trainer.collision_loss_weight",
                "trainer.collision_resolution",
            ],
        ),
        (SMALL, {}, []),
        (SMALL, {"batch_size": 4}, ["trainer.batch_size"]),
    ],
)  # fmt: skip
def test_settings_without_effect_are_told(tmp_path, config, arguments, expected):
    assert told(tmp_path, config, **arguments) == expected


def test_arguments_of_a_position_head_that_is_not_there_are_told(tmp_path):
    expected = ["models.denoiser.trunk_depth", "models.denoiser.num_iteration"]
    assert told(tmp_path, RELEASED, {"use_global": False}) == expected
