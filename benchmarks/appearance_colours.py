"""How near appearance flows come to true colours, at the true structures of held-out furniture.

    python -m benchmarks.appearance_colours --checkpoints checkpoints/scenegen-small OTHER \\
        --pack data/packs/validation.safetensors [--light] [--batches 5]

Every checkpoint sees the same pictures of single objects and gives latents to the same voxels; these and the
true latents are decoded, and the colours of their Gaussians are compared. Shapes and places play no part. The
pictures are plainly lit, or with ``--light`` in rooms with lamps, coloured light, shadows, and colour casts.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from scenegen.checkpoints.schema import PipelineConfig
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.datasets.source import SourceOptions
from scenegen.models.registry import load_checkpoint
from scenegen.synthesis.pictures.looks import Looks
from scenegen.synthesis.sources.appearance_batches import LatentPictureConfig
from scenegen.synthesis.sources.batch import LatentPictureBatch
from scenegen.synthesis.sources.registry import SOURCES
from scenegen.trainers.objectives.structured_latent_flow import (
    StructuredLatentFlowConfig,
    StructuredLatentFlowObjective,
)
from scenegen.trainers.samples import sample_flow
from trellis_modules.renderers.spherical_harmonics import sh_to_rgb
from trellis_modules.sparse import SparseTensor

LIT = Looks(room=0.8, light=0.7, patterns=0.3, gloss=0.4, photo=0.6)
SHAPES = 18  # variants of the held-out models that pictures show


@dataclass(frozen=True)
class Colours:
    """Errors of the colours of objects, (N,) each.

    Attributes:
        mse: mean squared error of all Gaussians.
        mean: squared error of an object's mean colour.
    """

    mse: Tensor
    mean: Tensor

    def row(self, name: str) -> str:
        """A line of the table."""
        psnr = (-10 * self.mse.clamp(min=1e-9).log10()).mean()
        parts = psnr, self.mse.mean().sqrt(), self.mean.mean().sqrt()
        return f"| {name} | {len(self.mse)} | " + " | ".join(f"{part:.3g}" for part in parts) + " |"


class AppearanceFlow:
    """The appearance flow of a checkpoint, with the encoder and the decoder beside it."""

    def __init__(self, folder: Path) -> None:
        """Load the networks.

        Raises:
            CheckpointError: one is missing or damaged.
        """
        config = PipelineConfig.load(folder)

        def network(stem: str) -> nn.Module:
            return load_checkpoint(folder / stem).eval()

        self.decoder = network(config.models["slat_decoder_gs"])
        self.params = config.slat_sampler.params
        self.objective = StructuredLatentFlowObjective(
            network(config.models["slat_flow_model"]),
            network(config.image_cond_model),
            StructuredLatentFlowConfig(patch_grid=config.slat_patch_grid, light=config.slat_light),
        )

    @torch.no_grad()
    def errors(self, batch: LatentPictureBatch, seed: int) -> Colours:
        """Compare what the flow makes of the pictures of a batch with what they show."""
        true = SparseTensor(batch.x_0.float(), batch.coords, len(batch.asset_image))
        cond = self.objective.condition(batch.asset_image, batch.light)
        generator = torch.Generator().manual_seed(seed)
        latents, _ = sample_flow(
            self.objective.flow, true, cond, torch.zeros_like(cond), generator, 1e-5, self.params
        )
        pairs = list(zip(self._colours(latents), self._colours(true), strict=True))
        mse = torch.stack([(made - seen).square().mean() for made, seen in pairs])
        means = [(made.mean(0) - seen.mean(0)).square().mean() for made, seen in pairs]
        return Colours(mse, torch.stack(means))

    def _colours(self, latents: SparseTensor) -> list[Tensor]:
        """(G, 3) in [0, 1] for each object."""
        return [sh_to_rgb(made.features[:, 0]).clamp(0, 1) for made in self.decoder(latents)]


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    options = parse_arguments(arguments)
    flows = {str(folder): AppearanceFlow(folder) for folder in options.checkpoints}
    looks = LIT if options.light else Looks()
    config = LatentPictureConfig(
        shapes=SHAPES, objects_per_step=options.objects, max_stretch=1.1, surface_samples=131_072,
        extra_voxels=0.0, missing_voxels=0.0, seed=options.seed, looks=looks,
    )  # fmt: skip
    encoder = options.checkpoints[0] / "ckpts" / "slat_enc"
    source = SOURCES["latent_pictures"].make(
        config,
        SourceOptions(
            device=torch.device("cpu"),
            validation=True,
            validation_packs=(options.pack,),
            latent_encoder=encoder,
        ),
    )
    found: dict[str, list[Colours]] = {name: [] for name in flows}
    for number in range(options.batches):
        batch = source.batch(number)
        for name, flow in flows.items():
            found[name].append(flow.errors(batch, number))
        print(f"{number + 1} of {options.batches} batches", file=sys.stderr)
    print("| checkpoint | objects | mean PSNR, dB | error of colours | error of mean colours |")
    print("|---|---:|---:|---:|---:|")
    for name, parts in found.items():
        whole = Colours(*(torch.cat([getattr(part, field) for part in parts]) for field in ("mse", "mean")))
        print(whole.row(name))
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--pack", type=Path, required=True, help="mesh pack of held-out furniture")
    parser.add_argument("--light", action="store_true", help="rooms, lamps, shadows and colour casts")
    parser.add_argument("--batches", type=positive_int, default=5)
    parser.add_argument("--objects", type=positive_int, default=6, help="of a batch (default: 6)")
    parser.add_argument("--seed", type=int, default=5)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
