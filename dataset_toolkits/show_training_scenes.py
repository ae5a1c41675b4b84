"""One picture of the scenes that an experiment trains on, each beside its masks in colours.

``python -m dataset_toolkits.show_training_scenes --config configs/small/scene_flow.json \\
    --packs data/packs/train.safetensors data/packs/procedural.safetensors --output scenes.png``

It draws what the networks see in the first steps: pictures at the size of the encoders, and masks with their
faults.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from PIL import Image

from dataset_toolkits.steps import run_step
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import default_device, device, positive_int, whole_number
from scenegen.datasets.source import SourceOptions
from scenegen.synthesis.sources.batch import SceneBatch
from scenegen.synthesis.sources.scene_batches import PictureSource
from scenegen.synthesis.sources.shape_pool import SourceConfig
from scenegen.trainers.data import build_source
from scenegen.trainers.experiment import load_experiment
from trellis_modules.config import ConfigError, NamedConfig
from trellis_modules.files import atomic_write

_SCENES = "scenes"
_WITH_SCENES = (_SCENES, "scene_pairs", "scene_latents", "latent_pictures")
_COLOURS = np.array(
    [[230, 60, 60], [60, 160, 240], [90, 200, 90], [240, 180, 40], [170, 90, 220], [60, 210, 200]]
)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="experiment that learns from scenes")
    parser.add_argument("--packs", type=Path, nargs="+", required=True, help="mesh packs of the train split")
    parser.add_argument("--output", type=Path, required=True, help="picture to write (.png)")
    parser.add_argument("--scenes", type=positive_int, default=48, help="how many are drawn")
    parser.add_argument("--columns", type=positive_int, default=6)
    parser.add_argument("--objects", type=positive_int, default=24, help="of a batch")
    parser.add_argument("--shapes", type=positive_int, default=2048, help="variants of furniture")
    parser.add_argument("--first-step", type=whole_number, default=0)
    parser.add_argument("--device", type=device, default=default_device())
    return parser.parse_args(arguments)


def make_source(options: argparse.Namespace) -> PictureSource[SceneBatch]:
    """The scenes of the experiment, without latents.

    Raises:
        ConfigError: the experiment's data are not composed scenes.
    """
    dataset = load_experiment(options.config).dataset
    if dataset.name not in _WITH_SCENES:
        raise ConfigError(
            f"{options.config}: expected a dataset of composed scenes, got {dataset.name}; "
            "give another experiment"
        )
    known = {field.name for field in fields(SourceConfig)}
    args = {name: value for name, value in dataset.args.items() if name in known}
    sizes = {"objects_per_step": options.objects, "shapes": options.shapes, "repeat": 1}
    files = SourceOptions(options.device, tuple(options.packs), None, 0)
    return build_source(NamedConfig(_SCENES, args | sizes), files)


def tiles(batch: SceneBatch) -> Iterator[np.ndarray]:
    """Each picture of a batch beside its masks: (I, 2 I, 3) uint8."""
    num_scenes, num_objects = batch.poses.shape[:2]
    pictures = batch.picture.image.permute(0, 2, 3, 1).cpu().numpy()
    masks = batch.mask_image[:, 0].unflatten(0, (num_scenes, num_objects)).cpu().numpy()
    for picture, of_scene in zip(pictures, masks):
        marked = picture / 3
        for number, mask in enumerate(of_scene):
            colour = _COLOURS[number % len(_COLOURS)] / 255
            marked += 0.6 * mask[..., None] * (colour - marked)
        yield np.round(np.concatenate([picture, marked], axis=1) * 255).astype(np.uint8)


def show(options: argparse.Namespace) -> int:
    """Draw and write."""
    source = make_source(options)
    drawn: list[np.ndarray] = []
    step = options.first_step
    while len(drawn) < options.scenes:
        drawn += tiles(source.batch(step))
        step += 1
    drawn = drawn[: options.scenes]
    blank = [np.full_like(drawn[0], 255)] * (-len(drawn) % options.columns)
    rows = [*drawn, *blank]
    sheet = np.concatenate(
        [np.concatenate(rows[k : k + options.columns], axis=1) for k in range(0, len(rows), options.columns)]
    )
    with atomic_write(options.output) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")
    logging.info("%s: %d scenes of %d steps", options.output, len(drawn), step - options.first_step)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw and write; 1 when the experiment has other data, or a file of it cannot be used."""
    options = parse_arguments(arguments)
    return run_step(lambda: show(options), ValueError)  # of experiments and packs; they name the file


if __name__ == "__main__":
    sys.exit(main())
