"""Options of commands that find masks: by what, and on which device."""

from __future__ import annotations

import argparse
from pathlib import Path

from scenegen.cli.types import default_device, device
from scenegen.segmentation import DEFAULT_SAM2, Segmenter, load_segmenter
from scenegen.segmentation.loading import GRABCUT

SEGMENTERS = ("sam2", GRABCUT)


def add_segmenter_arguments(parser: argparse.ArgumentParser) -> None:
    """What finds masks, and the device of all networks."""
    parser.add_argument(
        "--segmenter",
        choices=SEGMENTERS,
        default=SEGMENTERS[0],
        help="for masks from boxes and points: SAM 2, or GrabCut, which needs no weights (%(default)s)",
    )
    parser.add_argument(
        "--sam2",
        default=DEFAULT_SAM2,
        help="a name such as sam2.1-hiera-tiny, a folder, or owner/name on the model hub; "
        "default %(default)s",
    )
    parser.add_argument(
        "--cutout-model",
        type=Path,
        help="of --segmenter grabcut: ONNX file of a network that tells what stands out, such as IS-Net",
    )
    parser.add_argument(
        "--device",
        type=device,
        default=default_device(),
        help="cuda, cuda:1, ..., mps or cpu; default: the first that this machine has",
    )


def check_segmenter_arguments(options: argparse.Namespace) -> None:
    """Refuse options of a segmenter that is not used.

    Raises:
        ValueError: such an option is given.
    """
    if options.segmenter == GRABCUT and options.sam2 != DEFAULT_SAM2:
        raise ValueError("--sam2: is for --segmenter sam2; leave one of them out")
    if options.segmenter != GRABCUT and options.cutout_model is not None:
        raise ValueError("--cutout-model: starts GrabCut; add --segmenter grabcut or leave it out")


def segmenter_of(options: argparse.Namespace) -> Segmenter:
    """Load the segmenter of a command line.

    Raises:
        CheckpointError: it cannot be had, see `load_segmenter`.
    """
    name = GRABCUT if options.segmenter == GRABCUT else options.sam2
    return load_segmenter(name, cutout_model=options.cutout_model, device=options.device)


def given_segmenter_flags(options: argparse.Namespace) -> list[str]:
    """The options about segmenters that differ from their defaults."""
    given = {
        "--segmenter": options.segmenter != SEGMENTERS[0],
        "--sam2": options.sam2 != DEFAULT_SAM2,
        "--cutout-model": options.cutout_model is not None,
    }
    return [flag for flag, is_given in given.items() if is_given]


def segmenter_settings(options: argparse.Namespace) -> dict[str, str | None]:
    """What decides over masks that are found, by which a finished scene is known again."""
    model = options.cutout_model
    return {
        "segmenter": options.segmenter,
        "sam2": options.sam2 if options.segmenter == SEGMENTERS[0] else None,
        "cutout_model": None if model is None else model.name,
    }
