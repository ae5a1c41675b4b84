"""How close a segmenter comes to the true masks of scenes, given boxes around them, and how long it takes.

    python benchmarks/segmentation.py --scenes assets/masked_images_test
    python benchmarks/segmentation.py --scenes data/test/masked_images_test --segmenter sam2.1-hiera-large

Every object gets the box of its true mask, and the overlap is intersection over union of its mask, found by
itself, with the true one. Objects smaller than `SMALLEST` of the photo are left out.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scenegen.cli.parser import CommandParser
from scenegen.cli.types import device, positive_int
from scenegen.inputs.layout import detect_scene, find_scene_folders
from scenegen.inputs.scene_folder import read_layout
from scenegen.segmentation import Segmenter, SegmenterUnavailable, load_segmenter
from scenegen.segmentation.polygon import refine_polygon
from scenegen.segmentation.prompts import prompts_of_boxes

SMALLEST = 0.002  # share of the photo

logger = logging.getLogger("segmentation")


@dataclass(frozen=True)
class Measurement:
    """One scene: overlaps (N,) of its objects, those after `refine_polygon`, and seconds for all of them."""

    overlaps: np.ndarray
    refined: np.ndarray
    seconds: float


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom in pixels around a mask (H, W) bool that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks (H, W) bool of which one is not empty."""
    return float((one & other).sum() / (one | other).sum())


def measure(segmenter: Segmenter, photo: Image.Image, truth: np.ndarray) -> Measurement:
    """Segment the boxes of true masks (N, H, W) bool."""
    start = time.perf_counter()
    found = segmenter.segment_prompts(photo, prompts_of_boxes(map(box_of, truth)))
    seconds = time.perf_counter() - start
    refined = [refine_polygon(mask) for mask in found]
    return Measurement(
        np.array([overlap(*pair) for pair in zip(found, truth)]),
        np.array([overlap(*pair) for pair in zip(refined, truth)]),
        seconds,
    )


def read_truth(folder: Path, side: int | None) -> tuple[Image.Image, np.ndarray]:
    """Photo and true masks (N, H, W) bool of a scene folder, enlarged or shrunk to a longer side."""
    (images, *_) = read_layout(detect_scene(folder))
    photo, masks = images.photo, [Image.fromarray(mask) for mask in images.masks]
    if side is not None:
        scale = side / max(photo.size)
        size = round(photo.width * scale), round(photo.height * scale)
        photo = photo.resize(size, Image.Resampling.BICUBIC)
        masks = [mask.resize(size, Image.Resampling.NEAREST) for mask in masks]
    truth = np.stack([np.asarray(mask) for mask in masks]) > 0
    return photo, truth[truth.mean(axis=(1, 2)) >= SMALLEST]


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--scenes", type=Path, required=True, help="folder of scene folders with masks")
    parser.add_argument("--segmenter", default="grabcut", help="see load_segmenter (%(default)s)")
    parser.add_argument("--cutout-model", type=Path, help="ONNX file whose map starts GrabCut")
    parser.add_argument("--side", type=positive_int, help="longer side of the photos; default: as they are")
    parser.add_argument("--every", type=positive_int, default=1, metavar="N", help="only each N-th scene")
    parser.add_argument("--device", type=device, default="cpu", help="of SAM 2 (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print one JSON object."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        segmenter = load_segmenter(
            options.segmenter, cutout_model=options.cutout_model, device=options.device
        )
    except SegmenterUnavailable as error:
        logger.error("%s", error)
        return 2
    folders = find_scene_folders(options.scenes)[:: options.every]
    scenes = [read_truth(folder, options.side) for folder in folders]
    results = [measure(segmenter, photo, truth) for photo, truth in scenes if len(truth)]
    overlaps = np.concatenate([result.overlaps for result in results])
    print(json.dumps({
        "segmenter": segmenter.description,
        "threads": torch.get_num_threads(),
        "scenes": len(results),
        "objects": len(overlaps),
        "mean_overlap": round(float(overlaps.mean()), 4),
        "median_overlap": round(float(np.median(overlaps)), 4),
        "mean_overlap_refined": round(float(np.concatenate([item.refined for item in results]).mean()), 4),
        "seconds_per_object": round(sum(result.seconds for result in results) / len(overlaps), 3),
    }, indent=2))  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
