"""The command line of ``inference.py``: its options, and what they mean for a batch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import torch

from scenegen.batch import BatchOptions
from scenegen.pipelines.export import ALL_FORMATS, FORMATS
from scenegen.pipelines.formats.registry import EXTRA_FORMATS, FormatUnavailable, check_format
from scenegen.pipelines.options import SEEDS
from scenegen.pipelines.texturing import SolidMode, TextureMode, TextureSettings
from scenegen.segmentation import DEFAULT_SAM2
from scenegen.viewer import ViewerUnavailable, check_viewer


def parse_arguments(description: str, arguments: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line; exits with status 2 on a bad argument.

    Args:
        description: first lines of the help.
        arguments: None takes those of the process.

    Returns:
        The options, with `BatchOptions` as ``batch``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    add_input_arguments(parser)
    add_model_arguments(parser)
    add_result_arguments(parser)
    add_viewer_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        options.batch = batch_options(options)
        if options.viewer:
            check_viewer()
    except (ValueError, ViewerUnavailable) as error:
        parser.error(str(error))
    return options


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """What is read."""
    parser.add_argument("--input", type=Path, default="assets/masked_images_test", help="folder of scenes")
    masks = parser.add_mutually_exclusive_group()
    masks.add_argument("--masks", type=Path, help="label image or .npy array, when --input is a photo")
    masks.add_argument(
        "--boxes", type=Path, help="JSON list of [x0, y0, x1, y1] in pixels, when --input is a photo"
    )
    masks.add_argument("--auto-masks", action="store_true", help="find the objects of photos without masks")
    parser.add_argument("--limit", type=positive_int, help="only the first N scenes")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """What makes the scenes, and how."""
    parser.add_argument(
        "--checkpoint", default="checkpoints/scenegen-small", help="folder, or owner/name on the model hub"
    )
    parser.add_argument("--revision", help="of a checkpoint on the hub")
    parser.add_argument(
        "--sam2",
        default=DEFAULT_SAM2,
        help="for masks from boxes or automatic: folder, or owner/name on the model hub; default %(default)s",
    )
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="default: float32 on a CPU, else float16"
    )
    parser.add_argument(
        "--low-vram", action="store_true", help="load each network for its stage and free it after it"
    )
    parser.add_argument("--seed", type=seed, default=42)
    parser.add_argument("--steps", type=positive_int, help="sampling steps; default: the checkpoint's")
    parser.add_argument("--cfg", type=non_negative, help="guidance strength; default: the checkpoint's")
    parser.add_argument("--slat-steps", type=positive_int, help="sampling steps of the appearance stage")
    parser.add_argument("--slat-cfg", type=non_negative, help="guidance strength of the appearance stage")
    parser.add_argument(
        "--no_scene_attention", action="store_true", help="every object by itself, for comparisons"
    )
    parser.add_argument(
        "--no_appearance",
        action="store_true",
        help="only structures and poses: plain surfaces in the photo's colours, in less time",
    )


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """What is written."""
    texture = TextureSettings()
    parser.add_argument("--output", type=Path, default="outputs", help="folder for the results")
    parser.add_argument(
        "--formats",
        type=formats,
        default=FORMATS,
        help=f"all, or some of {','.join(ALL_FORMATS)}; default {','.join(FORMATS)}",
    )
    parser.add_argument("--overwrite", action="store_true", help="make finished scenes again")
    parser.add_argument(
        "--texture", choices=("gaussian", "mesh"), help="source of the colours; default: the checkpoint's"
    )
    parser.add_argument(
        "--texture-mode", choices=get_args(TextureMode), default=texture.mode, help="for --texture gaussian"
    )
    parser.add_argument("--texture-size", type=positive_int, default=texture.size)
    parser.add_argument("--simplify", type=float, default=texture.simplify, help="share of faces to remove")
    parser.add_argument(
        "--surface",
        choices=get_args(SolidMode),
        default=texture.surface,
        help="textured objects as solids, or as the released decoder's meshes are post-processed",
    )
    parser.add_argument(
        "--refine", action="store_true", help="push objects out of each other and onto the floor"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def add_viewer_arguments(parser: argparse.ArgumentParser) -> None:
    """The page that shows the results."""
    parser.add_argument(
        "--viewer", "--gradio", action="store_true", help="afterwards, show generated and true scenes"
    )
    parser.add_argument(
        "--truth", type=Path, help="true scenes; default: scene_<set> beside masked_images_<set>"
    )
    parser.add_argument("--host", default="127.0.0.1", help="of the page")
    parser.add_argument("--port", type=port, help="of the page; default: the first free one")


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


def positive_int(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """A seed of PyTorch's generators."""
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from error
    if value not in SEEDS:
        raise argparse.ArgumentTypeError(f"expected a number from -2^63 to 2^64 - 1, got {text!r}")
    return value


def port(text: str) -> int:
    """A TCP port."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 65535, got {text!r}")
    return int(text)


def non_negative(text: str) -> float:
    """A number of at least 0."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from error
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def formats(text: str) -> tuple[str, ...]:
    """Names of output formats, separated by commas; ``all`` stands for every one."""
    parts = [part.strip() for part in text.split(",")]
    names = tuple(name for part in parts for name in (ALL_FORMATS if part == "all" else (part,)))
    if unknown := sorted(set(names) - set(ALL_FORMATS)):
        raise argparse.ArgumentTypeError(
            f"unknown format {unknown[0]!r}; known: {', '.join(ALL_FORMATS)}, all"
        )
    try:
        for name in set(names) & set(EXTRA_FORMATS):
            check_format(name)
    except FormatUnavailable as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return names


def batch_options(options: argparse.Namespace) -> BatchOptions:
    """The part of the command line that concerns every scene.

    Raises:
        ValueError: a texture setting is out of range, or something is asked of an appearance stage that is
            left out.
    """
    if options.no_appearance:
        asked = {
            "--slat-steps": options.slat_steps is not None,
            "--slat-cfg": options.slat_cfg is not None,
            "--formats ply": "ply" in options.formats,
        }
        if wanted := [flag for flag, is_asked in asked.items() if is_asked]:
            raise ValueError(f"{', '.join(wanted)}: needs the appearance stage; leave --no_appearance out")
    return BatchOptions(
        options.output,
        options.formats,
        options.seed,
        sampling=given(steps=options.steps, cfg_strength=options.cfg),
        slat_sampling=given(steps=options.slat_steps, cfg_strength=options.slat_cfg),
        texture=TextureSettings(
            options.texture,
            options.texture_mode,
            options.texture_size,
            options.simplify,
            surface=options.surface,
        ),
        overwrite=options.overwrite,
        scene_attention=not options.no_scene_attention,
        appearance=not options.no_appearance,
        refine=options.refine,
        masks=options.masks,
        boxes=options.boxes,
        auto_masks=options.auto_masks,
    )


def given(**settings: float | None) -> dict[str, float]:
    """The settings that are not None."""
    return {name: value for name, value in settings.items() if value is not None}
