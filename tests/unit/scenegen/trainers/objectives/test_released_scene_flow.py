"""The released objective of the scene flow: its draws, its terms, and where gradients go.

Its numbers are held by the recorded cases in ``tests/parity``.
"""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from scenegen.datasets.batch import SceneCaseBatch
from scenegen.models.registry import build_model
from scenegen.trainers.objectives.released_scene_flow import (
    ReleasedSceneFlowObjective,
    ReleasedSceneFlowSettings,
)
from trellis_modules.checkpoint import CheckpointError, save_checkpoint
from trellis_modules.config import ConfigError
from trellis_modules.flow_output import FlowOutput

ASSETS, SIZE, WIDTH, EDGE = 3, 28, 32, 4
TOKENS = 1 + 4 + (SIZE // 14) ** 2
ENCODER = {"name": "VisionTransformer", "args": {
    "img_size": SIZE, "embed_dim": WIDTH, "depth": 1, "num_heads": 2, "num_register_tokens": 4}}  # fmt: skip
DECODER = {"name": "SparseStructureDecoder", "args": {
    "out_channels": 1, "latent_channels": 4, "num_res_blocks": 1, "channels": [32, 32],
    "num_res_blocks_middle": 1}}  # fmt: skip
FLOW = {"name": "SparseStructureFlowModel", "args": {
    "resolution": EDGE, "in_channels": 4, "out_channels": 4, "model_channels": WIDTH, "cond_channels": WIDTH,
    "num_blocks": 1, "num_heads": 2, "patch_size": 2, "use_global": True, "trunk_depth": 1,
    "num_iteration": 2}}  # fmt: skip


@pytest.fixture(scope="module")
def stems(tmp_path_factory):
    """References of toy networks that the loss uses."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("networks")
    for name, raw in (("encoder", ENCODER), ("decoder", DECODER)):
        save_checkpoint(build_model(raw), folder / name)
    return {"image_cond_model": str(folder / "encoder"), "pretrained_ss_dec": str(folder / "decoder")}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(ASSETS, 8, generator=generator) + 0.3
    positions[0] = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
    return SceneCaseBatch(
        x_0=torch.randn(ASSETS, 4, EDGE, EDGE, EDGE, generator=generator),
        positions=positions,
        cond=torch.rand(ASSETS, 3, SIZE, SIZE, generator=generator),
        mask_cond=torch.rand(ASSETS, 3, SIZE, SIZE, generator=generator),
        scene_image=torch.rand(3, SIZE, SIZE, generator=generator),
        vggt_feature=torch.randn(1, TOKENS, 2 * WIDTH, generator=generator),
    )


def first(batch, count):
    """The scene with its first objects alone."""
    rows = {name: getattr(batch, name)[:count] for name in ("x_0", "positions", "cond", "mask_cond")}
    return replace(batch, **rows)


class Recorder(nn.Module):
    """Predicts no velocity and given poses, and keeps what it was called with."""

    def __init__(self, poses):
        super().__init__()
        self.poses = nn.Parameter(poses)

    def forward(self, x_t, t, cond, **arguments):
        self.call = {"x_t": x_t, "t": t, "cond": cond, **arguments}
        return FlowOutput(torch.zeros_like(x_t), {"positions": self.poses})


def evaluate(batch, stems, poses=None, seed=0, **options):
    denoiser = Recorder(batch.positions.clone() if poses is None else poses)
    settings = ReleasedSceneFlowSettings(**{**stems, "p_uncond": 0.0, **options})
    objective = ReleasedSceneFlowObjective(denoiser, settings)
    loss, logs = objective(batch, torch.Generator().manual_seed(seed))
    return loss, logs, denoiser


def test_the_condition_has_the_parts_that_are_switched_on(batch, stems):
    call = evaluate(batch, stems)[2].call
    assert call["cond"].shape == (ASSETS, 5 * TOKENS, WIDTH) and call["num_object_tokens"] == TOKENS
    geometry = torch.cat(batch.vggt_feature.chunk(2, -1), 1)
    torch.testing.assert_close(call["cond"][1:2, 3 * TOKENS :], geometry)
    call = evaluate(batch, stems, use_mask_cond=False, use_vggt_feature_cond=False)[2].call
    assert call["cond"].shape[1] == 2 * TOKENS


def test_ready_tokens_are_taken_as_they_are_and_need_no_encoder(batch, stems):
    tokens = torch.randn(ASSETS, 3 * TOKENS + 8, WIDTH)
    ready = replace(batch, cond_tokens=tokens, num_object_tokens=TOKENS, cond=None)
    call = evaluate(ready, {**stems, "image_cond_model": None})[2].call
    assert torch.equal(call["cond"], tokens) and call["num_object_tokens"] == TOKENS
    with pytest.raises(ConfigError, match="expected ready condition tokens in each batch, got none"):
        evaluate(batch, {**stems, "image_cond_model": None})
    with pytest.raises(ConfigError, match="normalize_geometry: expected false for ready condition tokens"):
        evaluate(ready, stems, normalize_geometry=True)


@pytest.mark.parametrize("missing", ["cond", "mask_cond", "scene_image", "vggt_feature"])
def test_a_part_that_the_data_lack_is_named(batch, stems, missing):
    with pytest.raises(ConfigError, match=f"dataset: expected {missing} of each scene"):
        evaluate(replace(batch, **{missing: None}), stems)


@pytest.mark.parametrize(("shared", "times"), [(False, ASSETS), (True, 1)])
def test_times_are_drawn_for_each_object_or_for_the_scene(batch, stems, shared, times):
    call = evaluate(batch, stems, shared_t=shared)[2].call
    assert len(call["t"].unique()) == times and len(call["t"]) == ASSETS


@pytest.mark.parametrize("shared", [False, True])
def test_conditions_are_dropped_for_each_object_or_for_the_scene(batch, stems, shared):
    seen = set()
    for seed in range(12):
        call = evaluate(batch, stems, seed=seed, p_uncond=0.5, shared_dropout=shared)[2].call
        seen.add(tuple(call["cond"].flatten(1).any(1).tolist()))
    assert len(seen) > 1 and (max(len(set(kept)) for kept in seen) == 1) == shared


def test_a_scene_of_one_object_has_no_pose_term(batch, stems):
    loss, logs, denoiser = evaluate(first(batch, 1), stems)
    assert loss == logs["mse"] and "pos_loss" not in logs
    (gradient,) = torch.autograd.grad(loss, denoiser.poses)
    assert not gradient.any(), "there, but zero: processes that share a model wait for it"


def test_the_query_has_no_pose_error_and_targets_have(batch, stems):
    poses = batch.positions.clone()
    poses[0] += 5
    _, logs, _ = evaluate(batch, stems, poses)
    assert logs["pos_loss"] == logs["trans_loss"] == 0
    poses[1] += 5
    loss, logs, denoiser = evaluate(batch, stems, poses)
    loss.backward()
    moved = denoiser.poses.grad.any(1).tolist()
    assert logs["trans_loss"] == pytest.approx(2.5) and moved == [False, True, False]


def test_the_released_collision_number_has_no_gradient_and_the_overlap_has(batch, stems):
    options = {"collision_resolution": 16, "overlap_resolution": 4}
    plain, _, _ = evaluate(batch, stems)
    loss, logs, denoiser = evaluate(batch, stems, use_collision_loss=True, **options)
    gradient = torch.autograd.grad(loss, denoiser.poses, allow_unused=True)[0]
    assert 0 < logs["collision_ratio"] <= 1 and loss > plain and not gradient.any()
    loss, logs, denoiser = evaluate(batch, stems, overlap_weight=1.0, **options)
    gradient = torch.autograd.grad(loss, denoiser.poses)[0]
    assert logs["overlap"] > 0 and gradient[1:].any(1).all() and not gradient[0].any()


def test_rotations_may_have_either_sign_when_asked(batch, stems):
    flipped = batch.positions.clone()
    flipped[:, 3:7] *= -1 / flipped[:, 3:7].norm(dim=-1, keepdim=True)
    assert evaluate(batch, stems, flipped)[1]["pos_loss"] > 0.5
    assert evaluate(batch, stems, flipped, rotation_loss="either_sign")[1]["pos_loss"] < 1e-6


def test_only_the_denoiser_learns_and_the_average_is_part_of_the_state(batch, stems):
    torch.manual_seed(0)
    settings = ReleasedSceneFlowSettings(**stems, use_collision_loss=True, collision_resolution=16)
    objective = ReleasedSceneFlowObjective(build_model(FLOW), settings)
    trained = {name for name, p in objective.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"denoiser"}
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], 2e-3)
    history = []
    for _ in range(25):
        loss, logs = objective(batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.end_step(logs)
        history.append(float(loss.detach()))
    assert history[-1] < 0.7 * history[0]
    assert objective.state_dict()["pose_weight.average"] > 0


def test_poses_of_another_size_than_the_networks_are_refused(batch, stems):
    with pytest.raises(ConfigError, match="pose_encoding_type: .* got 7 numbers from the data and 8"):
        evaluate(replace(batch, positions=batch.positions[:, :7]), stems, batch.positions)


def test_poses_with_angles_have_collisions_but_no_overlap(batch, stems):
    angles = torch.tensor([[0.0, 0, 0, 0, 0, 0, 1], [0.2, 0, 0, 0, 90, 0, 1], [0.1, 0, 0, 30, 0, 0, 1]])
    batch = replace(batch, positions=angles)
    _, logs, _ = evaluate(batch, stems, angles + 0.1, use_collision_loss=True, collision_resolution=16)
    assert 0 < logs["collision_ratio"] <= 1 and float(logs["rot_loss"]) == pytest.approx(0.1, abs=1e-5)
    for options in ({"overlap_weight": 1.0}, {"rotation_loss": "either_sign"}):
        with pytest.raises(ConfigError, match="pose_encoding_type: expected absT_quatR_S, .* got angles"):
            evaluate(batch, stems, angles, **options)


def test_a_missing_encoder_or_decoder_is_named(batch, stems):
    with pytest.raises(CheckpointError, match="nowhere: expected a network"):
        evaluate(batch, {**stems, "image_cond_model": "nowhere"})
    with pytest.raises(ConfigError, match="pretrained_ss_dec: expected a structure decoder"):
        evaluate(batch, {**stems, "pretrained_ss_dec": None}, use_collision_loss=True)


def test_the_decoder_may_come_from_a_training_run(batch, stems, tmp_path):
    torch.manual_seed(3)
    decoder = build_model(DECODER)
    save_checkpoint(decoder, tmp_path / "ckpts" / "decoder_step0000005", torch.float32)
    run = {"ss_dec_path": str(tmp_path), "ss_dec_ckpt": "step0000005"}
    with pytest.raises(CheckpointError, match="config.json: no such"):
        ReleasedSceneFlowSettings(**stems, **run).structure_decoder()
    (tmp_path / "config.json").write_text(json.dumps({"models": {"decoder": DECODER}}))
    loaded = ReleasedSceneFlowSettings(**stems, **run).structure_decoder()
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), decoder.parameters()))
    assert not any(p.requires_grad for p in loaded.parameters())
