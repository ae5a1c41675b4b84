"""Tokens of the pictures of scenes: those that the conditioner makes in a training step, encoded once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset_toolkits import encode_cond
from scenegen.checkpoints.networks import load_network
from scenegen.conditioning.scene_conditioner import SceneConditioner
from scenegen.datasets.metadata import read_scenes
from scenegen.datasets.registry import DATASETS
from scenegen.datasets.sample_files import SampleError
from scenegen.datasets.scene_set import SceneCases, SceneSetConfig
from scenegen.datasets.source import SourceOptions
from scenegen.models.registry import build_model
from tests.lookalike_root import SLAT, SS_LATENT, lookalike_root
from trellis_modules.checkpoint import save_checkpoint

ENCODER = {
    "name": "VisionTransformer",
    "args": {"img_size": 28, "patch_size": 14, "embed_dim": 32, "depth": 1, "num_heads": 2,
             "num_register_tokens": 4},
}  # fmt: skip
SIZE = 28


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    stem = tmp_path_factory.mktemp("encoder") / "toy_encoder"
    save_checkpoint(build_model(ENCODER, "encoder"), stem)
    return stem


@pytest.fixture
def root(tmp_path) -> Path:
    return lookalike_root(tmp_path / "root", scenes=(3, 2), single_assets=True)


def run(root: Path, encoder: Path, *flags: str) -> int:
    arguments = ["--output_dir", str(root), "--model", str(encoder), "--image_size", str(SIZE)]
    return encode_cond.main([*arguments, "--device", "cpu", *flags])


def cases(root: Path, **settings) -> SceneCases:
    config = SceneSetConfig(latent_model=SS_LATENT, min_aesthetic_score=None, image_size=SIZE, **settings)
    return SceneCases(config, SourceOptions(torch.device("cpu"), data_dirs=(root,), batch_size=8))


def test_ready_tokens_are_those_of_the_pictures(root, encoder, capsys):
    assert run(root, encoder, "--batch_size", "3") == 0
    assert "8 of 8 scenes have their tokens" in capsys.readouterr().out
    pictures, tokens = cases(root), cases(root, cond_tokens="toy_encoder")
    conditioner = SceneConditioner(load_network(encoder), None)
    for number in range(len(pictures)):
        seen, ready = (one.read(number, np.random.default_rng(3)) for one in (pictures, tokens))
        assert torch.equal(seen.x_0, ready.x_0)
        with torch.no_grad():
            expected, _ = conditioner.encode_tensors(
                seen.cond, seen.mask_cond, seen.scene_image[None], geometry_feature=seen.vggt_feature
            )
        torch.testing.assert_close(ready.cond_tokens.float(), expected, atol=4e-3, rtol=1e-3)  # float16


def test_what_is_there_stays_and_processes_share_the_rest(root, encoder):
    assert run(root, encoder, "--rank", "1", "--world_size", "2") == 0
    files = sorted((root / "cond_tokens" / "toy_encoder").iterdir())
    assert len(files) == 4
    for file in files:
        os.utime(file, (1, 1))
    assert run(root, encoder) == 0
    assert [file.stat().st_mtime for file in files] == [1] * 4
    assert len(list((root / "cond_tokens" / "toy_encoder").iterdir())) == 8


def test_a_scene_that_fails_is_listed_and_the_others_are_made(root, encoder, caplog):
    (root / "masked_images" / "0000001" / "1.png").write_bytes(b"no")
    assert run(root, encoder) == 1
    assert "1.png: damaged" in caplog.text
    listed = (root / "failed_cond_tokens_train_0.csv").read_text()
    assert "0000001" in listed and len(list((root / "cond_tokens" / "toy_encoder").iterdir())) == 7


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--model", "/nowhere/encoder"), "/nowhere/encoder: expected a network"),
        (("--image_size", "30"), "--image-size: expected a multiple of 14, got 30"),
        (("--set", "test"), "metadata_scene_test.csv: no such file"),
        (("--kind", "assets", "--output_dir", "/tmp"), "/tmp/metadata.csv: no such file"),
    ],
)
def test_wrong_input_is_one_line(root, encoder, caplog, flags, said):
    assert run(root, encoder, *flags) == 1
    assert said in caplog.text and len(caplog.records) == 1


def test_pictures_of_assets_have_their_tokens(root, encoder):
    assert run(root, encoder, "--kind", "assets") == 0
    options = SourceOptions(torch.device("cpu"), data_dirs=(root,), batch_size=6)
    kind = DATASETS["ImageConditionedSLat"]
    settings = {"latent_model": SLAT, "min_aesthetic_score": None, "image_size": SIZE}
    pictures = kind.make(kind.config(**settings), options).batch(3)
    ready = kind.make(kind.config(**settings, cond_tokens="toy_encoder"), options).batch(3)
    assert ready.image is None and torch.equal(ready.x_0, pictures.x_0)
    with torch.no_grad():
        expected = SceneConditioner(load_network(encoder), None).encode_images(pictures.image)
    torch.testing.assert_close(ready.cond_tokens, expected, atol=4e-3, rtol=1e-3)  # stored as float16


def test_assets_without_tokens_are_named(root, encoder):
    kind = DATASETS["ImageConditionedSparseStructureLatent"]
    config = kind.config(latent_model=SS_LATENT, min_aesthetic_score=None, cond_tokens="none")
    source = kind.make(config, SourceOptions(torch.device("cpu"), data_dirs=(root,), batch_size=6))
    with pytest.raises(
        SampleError, match="cond_tokens/none/assets/.*no such file.; run encode_cond.py again"
    ):
        source.batch(0)


def test_every_row_of_the_table_has_its_tokens(root, encoder):
    assert run(root, encoder) == 0
    assert len(cases(root, cond_tokens="toy_encoder")) == len(read_scenes(root / "metadata_scene.csv"))
