"""The structured-latent flow's objective."""

from dataclasses import replace

import pytest
import torch

from scenegen.conditioning.scene_conditioner import PATCH_DETAILS
from scenegen.conditioning.scene_light import LIGHT_TONES, light_tones
from scenegen.synthesis.sources.batch import LatentPictureBatch
from scenegen.trainers.objectives.structured_latent_flow import (
    StructuredLatentFlowConfig,
    StructuredLatentFlowObjective,
)
from trellis_modules.models import build_model
from trellis_modules.samplers.flow_matching import TimeSchedule
from vggt.layers.vision_transformer import VisionTransformer

WIDTH, IMAGE_SIZE = 32, 28
STEPS = 40  # after which a network that sees the light knows colours


@pytest.fixture
def task():
    torch.manual_seed(0)
    flow = build_model({"name": "SLatFlowModel", "args": {
        "resolution": 8, "in_channels": 3, "out_channels": 3, "model_channels": WIDTH, "cond_channels": WIDTH,
        "num_blocks": 1, "num_heads": 2, "patch_size": 2, "num_io_res_blocks": 2, "io_block_channels": [16],
        "qk_rms_norm": True, "share_mod": True}})  # fmt: skip
    encoder = VisionTransformer(
        img_size=IMAGE_SIZE, patch_size=14, embed_dim=WIDTH, depth=1, num_heads=2, num_register_tokens=4
    )
    return StructuredLatentFlowObjective(flow, encoder, StructuredLatentFlowConfig())


