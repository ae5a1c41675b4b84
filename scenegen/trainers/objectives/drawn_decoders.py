"""Objectives of decoders of structured latents that learn from pictures: Gaussians and radiance fields.

Source: TRELLIS, arXiv:2412.01506, sec. 3.2 and its appendix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from scenegen.datasets.batch import SparseViewBatch
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.losses import kl_divergence
from scenegen.trainers.objectives.picture_loss import PictureLoss, PictureLossSettings
from trellis_modules.renderers import Rendering, render_gaussians, render_octree
from trellis_modules.representations.gaussian import Gaussian
from trellis_modules.sparse import SparseTensor

_REGULARIZATIONS = ("lambda_vol", "lambda_opacity")

Draw = Callable[..., Rendering]


@dataclass(frozen=True, kw_only=True)
class SLatVaeGaussianSettings(PictureLossSettings):
    """Settings of the autoencoder with Gaussians.

    Attributes:
        lambda_kl: weight of the latents' divergence from unit noise.
        regularizations: ``lambda_vol``, weight of the mean volume of the Gaussians, and ``lambda_opacity``,
            of how far they are from opaque; 0 where left out.
    """

    lambda_kl: float = 1e-6
    regularizations: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := sorted(self.regularizations.keys() - set(_REGULARIZATIONS)):
            raise ValueError(
                f"regularizations: expected {' and '.join(_REGULARIZATIONS)}, got {unknown[0]!r}"
            )


class SLatVaeGaussianObjective(Objective):
    """Trains ``encoder`` and ``decoder``: features at voxels to latents, and these to Gaussians."""

    batch_type = SparseViewBatch

    def __init__(self, encoder: nn.Module, decoder: nn.Module, config: SLatVaeGaussianSettings) -> None:
        super().__init__()
        self.encoder, self.decoder, self.config = encoder, decoder, config
        self._picture_loss = PictureLoss(config)

    def forward(self, batch: SparseViewBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Pictures before a random background, divergence, and the shapes of the Gaussians."""
        posterior = self.encoder.posterior(
            SparseTensor(batch.feats, batch.coords), sample_posterior=True, generator=generator
        )
        objects = self.decoder(posterior.z)
        loss, logs = drawn_loss(self._picture_loss, render_gaussians, objects, batch, generator)
        kl = kl_divergence(posterior.mean.feats.float(), posterior.logvar.feats.float())
        terms = {"kl": kl, **gaussian_terms(objects)}
        weights = {"kl": self.config.lambda_kl} | {
            name.removeprefix("lambda_"): weight for name, weight in self.config.regularizations.items()
        }
        loss = loss + sum(weight * terms[name] for name, weight in weights.items())
        return loss, {**logs, **{name: term.detach() for name, term in terms.items()}}


class SLatRadianceFieldObjective(Objective):
    """Trains ``decoder``: latents to radiance fields."""

    batch_type = SparseViewBatch

    def __init__(self, decoder: nn.Module, config: PictureLossSettings) -> None:
        super().__init__()
        self.decoder, self.config = decoder, config
        self._picture_loss = PictureLoss(config)

    def forward(self, batch: SparseViewBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Pictures before a random background."""
        objects = self.decoder(SparseTensor(batch.feats, batch.coords))
        return drawn_loss(self._picture_loss, render_octree, objects, batch, generator)


def drawn_loss(
    picture_loss: PictureLoss,
    draw: Draw,
    objects: Sequence[object],
    batch: SparseViewBatch,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Differences of drawn and true pictures (B, 3, H, W), each pair before a background of its own."""
    background = torch.rand(len(objects), 3, 1, 1, generator=generator, device=batch.image.device)
    drawn = []
    for row, item in enumerate(objects):
        seen = draw(item, batch.extrinsics[row, None], batch.intrinsics[row], batch.image.shape[-2:])
        colour = seen.colour[0].permute(2, 0, 1)
        drawn.append(colour + (1 - seen.alpha) * background[row])
    true = batch.image + (1 - batch.alpha[:, None]) * background
    return picture_loss(torch.stack(drawn), true)


def gaussian_terms(objects: Sequence[Gaussian]) -> dict[str, Tensor]:
    """Mean volume (product of the three sizes), and mean square of what is lacking to opacity 1."""
    sizes = torch.cat([item.scaling for item in objects])
    opacity = torch.cat([item.opacity for item in objects])
    return {"vol": sizes.prod(dim=1).mean(), "opacity": (opacity - 1).square().mean()}
