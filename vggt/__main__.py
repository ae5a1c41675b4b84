"""Cameras, depth maps and a coloured point cloud from one or more photos of a scene.

    python -m vggt IMAGE... [--checkpoint DIR] [--output DIR]

writes into the output folder

    cameras.json              extrinsics, intrinsics and size of each image
    depth/NNN_NAME.npz        depth, confidence and mask
    depth/NNN_NAME_*.png      previews of depth and confidence
    points.glb, points.ply    the points that the images see
    files.json                sha256 of these: what was changed since is kept as NAME.bak by the next run

The images may differ in size and are taken as views of one scene; the first one's camera is the world frame.
What a checkpoint has no head for is left out. Exit status: 0 done, 2 bad arguments, files or weights.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch
from torch import Tensor

from safe_files.limits import MAX_PIXELS
from safe_files.pictures import pixel_limit
from safe_files.regular import shown
from vggt.checkpoint import VggtCheckpointError, load_vggt
from vggt.images import CROP, PAD, Placement, place_images, preprocess_images, read_images
from vggt.kept_files import results_folder
from vggt.output_files import collect_points, write_cameras, write_depth_maps
from vggt.reconstruction import Reconstruction, reconstruct

logger = logging.getLogger("vggt")

FORMATS = ("glb", "ply")
AUTO, DEPTH, HEAD = "auto", "depth", "head"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        with pixel_limit(options.max_pixels):
            run(options)
    except (VggtCheckpointError, OSError, ValueError) as error:
        logger.error("%s", error)
        return 2
    return 0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line; exits with status 2 on a bad argument."""
    parser = argparse.ArgumentParser(
        prog="python -m vggt", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="image files, the reference first"
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default="checkpoints/VGGT-1B",
        help="folder with config.json and model.safetensors, or the stem of\nSTEM.json and STEM.safetensors "
        "(default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, default="outputs/vggt", help="folder (default: %(default)s)")
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the transformer; the heads stay in float32",
    )
    parser.add_argument(
        "--mode",
        choices=(CROP, PAD),
        default=CROP,
        help="crop: scale to full width and cut tall images (default);\npad: keep all, with white margins",
    )
    parser.add_argument(
        "--points",
        choices=(AUTO, DEPTH, HEAD),
        default=AUTO,
        help="points from depth and cameras, or from the point head; auto: depth\n"
        "where the model has both and all cameras came out with a field of view",
    )
    parser.add_argument(
        "--keep",
        type=share,
        default=0.75,
        help="share of the points to keep, the surest (default: %(default)s)",
    )
    parser.add_argument("--max-points", type=positive_int, default=1_000_000, help="(default: %(default)s)")
    parser.add_argument(  # the same with an underscore, as other commands of the project take it
        "--max_points", type=positive_int, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    parser.add_argument(
        "--max-pixels",
        type=positive_int,
        default=MAX_PIXELS,
        help="refuse pictures of more pixels before they are decoded (default: %(default)s)",
    )
    parser.add_argument(
        "--formats", type=formats, default=FORMATS, help="of the point cloud: glb, ply or both (default)"
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Read, predict, write.

    Raises:
        VggtCheckpointError: the weights are missing or do not fit.
        OSError: an image cannot be read, or the output folder not be written.
        ValueError: the checkpoint predicts no geometry, or nothing finite.
    """
    photos = read_images(options.images)
    model = load_vggt(options.checkpoint, options.device)
    sizes = (model.img_size, model.patch_size)
    placements, _ = place_images([photo.size for photo in photos], options.mode, *sizes)
    images = preprocess_images(photos, options.mode, *sizes)
    reconstruction = reconstruct(model, images.to(options.device), getattr(torch, options.dtype))
    with results_folder(options.output) as folder:
        write_results(options, reconstruction, images, placements, folder)


def write_results(
    options: argparse.Namespace,
    reconstruction: Reconstruction,
    images: Tensor,
    placements: list[Placement],
    folder: Path,
) -> None:
    """Write what the model has heads for into an empty folder, which becomes that of the results."""
    if reconstruction.extrinsics is not None:
        names = [str(path) for path in options.images]
        write_cameras(folder / "cameras.json", reconstruction, names, placements)
        logger.info("%s: %d cameras", options.output / "cameras.json", len(placements))
    if reconstruction.depth is not None:
        stems = [f"{index:03d}_{path.stem}" for index, path in enumerate(options.images)]
        write_depth_maps(folder / "depth", reconstruction, stems, placements)
        logger.info("%s: %d depth maps", options.output / "depth", len(placements))
    write_points(options, reconstruction, images, placements, folder)


def write_points(
    options: argparse.Namespace,
    reconstruction: Reconstruction,
    images: Tensor,
    placements: list[Placement],
    folder: Path,
) -> None:
    """Write the point cloud in every format asked for, if the model has heads for one."""
    source = best_source(reconstruction) if options.points == AUTO else options.points
    if source == DEPTH:
        xyz, confidence = reconstruction.depth_points(), reconstruction.depth_confidence
    elif reconstruction.points is not None:
        xyz, confidence = reconstruction.points, reconstruction.points_confidence
    elif options.points == AUTO:
        logger.warning("no point cloud: it takes the point head, or depth and camera head")
        return
    else:
        raise ValueError("--points head: the checkpoint has no point head; use --points depth")
    cloud = collect_points(xyz, confidence, images, placements, options.keep).thinned(options.max_points)
    savers = {"glb": cloud.save_glb, "ply": cloud.save_ply}
    for name in options.formats:
        savers[name](folder / f"points.{name}")
        logger.info("%s: %d points (--points %s)", options.output / f"points.{name}", len(cloud), source)


def best_source(reconstruction: Reconstruction) -> str:
    """Depth, which is the sharper, unless a camera is unusable and the point head can do without."""
    if not reconstruction.has_depth_points:
        return HEAD
    return DEPTH if reconstruction.has_usable_cameras or reconstruction.points is None else HEAD


def device(text: str) -> torch.device:
    """A device that this machine has."""
    try:
        found = torch.device(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:<n>, got {text!r}") from error
    available = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(found.type, 0)
    if (found.index or 0) >= available:
        raise argparse.ArgumentTypeError(f"expected a device of this machine, got {text!r}; use cpu")
    return found


def share(text: str) -> float:
    """A number above 0, up to 1."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from error
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share in (0, 1], got {text!r}")
    return value


def positive_int(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {shown(text)}")
    return int(text)


def formats(text: str) -> tuple[str, ...]:
    """Names of point-cloud formats, separated by commas."""
    names = tuple(part.strip() for part in text.split(","))
    if unknown := sorted(set(names) - set(FORMATS)):
        raise argparse.ArgumentTypeError(f"unknown format {unknown[0]!r}; known: {', '.join(FORMATS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