@pytest.fixture
def batch():
    """Latents that are the colour of the picture."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(3, 3, generator=generator)
    occupied = torch.rand(3, 8, 8, 8, generator=generator) < 0.1
    coords = occupied.nonzero().int()
    pictures = colours[:, :, None, None].expand(-1, -1, IMAGE_SIZE, IMAGE_SIZE)
    from_front = torch.tensor([[2.0, 0, 0, 0], [0, 0, -2, 0], [0, 1, 0, 2]]).expand(3, -1, -1)
    latents = 4 * colours[coords[:, 0].long()] - 2
    return LatentPictureBatch(pictures, coords, latents, from_front, torch.zeros(3, LIGHT_TONES))


def test_training_lowers_the_loss_and_leaves_the_image_encoder_alone(task, batch):
    frozen = {name: value.clone() for name, value in task.image_encoder.state_dict().items()}
    trained = [p for p in task.parameters() if p.requires_grad]
    assert len(trained) == len(list(task.flow.parameters()))
    optimizer = torch.optim.AdamW(trained, 3e-3)
    losses = []
    for step in range(40):
        loss, logs = task(batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert logs.keys() == {"mse", "mse_near_noise"}
    for name, value in task.image_encoder.state_dict().items():
        assert torch.equal(value, frozen[name])


def test_a_withheld_picture_makes_no_difference(task, batch):
    task.config = StructuredLatentFlowConfig(p_uncond=1.0)
    torch.nn.init.normal_(task.flow.out_layer.weight, std=0.1)
    losses = [
        task(replace(batch, asset_image=pictures), torch.Generator().manual_seed(0))[0]
        for pictures in (batch.asset_image, batch.asset_image.flip(0))
    ]
    assert losses[0] == losses[1]


def test_voxels_learn_where_in_the_crop_they_lie(task, batch):
    config = StructuredLatentFlowConfig(p_uncond=0.0, place_weight=1.0)
    task = StructuredLatentFlowObjective(task.flow, task.image_encoder, config)
    trained = [p for p in task.parameters() if p.requires_grad]
    assert len(trained) == len(list(task.flow.parameters())) + len(list(task.probe.parameters()))
    optimizer = torch.optim.AdamW(trained, 2e-2)
    errors = []
    for step in range(60):
        loss, logs = task(batch, torch.Generator().manual_seed(step))
        torch.testing.assert_close(loss.detach(), logs["mse"] + logs["places"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(logs["places"].item())
    assert errors[-1] < 0.7 * errors[0]


def test_places_of_objects_without_picture_do_not_count(task, batch):
    config = StructuredLatentFlowConfig(p_uncond=1.0, place_weight=1.0)
    task = StructuredLatentFlowObjective(task.flow, task.image_encoder, config)
    assert task(batch, torch.Generator().manual_seed(0))[1]["places"] == 0


def test_colours_of_the_picture_reach_the_flow(task, batch):
    flow = build_model({"name": "SLatFlowModel", "args": {
        "resolution": 8, "in_channels": 3, "out_channels": 3, "model_channels": WIDTH,
        "cond_channels": WIDTH + PATCH_DETAILS, "num_blocks": 1, "num_heads": 2, "patch_size": 2,
        "io_block_channels": [16], "share_mod": True}})  # fmt: skip
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    image_encoder = task.image_encoder
    torch.nn.init.zeros_(image_encoder.patch_embed.proj.weight)  # its tokens say nothing
    config = StructuredLatentFlowConfig(p_uncond=0.0, patch_grid=2)
    task = StructuredLatentFlowObjective(flow, image_encoder, config)
    losses = [
        task(replace(batch, asset_image=pictures), torch.Generator().manual_seed(0))[0]
        for pictures in (batch.asset_image, batch.asset_image.flip(0))
    ]
    assert losses[0] != losses[1]


def _in_any_light(count: int, generator: torch.Generator) -> LatentPictureBatch:
    """Grey cubes at a white wall, in light of any strength: latents are the grey, not what is seen."""
    grey, light = torch.rand(2, count, 1, 1, 1, generator=generator) * 0.8 + 0.2
    photo = light.expand(-1, 3, IMAGE_SIZE, IMAGE_SIZE).clone()
    mask = torch.zeros(count, 1, IMAGE_SIZE, IMAGE_SIZE)
    mask[..., 10:20, 5:15] = 1
    photo = torch.where(mask > 0, grey * light, photo)
    crop = (grey * light).expand(-1, 3, IMAGE_SIZE, IMAGE_SIZE)
    coords = torch.cartesian_prod(torch.arange(count), *[torch.arange(3, 4)] * 3).int()
    latents = (6 * grey.flatten() - 3.6)[coords[:, 0].long(), None].expand(-1, 3)
    projection = torch.tensor([[2.0, 0, 0, 0], [0, 0, -2, 0], [0, 1, 0, 2]]).expand(count, -1, -1)
    return LatentPictureBatch(crop, coords, latents, projection, light_tones(photo, mask))


def _error_after_training(task: StructuredLatentFlowObjective, is_lit: bool) -> float:
    torch.manual_seed(0)
    channels = WIDTH + PATCH_DETAILS + (LIGHT_TONES if is_lit else 0)
    flow = build_model({"name": "SLatFlowModel", "args": {
        "resolution": 8, "in_channels": 3, "out_channels": 3, "model_channels": WIDTH, "patch_size": 2,
        "cond_channels": channels, "num_blocks": 1, "num_heads": 2, "io_block_channels": [16],
        "input_skip": True, "share_mod": True}})  # fmt: skip
    times = TimeSchedule("logitNormal", 4.0, 0.5)  # the state shows nothing
    config = StructuredLatentFlowConfig(times, p_uncond=0.0, patch_grid=2, light=is_lit)
    task = StructuredLatentFlowObjective(flow, task.image_encoder, config)
    optimizer = torch.optim.AdamW(flow.parameters(), 1e-2)
    errors = []
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        loss, logs = task(_in_any_light(12, generator), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(logs["mse"].item())
    return sum(errors[-8:]) / 8


def test_colours_without_light_are_learnt_where_the_photo_tells_the_light(task):
    dark, lit = (_error_after_training(task, is_lit) for is_lit in (False, True))
    assert lit < 0.5 * dark
