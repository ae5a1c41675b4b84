"""Make scenes of photos in the browser.

    python interactive_demo.py

serves a page on this machine alone, http://127.0.0.1:7860, until it is stopped with Ctrl-C: choose a picture,
draw a box around each object, correct the masks with clicks, generate, look around and download. It does all
of that on a CPU with the bundled model. It needs the extra ``demo``: bash setup.sh --demo.

Exit status: 0 stopped, 2 the page cannot be served.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from scenegen.cli.bundled import bundled
from scenegen.cli.demo import DEFAULT_HOST, add_address_arguments
from scenegen.cli.parser import CommandParser
from scenegen.cli.reports import set_up_logging
from scenegen.cli.types import default_device, device, positive_float, positive_int
from scenegen.demo.examples import EXAMPLES_FOLDER
from scenegen.demo.listening import Address
from scenegen.demo.options import DemoOptions
from scenegen.demo.server import DemoServer, DemoUnavailable, read_passwords
from scenegen.hub.releases import SMALL_MODEL
from trellis_modules.attention.backends import REGISTRY as ATTENTION

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(arguments, prog)
    set_up_logging()
    if options.attn_backend is not None:
        os.environ[ATTENTION.variable] = options.attn_backend
    try:
        passwords = None if options.auth is None else read_passwords(options.auth)
        address = Address(options.host or DEFAULT_HOST, options.port, options.share, passwords)
        with DemoServer(options.demo, address, Path(bundled(EXAMPLES_FOLDER))) as server:
            server.wait()
    except (DemoUnavailable, OSError) as error:
        logger.error("%s", error)
        return 2
    return 0


def parse_arguments(arguments: Sequence[str] | None, prog: str | None = None) -> argparse.Namespace:
    """Parse and check the command line; the options have `DemoOptions` as ``demo``."""
    parser = CommandParser(__doc__, prog)
    add_model_arguments(parser)
    add_limit_arguments(parser)
    add_address_arguments(parser)
    parser.add_argument("--share", action="store_true", help="a public link through gradio's servers")
    parser.add_argument(
        "--auth", type=Path, metavar="FILE", help="lines name:password; without it there is no login"
    )
    options = parser.parse_args(arguments)
    try:
        options.demo = demo_options(options)
    except ValueError as error:
        parser.error(str(error))
    return options


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """What makes masks and scenes, and where."""
    parser.add_argument(
        "--checkpoint",
        "--model",
        default=bundled(SMALL_MODEL),
        help="folder, or owner/name on the model hub; default: the small model of a checkout",
    )
    parser.add_argument("--revision", help="of a checkpoint on the hub")
    parser.add_argument(
        "--sam2",
        "--sam2-checkpoint",
        help="SAM 2 or 2.1 by name (sam2.1-hiera-large, ...), folder or owner/name; default: GrabCut, which "
        "needs no weights",
    )
    parser.add_argument(
        "--sam2-config", help="size of SAM 2 by the name of its configuration, where --sam2 is not given"
    )
    parser.add_argument(
        "--cutout-model", type=Path, metavar="FILE", help="ONNX network whose map starts GrabCut"
    )
    parser.add_argument(
        "--text-model", help="folder or owner/name of Grounding DINO, to find objects by name"
    )
    parser.add_argument(
        "--device",
        type=devices,
        default=default_device(),
        help="cpu, mps, cuda, or several: cuda:0,cuda:1 (%(default)s)",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="default: float32 on a CPU, else float16"
    )
    parser.add_argument(
        "--attn-backend", choices=tuple(ATTENTION.backends), help="of attention; default: the fastest"
    )
    parser.add_argument(
        "--low-vram", action="store_true", help="load each network for its stage and free it after it"
    )


def add_limit_arguments(parser: argparse.ArgumentParser) -> None:
    """What visitors may do, and what is kept of it."""
    limits = DemoOptions("")
    numbers = {
        "--max-objects": (limits.max_objects, "objects of one scene"),
        "--max-side": (limits.max_side, "pixels; larger pictures are made smaller"),
        "--max-upload-mb": (limits.max_upload_mb, "size of one uploaded file"),
        "--queue-size": (limits.queue_size, "scenes that may wait"),
    }
    for flag, (default, what) in numbers.items():
        parser.add_argument(flag, type=positive_int, default=default, help=f"{what} (%(default)s)")
    parser.add_argument(
        "--session-hours",
        type=positive_float,
        default=limits.session_hours,
        help="without use, after which a visitor's files are deleted (%(default)s)",
    )
    parser.add_argument(
        "--output-dir", type=Path, help="for the files of sessions; default: a temporary folder"
    )
    parser.add_argument(
        "--debug-dumps",
        type=Path,
        metavar="FOLDER",
        help="keep the input of every scene there; default: nothing is kept",
    )


def devices(text: str) -> tuple[torch.device, ...]:
    """Devices of this machine, separated by commas."""
    found = tuple(device(part.strip()) for part in text.split(","))
    if len(set(found)) != len(found):
        raise argparse.ArgumentTypeError(f"expected different devices, got {text!r}")
    return found


def demo_options(options: argparse.Namespace) -> DemoOptions:
    """The part of the command line that is not about the address.

    Raises:
        ValueError: a limit is out of range, or two flags contradict each other.
    """
    if options.sam2 and options.sam2_config:
        raise ValueError("--sam2-config: names a SAM 2 as --sam2 does; leave one of them out")
    return DemoOptions(
        checkpoint=options.checkpoint,
        revision=options.revision,
        sam2=options.sam2 or options.sam2_config,
        cutout_model=options.cutout_model,
        text_model=options.text_model,
        devices=options.device,
        dtype=getattr(torch, options.dtype) if options.dtype else None,
        low_vram=options.low_vram,
        max_objects=options.max_objects,
        max_side=options.max_side,
        max_upload_mb=options.max_upload_mb,
        session_hours=options.session_hours,
        queue_size=options.queue_size,
        folder=options.output_dir,
        debug_dumps=options.debug_dumps,
    )
