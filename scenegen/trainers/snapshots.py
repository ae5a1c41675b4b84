"""Pictures of what networks make while they are trained, beside the truth.

In ``samples/<suffix>/`` of a run, with the names of the released training: ``image`` shows what the networks
saw, ``sample`` and ``sample_gt`` the voxels of each object, or its Gaussians where latents are structured,
``scene`` and ``scene_gt`` all objects in their places, and ``pos`` and ``pos_gt`` (JSON) hold the poses.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from scenegen.datasets.batch import Batch
from scenegen.datasets.poses import decode_poses
from scenegen.datasets.source import BatchSource
from scenegen.geometry import pose_to_transform, sanitize_pose, yup_to_zup, zup_to_yup
from scenegen.trainers.distributed import World
from scenegen.trainers.objective import Objective
from scenegen.trainers.samples import LatentSample, SceneSample, as_used
from trellis_modules.files import atomic_write, atomic_write_text
from trellis_modules.renderers import gaussian_preview
from trellis_modules.renderers.pictures import to_uint8
from trellis_modules.renderers.structure_preview import scene_preview, structure_preview
from trellis_modules.samplers import SamplingParams
from trellis_modules.sparse import SparseTensor

logger = logging.getLogger(__name__)

FOLDER = "samples"
SAMPLING = SamplingParams(steps=50, cfg_strength=3.0)
"""As the released training samples for its snapshots."""

OBJECTS = 4
"""Of the scene that is shown, where the data have one of so many."""

_LOOKED_AT = 16  # batches among which the scene is chosen
_SEED = 0


@dataclass(frozen=True)
class PictureSize:
    """Pixels along each of the four views of a preview, and samples a pixel."""

    objects: int
    scene: int
    samples: int

    @classmethod
    def on(cls, device: torch.device) -> PictureSize:
        """The released size on a GPU; smaller on a CPU, where that takes a minute an object."""
        return cls(512, 1024, 4) if device.type == "cuda" else cls(128, 256, 2)


class Snapshots:
    """Draws what an objective makes of the same batch again and again, with the same noise.

    All processes sample the same and the first writes, so that nothing has to be collected.
    """

    def __init__(
        self,
        objective: Objective,
        source: BatchSource,
        decoder: nn.Module | None,
        output_dir: Path,
        every: int,
        world: World,
    ) -> None:
        """Take what is shown.

        Args:
            objective: as it is trained; one without samples is not shown.
            source: of the batches of which one is shown.
            decoder: of latents, to voxels or, where they are structured, to Gaussians; None leaves both out.
            output_dir: of the run.
            every: steps between two snapshots.
            world: of the processes.
        """
        self.objective, self.source, self.decoder = objective, source, decoder
        self.folder, self.every, self.world = output_dir / FOLDER, every, world
        self._batch: Batch | None = None

    def __call__(self, step: int, suffix: str) -> dict[str, float]:
        """Sample, draw and write; all processes together. Nothing to log."""
        if self._batch is None:
            self._batch = self.objective.shown(shown_batch(self.source))
        device = next(self._batch.tensors()).device
        with as_used(self.objective):
            generator = torch.Generator(device).manual_seed(_SEED)
            samples = self.objective.samples(self._batch, generator, SAMPLING)
            if samples and self.world.is_first:
                self.write(samples[0], suffix, PictureSize.on(device))
        return {}

    def write(self, sample: SceneSample | LatentSample, suffix: str, size: PictureSize) -> None:
        """Write the pictures of a sample, and the poses of a scene.

        Args:
            sample: what was made.
            suffix: of the folder and its files, for example ``step0010000``.
            size: of the pictures.

        Raises:
            OSError: the disk refuses.
        """
        folder = self.folder / suffix
        folder.mkdir(parents=True, exist_ok=True)
        pictures: dict[str, Tensor] = {}
        if sample.images is not None:
            pictures["image"] = _grid(_shown_images(sample))
        for kind, (latents, poses) in _made_and_true(sample).items():
            if poses is not None:
                text = json.dumps(poses.tolist(), indent=1) + "\n"
                atomic_write_text(folder / f"pos{kind}_{suffix}.json", text)
            if self.decoder is None:
                continue
            decoder = self.decoder.to(latents.device)
            if isinstance(latents, SparseTensor):
                pictures |= _gaussian_pictures(decoder, latents, kind, size)
            else:
                pictures |= _voxel_pictures(decoder, latents, poses, kind, size)
        for name, picture in pictures.items():
            with atomic_write(folder / f"{name}_{suffix}.jpg") as path:
                Image.fromarray(picture.cpu().numpy().astype(np.uint8)).save(path, "JPEG", quality=92)


def shown_batch(source: BatchSource) -> Batch:
    """The first batch with scenes of four objects among some, or of most; of single objects the first."""
    chosen, most = None, -1
    for number in range(_LOOKED_AT):
        batch = source.batch(number)
        count = getattr(batch, "scene_size", OBJECTS)
        if count == OBJECTS:
            return batch
        if count > most:
            chosen, most = batch, count
    assert chosen is not None
    return chosen


def _made_and_true(
    sample: SceneSample | LatentSample,
) -> dict[str, tuple[Tensor | SparseTensor, Tensor | None]]:
    """Latents, and poses where there are some, by what ends the names of their files."""
    if isinstance(sample, LatentSample):
        return {"": (sample.latents, None), "_gt": (sample.true_latents, None)}
    return {"": (sample.latents, sample.poses), "_gt": (sample.true_latents, sample.true_poses)}


def _gaussian_pictures(
    decoder: nn.Module, latents: SparseTensor, kind: str, size: PictureSize
) -> dict[str, Tensor]:
    """Gaussians of each object; ``kind`` ends their name."""
    drawn = [gaussian_preview(item, size=size.objects, ssaa=size.samples) for item in decoder(latents)]
    return {f"sample{kind}": _grid(drawn)}


def _voxel_pictures(
    decoder: nn.Module, latents: Tensor, poses: Tensor | None, kind: str, size: PictureSize
) -> dict[str, Tensor]:
    """Voxels of each object, and where there are poses of the scene; ``kind`` ends their names."""
    occupied = torch.cat([decoder(row[None].float()) for row in latents])[:, 0] > 0
    resolution = occupied.shape[-1]
    voxels = [grid.nonzero() for grid in occupied]
    objects = [
        structure_preview(coords, resolution, size=size.objects, ssaa=size.samples) for coords in voxels
    ]
    pictures = {f"sample{kind}": _grid(objects)}
    if poses is not None:
        placements = _zup_transforms(sanitize_pose(decode_poses(poses)))
        pictures[f"scene{kind}"] = scene_preview(
            voxels, resolution, placements, size=size.scene, ssaa=size.samples
        )
    return pictures


def _zup_transforms(poses: Tensor) -> Tensor:
    """What poses (N, 8) do, from z-up frames of objects to a z-up frame of the scene: (N, 4, 4)."""
    transforms = pose_to_transform(poses)
    turned = zup_to_yup(torch.eye(3, device=poses.device, dtype=poses.dtype)).mT  # of vectors, z up to y up
    transforms[:, :3, :3] = turned.mT @ transforms[:, :3, :3] @ turned
    transforms[:, :3, 3] = yup_to_zup(transforms[:, :3, 3])
    return transforms


def _shown_images(sample: SceneSample | LatentSample) -> list[Tensor]:
    """What was shown, (S, S, 3) uint8 each: the cut-outs, then the photo."""
    photo = sample.scene_image if isinstance(sample, SceneSample) else None
    images = list(sample.images) + ([] if photo is None else [photo])
    return [to_uint8(image.permute(1, 2, 0)) for image in images]


def _grid(pictures: list[Tensor]) -> Tensor:
    """Pictures (H, W, 3) of one size as one, as many in a row as the root of their number."""
    columns = max(1, math.isqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height, width, _ = pictures[0].shape
    sheet = pictures[0].new_zeros(rows * height, columns * width, 3)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture
    return sheet
