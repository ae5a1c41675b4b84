"""How well the structure autoencoder of a checkpoint reproduces furniture it was not trained on.

``python -m benchmarks.structure_vae --pack data/packs/validation.safetensors``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from scenegen.cli.parser import CommandParser
from scenegen.models.registry import load_checkpoint
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.shapes.shape_bank import ShapeBank, surface_occupancy
from scenegen.trainers.objectives.losses import occupancy_iou

_SAMPLES = 200_000
_AT_ONCE = 8


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--pack", type=Path, required=True, help="mesh pack to reconstruct")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/scenegen-small"))
    parser.add_argument("--resolution", type=int, default=64, help="voxels per edge")
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    """Encode, decode, compare, print."""
    arguments = parse_arguments()
    encoder = load_checkpoint(arguments.checkpoint / "ckpts" / "ss_enc")
    decoder = load_checkpoint(arguments.checkpoint / "ckpts" / "ss_dec")
    bank = ShapeBank(MeshPack.load(arguments.pack), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    ious = []
    for models in torch.arange(len(bank.infos)).split(_AT_ONCE):
        occupancy = surface_occupancy(
            bank.gather(models), len(models), arguments.resolution, _SAMPLES, generator
        )
        logits = decoder(encoder(occupancy.float()))
        ious += [occupancy_iou(a[None], b[None]) for a, b in zip(logits, occupancy, strict=True)]
    values = torch.stack(ious)
    print(f"{len(values)} models: IoU mean {values.mean():.3f}, median {values.median():.3f}")
    worst = values.argmin()
    print(f"worst {values[worst]:.3f}: {bank.infos[worst].id}")


if __name__ == "__main__":
    main()
