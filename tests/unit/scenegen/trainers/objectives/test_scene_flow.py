"""The scene flow's objective: what is compared, what is left out, and where gradients go."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from scenegen.conditioning.patch_places import PLACE_CHANNELS
from scenegen.geometry import identity_pose
from scenegen.models.registry import build_model
from scenegen.synthesis.sources.batch import PhotoBatch, SceneLatentBatch
from scenegen.trainers.objectives.scene_flow import SceneFlowConfig, SceneFlowObjective
from scenegen.trainers.samples import as_used
from trellis_modules.flow_output import FlowOutput
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.flow_matching import TimeSchedule

SCENES, ASSETS, SIZE, WIDTH = 2, 3, 28, 32
TOKENS = 1 + 4 + (SIZE // 14) ** 2
ENCODERS = {
    "image_encoder": {"name": "VisionTransformer", "args": {
        "img_size": SIZE, "embed_dim": WIDTH, "depth": 1, "num_heads": 2, "num_register_tokens": 4}},
    "geometry_encoder": {"name": "VGGT", "args": {
        "img_size": SIZE, "embed_dim": WIDTH,
        "aggregator": {"depth": 1, "num_heads": 2, "patch_embed": "conv", "init_values": 1.0},
        "camera_head": None, "depth_head": None, "point_head": None, "track_head": None}},
}  # fmt: skip
FLOW = {"name": "SparseStructureFlowModel", "args": {
    "resolution": 2, "in_channels": 4, "out_channels": 4, "model_channels": WIDTH, "cond_channels": WIDTH,
    "num_blocks": 2, "num_heads": 2, "patch_size": 1, "qk_rms_norm": True, "share_mod": True,
    "use_global": True, "trunk_depth": 1, "num_iteration": 2}}  # fmt: skip
ALWAYS = {"p_uncond": 0.0, "p_no_scene": 0.0}


def scene_batch():
    """Two scenes of three objects, of which one cannot be seen."""
    generator = torch.Generator().manual_seed(0)
    poses = torch.rand(SCENES, ASSETS, 8, generator=generator) + 0.5
    poses[..., 3:7] /= poses[..., 3:7].norm(dim=-1, keepdim=True)
    poses[:, 0] = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
    count = SCENES * ASSETS
    return SceneLatentBatch(
        x_0=torch.randn(SCENES, ASSETS, 4, 2, 2, 2, generator=generator),
        picture=PhotoBatch(
            image=torch.rand(SCENES, 3, SIZE, SIZE, generator=generator),
            depth=2 + torch.rand(SCENES, SIZE, SIZE, generator=generator),
            extrinsics=torch.eye(4).expand(SCENES, 4, 4),
            focal=torch.ones(SCENES),
        ),
        asset_image=torch.rand(count, 3, SIZE, SIZE, generator=generator),
        mask_image=torch.rand(count, 3, SIZE, SIZE, generator=generator),
        poses=poses,
        visible=torch.tensor([[True, True, True], [True, True, False]]),
        object_points=torch.rand(count, 4, 2, 2, generator=generator) - 0.5,
        world_poses=poses,
    )


@pytest.fixture
def batch():
    return scene_batch()


class Recorder(nn.Module):
    """A flow model that predicts no velocity and given poses, and keeps what it was called with."""

    config = SimpleNamespace(model_channels=WIDTH)

    def __init__(self, poses):
        super().__init__()
        self.poses, self.call = poses, {}
        self.blocks = [None, None]

    def forward(self, x_t, t, cond, **arguments):
        self.call = {"x_t": x_t, "t": t, "cond": cond, **arguments}
        poses = self.poses.flatten(0, 1).repeat(arguments["cond_repeats"], 1)
        return FlowOutput(torch.zeros_like(x_t), {"positions": poses}, torch.ones(len(x_t), 1, WIDTH))


def evaluate(batch, poses=None, seed=0, **options):
    """Loss, logs, and what the flow model was called with."""
    torch.manual_seed(0)
    encoders = {role: build_model(raw) for role, raw in ENCODERS.items()}
    flow = Recorder(batch.poses if poses is None else poses)
    objective = SceneFlowObjective(flow, **encoders, config=SceneFlowConfig(**{**ALWAYS, **options}))
    decisions = objective.decide(torch.Generator().manual_seed(seed))
    loss, logs = objective(batch, torch.Generator().manual_seed(seed), *decisions)
    return float(loss.detach()), {name: float(value) for name, value in logs.items()}, flow.call


def test_perfect_poses_have_no_error_and_all_terms_make_up_the_loss(batch):
    loss, logs, _ = evaluate(batch)
    for name in ("translation", "rotation", "scale"):
        assert logs[name] == pytest.approx(0, abs=1e-6)
    loss, logs, _ = evaluate(batch, batch.poses + 0.3)
    terms = logs["mse"] + 3 * (logs["translation"] + logs["rotation"]) + logs["scale"]
    terms += logs["camera_place"] + logs["camera_size"] + logs["camera_axes"]
    assert loss == pytest.approx(terms + 3 * logs["points"] + logs["depth"] + logs["geometry"], rel=1e-5)


@pytest.mark.parametrize(
    ("scene", "asset", "counts"), [(0, 0, False), (1, 2, False), (0, 1, True), (1, 1, True)]
)
def test_poses_of_queries_and_of_invisible_assets_do_not_count(batch, scene, asset, counts):
    poses = batch.poses.clone()
    poses[scene, asset, :3] += 5
    assert (evaluate(batch, poses)[1]["translation"] > 0.01) == counts


def test_velocity_of_invisible_assets_does_not_count(batch):
    before = evaluate(batch)[1]["mse"]
    batch.x_0[1, 2] = 100.0
    assert evaluate(batch)[1]["mse"] == before
    batch.x_0[1, 1] = 100.0
    assert evaluate(batch)[1]["mse"] > 1000


def test_assets_of_a_scene_share_their_time_and_scenes_do_not(batch):
    _, _, call = evaluate(batch)
    times = call["t"].view(SCENES, ASSETS)
    assert torch.equal(times, times[:, :1].expand_as(times)) and times[0, 0] != times[1, 0]
    assert 0 < times.min() and 1 < times.max() < 1000
    assert call["cond"].shape == (SCENES * ASSETS, 5 * TOKENS, WIDTH)
    assert (call["num_object_tokens"], call["scene_size"]) == (TOKENS, ASSETS)
    assert call["is_query"].tolist() == [True, False, False] * SCENES


def test_draws_see_the_same_scenes_at_other_times(batch):
    _, logs, call = evaluate(batch, draws=3)
    assert (
        call["cond_repeats"] == 3
        and len(call["cond"]) == SCENES * ASSETS
        and call["x_t"].shape == (3 * SCENES * ASSETS, 4, 2, 2, 2)
    )
    times = call["t"].view(3, SCENES, ASSETS)
    assert torch.equal(times, times[..., :1].expand_as(times)) and len(times[..., 0].unique()) == 3 * SCENES
    assert call["is_query"].tolist() == [True, False, False] * SCENES * 3
    assert call["scene_size"] == ASSETS and logs["translation"] == pytest.approx(0, abs=1e-6)


def test_tokens_say_where_they_lie_when_asked_to(batch):
    batch.mask_image[:, :, :14] = 0.0
    cond = evaluate(batch, append_places=True)[2]["cond"]
    assert cond.shape == (SCENES * ASSETS, 5 * TOKENS, WIDTH + PLACE_CHANNELS)
    middles = cond[:, TOKENS + 5 : 2 * TOKENS, WIDTH : WIDTH + 2]  # of the patches of the mask
    torch.testing.assert_close(middles[0], torch.tensor([[-1.0, -1], [1, -1], [-1, 1], [1, 1]]) / 2)


def test_state_lies_between_data_and_noise(batch):
    nearly_data = {"times": TimeSchedule("logitNormal", -20.0, 0.1)}
    torch.testing.assert_close(
        evaluate(batch, **nearly_data)[2]["x_t"], batch.x_0.flatten(0, 1), atol=1e-3, rtol=0
    )


def test_scenes_without_condition_see_zeros_and_learn_no_poses(batch):
    _, logs, call = evaluate(batch, batch.poses + 1, p_uncond=1.0)
    assert not call["cond"].any()
    assert logs["translation"] == logs["rotation"] == logs["scale"] == 0


def test_assets_of_a_scene_lose_their_condition_together(batch):
    seen = set()
    for seed in range(8):
        kept = evaluate(batch, seed=seed, p_uncond=0.5)[2]["cond"].flatten(1).any(1).view(SCENES, ASSETS)
        assert torch.equal(kept, kept[:, :1].expand_as(kept))
        seen.add(tuple(kept[:, 0].tolist()))
    assert len(seen) > 1


def test_steps_without_scene_attention_are_logged_apart(batch):
    _, logs, call = evaluate(batch, p_no_scene=1.0)
    assert call["scene_size"] == 1 and call["is_query"].tolist() == [True, False, False] * SCENES
    assert {"mse_alone", "translation_alone"} <= logs.keys() and "mse" not in logs


def test_scenes_are_sampled_each_by_itself_and_without_what_cannot_be_seen(batch):
    torch.manual_seed(0)
    models = {role: build_model(raw) for role, raw in {**ENCODERS, "flow": FLOW}.items()}
    for parameter in models["flow"].parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    objective = SceneFlowObjective(**models, config=SceneFlowConfig(**ALWAYS))
    params = SamplingParams(steps=2, cfg_strength=3.0)
    with as_used(objective):
        samples = objective.samples(batch, torch.Generator().manual_seed(0), params)
        shown = objective.samples(objective.shown(batch), torch.Generator().manual_seed(0), params)
    assert [len(sample.latents) for sample in samples] == [3, 2]  # an object of the second scene is hidden
    for scene, sample in enumerate(samples):
        rows = batch.visible[scene]
        assert torch.equal(sample.true_latents, batch.x_0[scene, rows])
        assert torch.equal(sample.true_poses, batch.poses[scene, rows])
        assert torch.equal(sample.images, batch.asset_image.unflatten(0, (SCENES, ASSETS))[scene, rows])
        assert sample.latents.shape == sample.true_latents.shape
        assert torch.equal(sample.poses[0], identity_pose(1)[0]) and sample.poses[1:].any()
    assert len(shown) == 1
    torch.testing.assert_close(shown[0].latents, samples[0].latents, rtol=1e-4, atol=1e-5)


def test_gradients_reach_all_networks(batch):
    torch.manual_seed(0)
    models = {role: build_model(raw) for role, raw in {**ENCODERS, "flow": FLOW}.items()}
    for parameter in models["flow"].parameters():
        if not parameter.any():  # outputs and gates start at zero and would stop all gradients
            nn.init.normal_(parameter, std=0.1)
    config = SceneFlowConfig(**ALWAYS, points_weight=0.0, depth_weight=0.0, camera_weight=0.0)
    objective = SceneFlowObjective(**models, config=config)
    loss, _ = objective(batch, torch.Generator().manual_seed(0))
    loss.backward()
    for role in models:
        gradients = [p.grad for p in models[role].parameters() if p.grad is not None]
        assert any(gradient.any() for gradient in gradients), role
        assert all(gradient.isfinite().all() for gradient in gradients), role


def test_position_tokens_learn_halfway_how_objects_stand(batch):
    torch.manual_seed(0)
    models = {role: build_model(raw) for role, raw in {**ENCODERS, "flow": FLOW}.items()}
    config = SceneFlowConfig(**ALWAYS, trans_weight=0.0, rot_weight=0.0, scale_weight=0.0)
    objective = SceneFlowObjective(**models, config=config)
    loss, logs = objective(batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert logs["camera_axes"] > 0 and models["flow"].position_token.grad.any()
    assert not any(p.grad is not None and p.grad.any() for p in models["flow"].position_head.parameters())


def test_the_probe_teaches_the_image_encoder_where_patches_lie(batch):
    torch.manual_seed(0)
    encoders = {role: build_model(raw) for role, raw in ENCODERS.items()}
    objective = SceneFlowObjective(Recorder(batch.poses), **encoders, config=SceneFlowConfig(**ALWAYS))
    batch.object_points[:, 3] = 1.0
    parameters = [*encoders["image_encoder"].parameters(), *objective.probes.parameters()]
    optimizer = torch.optim.Adam(parameters, 3e-3)
    history = []
    for _ in range(60):
        loss, logs = objective(batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append((float(logs["points"]), float(logs["depth"])))
    assert history[-1][0] < 0.5 * history[0][0] and history[-1][1] < 0.5 * history[0][1]
