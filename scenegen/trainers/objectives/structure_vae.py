"""Objective of the sparse-structure VAE: occupancy grids through a compact latent grid and back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scenegen.datasets.batch import ShapeBatch
from scenegen.datasets.source import BatchSource
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.losses import dice_loss, kl_divergence, occupancy_iou

logger = logging.getLogger(__name__)


_RECONSTRUCTION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": F.binary_cross_entropy_with_logits,
    "l1": lambda logits, target: F.l1_loss(logits.sigmoid(), target),
    "dice": dice_loss,
}


@dataclass(frozen=True)
class StructureVaeConfig:
    """Weights of the terms, and what the decoder must put up with.

    Attributes:
        loss_type: the difference of structures, which counts once: "bce" of logits, "l1" of probabilities, or
            "dice".
        lambda_bce: weight of "bce" beside it.
        lambda_kl: weight of the latents' divergence from unit noise.
        latent_noise: largest spread of the noise in the latents that are decoded, even up to it: a flow model
            does not give them exactly.
    """

    loss_type: str = "bce"
    lambda_bce: float = 0.0
    lambda_kl: float = 1e-6
    latent_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.loss_type not in _RECONSTRUCTION_LOSSES:
            raise ValueError(
                f"loss_type: expected one of {sorted(_RECONSTRUCTION_LOSSES)}, got {self.loss_type!r}"
            )


class StructureVaeObjective(Objective):
    """Trains ``encoder`` and ``decoder`` on shapes.

    With a frozen encoder the latents stay what they are, and so do the flow models made for them.
    """

    batch_type = ShapeBatch

    def __init__(self, encoder: nn.Module, decoder: nn.Module, config: StructureVaeConfig) -> None:
        super().__init__()
        self.encoder, self.decoder, self.config = encoder, decoder, config

    def forward(self, batch: ShapeBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction and KL terms; logs the intersection over union of the reconstruction."""
        target = batch.occupancy.float()
        posterior = self.encoder.posterior(target, sample_posterior=True, generator=generator)
        logits = self.decoder(self._disturbed(posterior.z.float(), generator)).float()
        chosen = self.config.loss_type
        terms = {
            chosen: _RECONSTRUCTION_LOSSES[chosen](logits, target),
            "bce": F.binary_cross_entropy_with_logits(logits, target),
            "kl": kl_divergence(posterior.mean.float(), posterior.logvar.float()),
        }
        loss = terms[chosen] + self.config.lambda_bce * terms["bce"] + self.config.lambda_kl * terms["kl"]
        logs = {name: term.detach() for name, term in terms.items()}
        return loss, {**logs, "iou": occupancy_iou(logits.detach(), target)}

    def _disturbed(self, z: Tensor, generator: torch.Generator) -> Tensor:
        if not self.config.latent_noise:
            return z
        spread = torch.rand(len(z), 1, 1, 1, 1, generator=generator, device=z.device)
        noise = torch.randn(z.shape, generator=generator, device=z.device)
        return z + self.config.latent_noise * spread * noise

    @torch.no_grad()
    def finish(self, source: BatchSource[ShapeBatch], step: int) -> None:
        """Give the latents unit spread, measured on the batch of ``step``, unless the encoder is frozen."""
        if not any(parameter.requires_grad for parameter in self.encoder.parameters()):
            return
        latents = self.encoder(source.batch(step).occupancy.float())
        spread = fold_latent_scale(self.encoder, self.decoder, latents)
        logger.info("latent spread folded into the weights: %s", [round(s, 3) for s in spread.tolist()])


@torch.no_grad()
def fold_latent_scale(encoder: nn.Module, decoder: nn.Module, latents: Tensor) -> Tensor:
    """Rescale the two networks so that each latent channel has unit spread; reconstructions stay the same.

    The flow model starts from unit noise, and a spread folded into the weights needs no file of statistics.

    Args:
        encoder, decoder: a trained pair, changed in place (last and first convolution).
        latents: (K, C, r, r, r) posterior means.

    Returns:
        (C,) the root mean squares that were folded in.
    """
    spread = latents.float().pow(2).mean((0, 2, 3, 4)).sqrt()
    last, first = encoder.out_layer[-1], decoder.input_layer
    channels = len(spread)
    last.weight[:channels] /= spread.view(-1, 1, 1, 1, 1)
    last.bias[:channels] /= spread
    last.bias[channels:] -= 2 * spread.log()  # the log variance shrinks with the square of the scale
    first.weight *= spread.view(1, -1, 1, 1, 1)
    return spread
