"""Objective of the structured-latent VAE: fields at surface voxels through a few numbers a voxel and back.

The released networks learn from pictures of their output. Here the surfaces are at hand, so the decoders are
told what to put out: distances and colours at the corners of the mesh decoder's cubes, places and colours of
the Gaussians. That takes minutes instead of days.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from scenegen.datasets.source import BatchSource
from scenegen.synthesis.shapes.voxel_fields import MAX_DISTANCE, PaintedFields, voxel_features
from scenegen.synthesis.sources.batch import FieldBatch
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.losses import kl_divergence
from trellis_modules.models import (
    SLatEncoder,
    SLatGaussianDecoder,
    SLatMeshDecoder,
    StructuredLatentTrunk,
)
from trellis_modules.renderers.spherical_harmonics import sh_to_rgb
from trellis_modules.representations.mesh.cube_grid import corner_offsets
from trellis_modules.representations.mesh.sparse_features_to_mesh import CubeFeatures
from trellis_modules.sparse import SparseSubdivide, SparseTensor

logger = logging.getLogger(__name__)

#: Half the thickness of the shell that is learnt, in cubes. Where two corners of a cube lie on both sides of
#: the surface, one of them is within half a cube: a smaller shell would have holes.
SHELL_RADIUS = 0.75

_INITIAL_LOG_VARIANCE = -5.0


@dataclass(frozen=True)
class StructuredLatentVaeConfig:
    """Weights of the terms."""

    distance: float = 1.0  # in cubes
    colour: float = 4.0
    normal: float = 0.2
    place: float = 3.0  # of the Gaussians, in voxels
    gaussian_colour: float = 3.0
    unused: float = 0.01  # outputs that have no target and stay near 0
    kl: float = 1e-2  # strong: a flow does not hit latents exactly, decoders must bear it


@lru_cache
def child_corners(levels: int, device: torch.device) -> Tensor:
    """Which corners of the lattice inside a voxel each cube has that it is split into.

    Args:
        levels: how often the voxel is halved.
        device: of the result.

    Returns:
        (8^levels, 8) int64: cubes in the order in which ``SparseSubdivide`` leaves them, corners numbered
        with z fastest.
    """
    cube = SparseTensor(torch.zeros(1, 1, device=device), torch.zeros(1, 4, dtype=torch.int32, device=device))
    for _ in range(levels):
        cube = SparseSubdivide()(cube)
    edge = 2**levels + 1
    corners = cube.coords[:, None, 1:] + corner_offsets(device)
    return (corners * torch.tensor([edge**2, edge, 1], device=device)).sum(-1)


@torch.no_grad()
def _start_with_clear_latents(encoder: SLatEncoder) -> None:
    """Let a new encoder, whose output is zero, tell something from the first step on, with little noise."""
    means, _ = encoder.out_layer.weight.chunk(2)
    nn.init.normal_(means, std=means.shape[1] ** -0.5)
    encoder.out_layer.bias[len(means) :] = _INITIAL_LOG_VARIANCE


def _start_without_attention(network: StructuredLatentTrunk) -> None:
    """Let the blocks of a new network pass voxels on unchanged at first, each by itself.

    Random attention between voxels hides what a voxel holds: with it the first hundreds of steps are lost.
    """
    for block in network.blocks:
        for layer in (block.attn.to_out, block.mlp.mlp[-1]):
            nn.init.zeros_(layer.weight)


def _encoder_input(batch: FieldBatch) -> SparseTensor:
    return SparseTensor(voxel_features(batch.fields), batch.fields.coords)


def _mean_where(error: Tensor, where: Tensor) -> Tensor:
    """Mean of (..., D) errors over the true entries of (...)."""
    weight = where.to(error.dtype)
    return (error.mean(-1) * weight).sum() / weight.sum().clamp(min=1)


class StructuredLatentVaeObjective(Objective):
    """Trains ``encoder``, ``decoder_gs`` and ``decoder_mesh`` on painted voxel fields.

    These are given at the corners of the mesh decoder's cubes and at one anchor for each Gaussian of a voxel.
    """

    batch_type = FieldBatch

    def __init__(
        self,
        encoder: SLatEncoder,
        decoder_gs: SLatGaussianDecoder,
        decoder_mesh: SLatMeshDecoder,
        config: StructuredLatentVaeConfig,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder_gs, self.decoder_mesh = encoder, decoder_gs, decoder_mesh
        self.config = config
        if not encoder.out_layer.weight.any():  # new networks, not loaded ones
            _start_with_clear_latents(encoder)
            for network in self.networks.values():
                _start_without_attention(network)

    def forward(self, batch: FieldBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted errors of both decoders and the KL term; logs the unweighted ones."""
        x = _encoder_input(batch)
        posterior = self.encoder.posterior(x, sample_posterior=True, generator=generator)
        terms = {
            **self._mesh_terms(posterior.z, batch),
            **self._gaussian_terms(posterior.z, batch.fields),
            "kl": kl_divergence(posterior.mean.feats.float(), posterior.logvar.feats.float()),
        }
        unused = terms.pop("unused_mesh") + terms.pop("unused_gaussians")
        terms["unused"] = unused
        loss = sum(getattr(self.config, name) * term for name, term in terms.items())
        return loss, {name: term.detach() for name, term in terms.items()}

    def _mesh_terms(self, z: SparseTensor, batch: FieldBatch) -> dict[str, Tensor]:
        """Errors at the corners of all cubes; colours and normals count where a distance is known."""
        output = self.decoder_mesh.features(z)
        cubes = CubeFeatures.split(output.feats.float(), use_color=True, sdf_bias=0.0)
        sdf, deform, colour, normal = cubes.corners.split([1, 3, 3, 3], dim=-1)
        corners = child_corners(len(self.decoder_mesh.upsample), z.device)
        distance = batch.fields.distance[:, corners].flatten(0, 1)  # (cubes, 8)
        near = distance < MAX_DISTANCE
        colour_target = batch.fields.colour[:, corners].flatten(0, 1)
        normal_target = 0.5 + 0.5 * batch.normal[:, corners].flatten(0, 1)
        return {
            "distance": (sdf[..., 0] - (distance - SHELL_RADIUS)).abs().mean(),
            "colour": _mean_where((colour.sigmoid() - colour_target).abs(), near),
            "normal": _mean_where((normal.sigmoid() - normal_target).abs(), near),
            "unused_mesh": deform.square().mean() + cubes.weights.square().mean(),
        }

    def _gaussian_terms(self, z: SparseTensor, fields: PaintedFields) -> dict[str, Tensor]:
        """Errors of places and colours; sizes, turns and opacities are those of the configuration."""
        coords, edge = z.coords[:, 1:], self.decoder_gs.config.resolution
        gaussian = self.decoder_gs.represent(coords, self.decoder_gs.features(z).feats.float())
        place = (coords[:, None] + 0.5 + fields.anchor_offset).flatten(0, 1)
        colour = sh_to_rgb(gaussian.features_dc[:, 0])
        others = (gaussian.hidden_scaling, gaussian.hidden_rotation, gaussian.hidden_opacity)
        return {
            "place": (gaussian.hidden_xyz * edge - place).abs().mean(),
            "gaussian_colour": (colour - fields.anchor_colour.flatten(0, 1)).abs().mean(),
            "unused_gaussians": sum(hidden.square().mean() for hidden in others),
        }

    @torch.no_grad()
    def finish(self, source: BatchSource[FieldBatch], step: int) -> None:
        """Give the latents zero mean and unit spread, measured on the batch of ``step``."""
        x = _encoder_input(source.batch(step))
        latents = self.encoder(x, sample_posterior=False).feats.float()
        spread = fold_latent_statistics(self.encoder, (self.decoder_gs, self.decoder_mesh), latents)
        logger.info("latent spread folded into the weights: %s", [round(s, 3) for s in spread.tolist()])


@torch.no_grad()
def fold_latent_statistics(encoder: nn.Module, decoders: tuple[nn.Module, ...], latents: Tensor) -> Tensor:
    """Change the networks so that each latent channel has mean 0 and spread 1; reconstructions stay the same.

    Args:
        encoder, decoders: trained together, changed in place (last and first layers).
        latents: (T, C) posterior means.

    Returns:
        (C,) the standard deviations that were folded in.
    """
    mean, spread = latents.mean(0), latents.std(0, unbiased=False).clamp(min=1e-6)
    channels, last = len(spread), encoder.out_layer
    last.weight[:channels] /= spread[:, None]
    last.bias[:channels] = (last.bias[:channels] - mean) / spread
    last.bias[channels:] -= 2 * spread.log()  # the log variance shrinks with the square of the scale
    for decoder in decoders:
        first = decoder.input_layer
        first.bias += first.weight @ mean
        first.weight *= spread
    return spread
