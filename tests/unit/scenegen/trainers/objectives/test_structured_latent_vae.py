"""The structured-latent VAE's objective, and the latent statistics folded into its weights."""

import pytest
import torch

from scenegen.synthesis.shapes.voxel_fields import PaintedFields, voxel_features
from scenegen.synthesis.sources.batch import FieldBatch
from scenegen.trainers.objectives.structured_latent_vae import (
    StructuredLatentVaeConfig,
    StructuredLatentVaeObjective,
    child_corners,
    fold_latent_statistics,
)
from trellis_modules.models import build_model
from trellis_modules.sparse import SparseTensor

SIZES = {
    "resolution": 8, "model_channels": 32, "latent_channels": 3, "num_blocks": 1, "num_heads": 2,
    "window_size": 4,
}  # fmt: skip
GAUSSIANS = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 2, "2d_filter_kernel_size": 0.1,
    "3d_filter_kernel_size": 0.0009, "scaling_bias": 0.03, "opacity_bias": 0.95,
    "scaling_activation": "softplus",
}  # fmt: skip


def network(name: str, **args):
    return build_model({"name": name, "args": SIZES | args})


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return (
        network("SLatEncoder", in_channels=120),
        network("SLatGaussianDecoder", representation_config=GAUSSIANS),
        network("SLatMeshDecoder", upsample_channels=[32], representation_config={"use_color": True}),
    )


@pytest.fixture
def batch():
    """Two objects, each a coloured horizontal sheet in the middle of a layer of voxels."""
    side = torch.arange(1, 7)
    plane = torch.cartesian_prod(torch.arange(2), side, side, torch.tensor([4])).int()
    height = torch.arange(27) % 3  # z fastest
    distance = (height - 1.0).abs().expand(len(plane), 27)
    colours = torch.tensor([[0.9, 0.2, 0.1], [0.1, 0.3, 0.8]])[plane[:, 0].long()]
    normal = torch.zeros(len(plane), 27, 3)
    normal[..., 2] = (height - 1.0).sign()
    offset = torch.tensor([[-0.25, 0.0, 0.0], [0.25, 0.0, 0.0]]).expand(len(plane), 2, 3)
    painted = [colours[:, None].expand(-1, count, -1) for count in (27, 2)]
    return FieldBatch(PaintedFields(plane, distance, painted[0], offset, painted[1]), normal)


def train(task, batch, steps: int) -> list[dict]:
    """The logs of each step."""
    optimizer = torch.optim.AdamW(task.parameters(), 1e-2)
    history = []
    for step in range(steps):
        loss, logs = task(batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(logs)
    return history


def test_training_lowers_every_term_and_the_decoders_give_the_sheet_in_its_colours(networks, batch):
    history = train(StructuredLatentVaeObjective(*networks, StructuredLatentVaeConfig()), batch, 40)
    for name in ("distance", "colour", "normal", "place", "gaussian_colour"):
        assert history[-1][name] < 0.5 * history[0][name], name
    encoder, decoder_gs, decoder_mesh = (network.eval() for network in networks)
    x = SparseTensor(voxel_features(batch.fields), batch.fields.coords)
    with torch.no_grad():
        latents = encoder(x, sample_posterior=False)
        red, blue = decoder_mesh(latents)
        gaussian = decoder_gs(latents)[0]
    assert red.success and blue.success
    sheet, cell = 4.5 / 8 - 0.5, 1 / 16
    assert (red.vertices[:, 2] - sheet).abs().max() < 1.5 * cell
    assert red.vertex_attrs[:, 0].mean() - blue.vertex_attrs[:, 0].mean() > 0.3
    assert gaussian.opacity.mean() > 0.9


def test_cubes_of_a_voxel_know_their_corners():
    corners = child_corners(1, torch.device("cpu"))
    assert corners[0].tolist() == [0, 9, 3, 12, 1, 10, 4, 13]  # x fastest in a cube, z fastest in the lattice
    assert corners[-1, -1] == 26
    finer = child_corners(2, torch.device("cpu"))
    assert finer.shape == (64, 8) and finer.max() == 124
    assert finer[8, 0] == 2  # the second octant of a voxel starts at z = 2


def test_weights_multiply_their_terms(networks, batch):
    weights = {"distance": 2.0, "colour": 0.0, "normal": 0.5, "place": 0.0, "gaussian_colour": 3.0, "kl": 0.1}
    task = StructuredLatentVaeObjective(*networks, StructuredLatentVaeConfig(**weights, unused=0.0))
    total, logs = task(batch, torch.Generator().manual_seed(0))
    assert total.item() == pytest.approx(sum(w * float(logs[name]) for name, w in weights.items()), rel=1e-5)


def test_folding_the_statistics_leaves_reconstructions_as_they_are(networks, batch):
    StructuredLatentVaeObjective(*networks, StructuredLatentVaeConfig())  # an encoder that tells something
    encoder, *decoders = (network.requires_grad_(False) for network in networks)
    for decoder in decoders:
        torch.nn.init.normal_(decoder.out_layer.weight, std=0.2)
    x = SparseTensor(voxel_features(batch.fields), batch.fields.coords)

    def reconstruct():
        sample = encoder(x, generator=torch.Generator().manual_seed(7))
        return [decoder.features(sample).feats for decoder in decoders]

    before, latents = reconstruct(), encoder(x, sample_posterior=False).feats
    spread = fold_latent_statistics(encoder, decoders, latents)
    torch.testing.assert_close(spread, latents.std(0, unbiased=False))
    torch.testing.assert_close(reconstruct(), before, rtol=1e-3, atol=1e-3)
    after = encoder(x, sample_posterior=False).feats
    torch.testing.assert_close(after.mean(0), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(after.std(0, unbiased=False), torch.ones(3), rtol=1e-3, atol=0)


def test_an_encoder_that_was_loaded_keeps_its_weights(networks):
    torch.nn.init.ones_(networks[0].out_layer.weight)
    StructuredLatentVaeObjective(*networks, StructuredLatentVaeConfig())
    assert (networks[0].out_layer.weight == 1).all() and not networks[0].out_layer.bias.any()
