"""The shapes that batches are made of, and the source of shapes alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from safe_files.limits import MAX_GRID, MAX_IMAGE_SIDE_PX, MAX_WORKERS
from scenegen.datasets.batch import ShapeBatch
from scenegen.datasets.latest import Latest
from scenegen.datasets.source import batch_number
from scenegen.synthesis.layouts.layout_arrays import TRAINING_OPTIONS, step_rng
from scenegen.synthesis.layouts.options import ComposerOptions
from scenegen.synthesis.pictures.looks import Looks
from scenegen.synthesis.shapes.shape_bank import ShapeBank, Variants, make_variants, surface_occupancy
from trellis_modules.config import MAX_SEED, check_range


@dataclass(frozen=True)
class SourceConfig:
    """What batches are made of."""

    shapes: int = 16384  # variants alive at a time
    refresh_steps: int = 1 << 30  # batches after which new variants are drawn
    real_share: float = 0.5  # of the variants, from real furniture; the rest is procedural
    max_stretch: float = 1.35
    max_bend: float = 0.0  # see `shape_bank.bend_axes`
    objects_per_step: int = 240
    object_counts: tuple[float, ...] = (0.2, 1.0, 1.5, 1.5, 1.0, 0.5, 0.3)  # weights of 1, 2, 3, ... objects
    unmasked_counts: tuple[float, ...] = (1.0,)  # weights of 0, 1, ... more objects that have no masks
    render_size: int = 512
    image_size: int = 224
    patch_grid: int = 16  # patches along an edge of a picture
    resolution: int = 64
    surface_samples: int = 65536
    repeat: int = 1  # steps in a row that see the same pictures (with other times and noise)
    workers: int = 0
    seed: int = 0
    layouts: ComposerOptions = TRAINING_OPTIONS  # which scenes are composed
    looks: Looks = Looks()  # how their pictures look

    def __post_init__(self) -> None:
        for name in ("shapes", "refresh_steps", "objects_per_step", "patch_grid", "surface_samples"):
            check_range(name, getattr(self, name), 1)
        for name in ("render_size", "image_size"):
            check_range(name, getattr(self, name), 1, MAX_IMAGE_SIDE_PX)
        check_range("repeat", self.repeat, 1)
        check_range("resolution", self.resolution, 1, MAX_GRID)
        check_range("real_share", self.real_share, 0, 1)
        check_range("max_stretch", self.max_stretch, 1)
        check_range("max_bend", self.max_bend, 0)
        check_range("workers", self.workers, 0, MAX_WORKERS)
        check_range("seed", self.seed, 0, MAX_SEED)
        for name in ("object_counts", "unmasked_counts"):
            weights = getattr(self, name)
            for weight in weights:
                check_range(name, weight, 0)
            if not sum(weights) > 0:
                raise ValueError(f"{name}: expected a weight above 0, got {list(weights)}")


def step_generator(device: torch.device, config: SourceConfig, number: int, purpose: str) -> torch.Generator:
    """Independent generator on the device for one purpose of one batch."""
    seed = int(step_rng(config.seed, number, purpose).integers(2**62))
    return torch.Generator(device).manual_seed(seed)


class ShapePool:
    """The shapes alive at a batch; drawn anew every ``refresh_steps``, by a seed of their own."""

    def __init__(self, bank: ShapeBank, config: SourceConfig, device: torch.device) -> None:
        self.bank, self.config, self.device = bank, config, device
        self._variants: Latest[Variants] = Latest()

    def at(self, number: int) -> tuple[int, Variants]:
        """Number of the pool that a batch is made of, and its shapes."""
        epoch = number // self.config.refresh_steps
        return epoch, self._variants.get(epoch, lambda: self._draw(epoch))

    def _draw(self, epoch: int) -> Variants:
        config = self.config
        rng = step_rng(config.seed, epoch, "variants")
        return make_variants(
            self.bank,
            config.shapes,
            rng,
            config.real_share,
            config.max_stretch,
            self.device,
            config.max_bend,
        )

    def random(self, number: int, purpose: str) -> tuple[Variants, Tensor, torch.Generator]:
        """Random shapes for a purpose of a batch: all variants, rows (B,) of them, and a generator."""
        _, variants = self.at(number)
        generator = step_generator(self.device, self.config, number, purpose)
        count = self.config.objects_per_step
        rows = torch.randint(self.config.shapes, (count,), generator=generator, device=self.device)
        return variants, rows, generator

    def occupancy(self, variants: Variants, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Surface voxels (K, 1, R, R, R) bool of the shapes ``rows``."""
        return surface_occupancy(
            variants.triangles(self.bank, rows),
            len(rows),
            self.config.resolution,
            self.config.surface_samples,
            generator,
        )


class ShapeSource:
    """Batches of random shapes."""

    def __init__(self, pool: ShapePool) -> None:
        self.pool = pool

    def batch(self, step: int, slot: int = 0, slots: int = 1) -> ShapeBatch:
        """The shapes of a slot."""
        drawn = self.pool.random(batch_number(step, slot, slots), "shapes")
        return ShapeBatch(self.pool.occupancy(*drawn))
