"""The flow of single objects: what its loss counts, how it is sampled, and that scene flows start from it."""

import pytest
import torch

from scenegen.conditioning.patch_places import PLACE_CHANNELS
from scenegen.models.registry import build_model
from scenegen.synthesis.sources.batch import ObjectLatentBatch
from scenegen.trainers.finetune import load_what_fits, start_scene_attention
from scenegen.trainers.objectives.object_flow import ObjectFlowConfig, ObjectFlowObjective
from trellis_modules.samplers import SamplingParams

WIDTH = 32
FLOW = {
    "resolution": 4, "in_channels": 2, "out_channels": 2, "model_channels": WIDTH,
    "cond_channels": WIDTH + PLACE_CHANNELS, "num_blocks": 2, "num_heads": 2, "patch_size": 2,
    "qk_rms_norm": True, "share_mod": True,
}  # fmt: skip
ENCODER = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": 1, "num_heads": 2}


def flow(**more):
    return build_model({"name": "SparseStructureFlowModel", "args": FLOW | more})


@pytest.fixture
def objective() -> ObjectFlowObjective:
    torch.manual_seed(0)
    encoder = build_model({"name": "VisionTransformer", "args": ENCODER})
    objective = ObjectFlowObjective(flow(), encoder, ObjectFlowConfig(draws=2, append_places=True))
    torch.nn.init.normal_(objective.flow.out_layer.weight, std=0.1)
    return objective


@pytest.fixture
def batch() -> ObjectLatentBatch:
    torch.manual_seed(1)
    return ObjectLatentBatch(
        asset_image=torch.rand(3, 3, 32, 32),
        mask_image=(torch.rand(3, 1, 32, 32) > 0.5).float(),
        object_points=torch.rand(3, 4, 8, 8),
        visible=torch.tensor([True, True, False]),
        x_0=torch.randn(3, 2, 4, 4, 4),
    )


def test_loss_reaches_both_networks_and_the_probe(objective, batch):
    loss, logs = objective(batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert set(logs) == {"mse", "mse_blind", "points"} and logs["mse"] > 0
    for network in objective.children():
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_parts_of_patches_are_told_where_they_lie(batch):
    torch.manual_seed(0)
    encoder = build_model({"name": "VisionTransformer", "args": ENCODER})
    objective = ObjectFlowObjective(flow(), encoder, ObjectFlowConfig(points_per_edge=2))
    probe = objective.probes["points"]
    torch.nn.init.zeros_(probe.weight)
    places = torch.rand(3, 3, 2, 2)  # where the quarters of every patch are said to lie
    probe.bias.data = places[0].flatten()
    points = torch.cat([places[:1].repeat(3, 1, 4, 4), torch.ones(3, 1, 8, 8)], 1)
    known = ObjectLatentBatch(**{**vars(batch), "object_points": points})
    assert objective.points_error(objective.encode(known), known) < 1e-6


def test_what_is_hardly_seen_does_not_count(objective, batch):
    changed = ObjectLatentBatch(
        **{**vars(batch), "x_0": batch.x_0 + torch.tensor([0, 0, 9.0]).view(3, 1, 1, 1, 1)}
    )
    errors = [objective(each, torch.Generator().manual_seed(0))[1]["mse"] for each in (batch, changed)]
    torch.testing.assert_close(*errors)


def test_sampling_follows_the_picture_and_the_generator(objective, batch):
    objective.eval()
    params = SamplingParams(steps=2, cfg_strength=2.0)

    def sample(of, seed=0):
        return objective.sample_latents(of, torch.Generator().manual_seed(seed), params)

    first = sample(batch)
    assert first.shape == batch.x_0.shape and torch.equal(first, sample(batch))
    other = ObjectLatentBatch(**{**vars(batch), "asset_image": batch.asset_image.flip(0)})
    assert not torch.allclose(first, sample(other)) and not torch.allclose(first, sample(batch, 1))


def test_a_scene_flow_starts_from_it(objective):
    scenes = flow(use_global=True, trunk_depth=1, num_iteration=1)
    loaded = load_what_fits(scenes, objective.flow.state_dict(), "start")
    assert not loaded.unused and not loaded.misshapen
    copied = start_scene_attention(scenes, except_for=loaded.taken)
    assert copied
    torch.testing.assert_close(
        scenes.blocks[1].global_attn.to_out.weight, objective.flow.blocks[1].self_attn.to_out.weight
    )
