"""Scenes from shards: what the files of the data root give, but for pictures rounded to 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dataset_toolkits import pack_scenes
from scenegen.datasets.sample_files import SampleError
from scenegen.datasets.shards import SCENES as SHARDS_OF_SCENES
from scenegen.datasets.shards import ShardError, shard_paths
from tests.lookalike_root import SS_LATENT
from tests.unit.scenegen.datasets.conftest import SCENES
from trellis_modules.config import ConfigError

SETTINGS = {"latent_model": SS_LATENT, "image_size": 28}


@pytest.fixture
def packed(changed_root):
    command = ["--output_dir", str(changed_root), "--image_size", "28", "--samples_per_shard", "3"]
    assert pack_scenes.main(command) == 0
    return changed_root


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_those_of_the_data_root(packed, make_source, workers):
    run = {"slots": 2, "workers": workers}
    plain = make_source(SCENES, packed, run=run, **SETTINGS, use_single_asset=True)
    shards = make_source("SceneShards", packed, run=run, use_single_asset=True)
    assert {size: len(cases) for size, cases in plain.samples.groups.items()} == {
        size: len(cases) for size, cases in shards.samples.groups.items()
    }
    for step in range(plain.plan.steps_per_round):
        expected, batch = plain.batch(step, 1, 2), shards.batch(step, 1, 2)
        assert torch.equal(batch.x_0, expected.x_0) and torch.equal(batch.positions, expected.positions)
        for name in ("cond", "mask_cond", "scene_image"):
            difference = (getattr(batch, name) - getattr(expected, name)).abs().max()
            assert difference <= 0.5 / 255 + 1e-6
        assert torch.equal(batch.vggt_feature, expected.vggt_feature)


def test_left_out_scenes_are_counted_and_held_out_ones_apart(packed, make_source):
    source = make_source("SceneShards", packed)
    assert str(source) == "11 samples\n4 shards: 10 scenes"
    parts = [
        make_source("SceneShards", packed, run={"validation": part}, validation_share=0.5).samples
        for part in (False, True)
    ]
    assert min(map(len, parts)) > 0 and sum(map(len, parts)) == 11
    with pytest.raises(ConfigError, match="no sample is left; 4 shards: 10 scenes, 11 left out: aesthetic"):
        make_source("SceneShards", packed, min_aesthetic_score=9.0)


def test_missing_and_damaged_shards_are_one_line(packed, toy_root, make_source):
    with pytest.raises(ShardError, match="shards: expected shards of scenes of the set train, found none"):
        make_source("SceneShards", toy_root)
    source = make_source("SceneShards", packed, max_bad_samples=0)
    path = shard_paths(packed / "shards", SHARDS_OF_SCENES, "train")[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SampleError, match="damaged .*; pack it again") as error:
        source.samples.read(0, np.random.default_rng(0))
    assert "\n" not in str(error.value)
