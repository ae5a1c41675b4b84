"""The structure VAE's objective, and the scale folded into its weights."""

import pytest
import torch

from scenegen.datasets.batch import ShapeBatch
from scenegen.trainers.objectives.structure_vae import (
    StructureVaeConfig,
    StructureVaeObjective,
    fold_latent_scale,
)
from trellis_modules.models.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder

CHANNELS = 3


@pytest.fixture
def networks():
    torch.manual_seed(0)
    shape = {"latent_channels": CHANNELS, "num_res_blocks": 1, "num_res_blocks_middle": 1}
    encoder = SparseStructureEncoder(in_channels=1, channels=(8, 16), **shape)
    return encoder, SparseStructureDecoder(out_channels=1, channels=(16, 8), **shape)


@pytest.fixture
def boxes():
    """(4, 1, 8, 8, 8) bool, solid boxes of different sizes."""
    grid = torch.zeros(4, 1, 8, 8, 8, dtype=torch.bool)
    for number, box in enumerate(grid):
        box[0, 1 : 3 + number, 2:7, : 4 + number] = True
    return grid


def objective(networks, **weights):
    return StructureVaeObjective(*networks, StructureVaeConfig(**weights))


def test_training_lowers_the_loss(networks, boxes):
    task = objective(networks, loss_type="dice", lambda_bce=5.0)
    parameters = list(task.parameters())
    optimizer = torch.optim.AdamW(parameters, 3e-3)
    losses = []
    for step in range(40):
        loss, logs = task(ShapeBatch(boxes), torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        assert step or all(p.grad is not None for p in parameters)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
    assert logs["iou"] > 0.7 and logs.keys() == {"dice", "bce", "kl", "iou"}


def test_weights_multiply_their_terms(networks, boxes):
    def loss(**weights):
        return objective(networks, **weights)(ShapeBatch(boxes), torch.Generator().manual_seed(0))

    total, logs = loss(loss_type="dice", lambda_bce=2.0, lambda_kl=0.5)
    assert total.item() == pytest.approx(float(logs["dice"] + 2 * logs["bce"] + 0.5 * logs["kl"]))
    for kind in ("dice", "bce", "l1"):
        value, logs = loss(loss_type=kind, lambda_kl=0.0)
        assert value.item() == pytest.approx(float(logs[kind]))


def test_unknown_differences_are_refused():
    with pytest.raises(ValueError, match="loss_type: expected one of .*'dice'.*, got 'mse'"):
        StructureVaeConfig(loss_type="mse")


def test_folding_the_latent_scale_leaves_reconstructions_as_they_are(networks, boxes):
    encoder, decoder = (network.requires_grad_(False) for network in networks)
    occupancy = boxes.float()

    def reconstruct():
        sample = encoder(occupancy, sample_posterior=True, generator=torch.Generator().manual_seed(7))
        return decoder(encoder(occupancy)), decoder(sample)

    before, latents = reconstruct(), encoder(occupancy)
    spread = fold_latent_scale(encoder, decoder, latents)
    torch.testing.assert_close(spread, latents.pow(2).mean((0, 2, 3, 4)).sqrt())
    assert not torch.allclose(spread, torch.ones(CHANNELS), atol=0.1)
    torch.testing.assert_close(reconstruct(), before, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(encoder(occupancy).pow(2).mean((0, 2, 3, 4)), torch.ones(CHANNELS))


def test_noise_in_the_latents_reaches_the_decoder_alone(networks, boxes):
    def terms(**options):
        torch.manual_seed(0)
        return objective(networks, **options)(ShapeBatch(boxes), torch.Generator().manual_seed(0))[1]

    clean, noisy = terms(), terms(latent_noise=20.0)
    assert float(clean["kl"]) == float(noisy["kl"]) and float(clean["bce"]) != float(noisy["bce"])


def test_a_frozen_encoder_keeps_its_scale(networks, boxes):
    encoder, decoder = networks
    source = type("Source", (), {"batch": lambda self, step: ShapeBatch(boxes)})()
    encoder.requires_grad_(False)
    before = {name: value.clone() for name, value in (encoder.state_dict() | decoder.state_dict()).items()}
    objective(networks).finish(source, 0)
    assert all(torch.equal(v, before[n]) for n, v in (encoder.state_dict() | decoder.state_dict()).items())
    encoder.requires_grad_(True)
    objective(networks).finish(source, 0)
    assert not torch.equal(encoder.state_dict()["out_layer.2.weight"], before["out_layer.2.weight"])
