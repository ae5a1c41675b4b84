"""What snapshots decode latents with, by the arguments of the data set."""

import torch

from scenegen.datasets.normalization import Normalization, normalised_latents
from scenegen.datasets.scene_set import SceneSetConfig
from scenegen.models.registry import build_model
from scenegen.trainers.watching import snapshot_decoder
from trellis_modules.checkpoint import save_checkpoint

DECODER = {"name": "SparseStructureDecoder", "args": {
    "out_channels": 1, "latent_channels": 2, "num_res_blocks": 1, "num_res_blocks_middle": 1,
    "channels": [32]}}  # fmt: skip


def test_latents_are_decoded_as_they_were_before_they_were_normalised(tmp_path):
    torch.manual_seed(0)
    decoder, latents = build_model(DECODER).eval(), torch.randn(1, 2, 4, 4, 4)
    save_checkpoint(decoder, tmp_path / "decoder", torch.float32)
    normalization = Normalization((1.0, -2.0), (2.0, 0.5))
    reference = str(tmp_path / "decoder")
    settings = SceneSetConfig(latent_model="any", pretrained_ss_dec=reference, normalization=normalization)
    logits = snapshot_decoder(settings)(normalised_latents(latents, normalization, dim=1))
    with torch.no_grad():
        torch.testing.assert_close(logits, decoder(latents))


def test_a_decoder_that_is_not_there_leaves_voxels_out_and_tells(tmp_path, caplog):
    settings = SceneSetConfig(latent_model="any", pretrained_ss_dec=str(tmp_path / "none"))
    assert snapshot_decoder(settings) is None
    assert "snapshots do not show what latents are" in caplog.text and "expected a network" in caplog.text
    assert snapshot_decoder(object()) is None, "data without structure latents"
