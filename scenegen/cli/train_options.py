"""The command line of training."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from safe_files.regular import shown
from scenegen.cli.parser import CommandParser
from scenegen.cli.store_options import path_or_url, use_mirror
from scenegen.cli.types import default_device, device, non_negative, port, positive_int, whole_number
from scenegen.stores.urls import StoreUrl
from scenegen.trainers.launch import DEFAULT_PORT, torchrun_place
from trellis_modules.config import MAX_SEED, ConfigError

DEFAULT_DATA_DIR = "./data/"
LATEST, NONE = "latest", "none"


def parse_arguments(
    description: str, arguments: Sequence[str] | None, prog: str | None = None
) -> argparse.Namespace:
    """Read the command line; wrong arguments end the process with status 2.

    Args:
        description: head of the help.
        arguments: None takes those of the process.
        prog: how the command is called.

    Returns:
        What was given; ``processes`` is how many processes this machine runs, and ``torchrun`` the place that
        another launcher gave this one, or None.
    """
    parser = CommandParser(description, prog)
    parser.add_argument("--config", type=Path, required=True, help="experiment JSON, see configs/")
    parser.add_argument(
        "--output-dir",
        type=path_or_url,
        required=True,
        help="states, logs and networks go here, also by URL; they are then kept on the disk, too",
    )
    _add_data(parser)
    _add_course(parser)
    _add_processes(parser)
    options = parser.parse_args(arguments)
    options.output_url = use_mirror(options, "output_dir")
    if options.anneal and not math.isfinite(options.time_limit):
        parser.error("--anneal needs --time-limit, the seconds over which the learning rate decays")
    if options.node_rank >= options.num_nodes:
        parser.error(
            f"argument --node-rank: expected 0 to --num-nodes - 1 = {options.num_nodes - 1}, "
            f"got {options.node_rank}"
        )
    try:
        options.torchrun = torchrun_place(os.environ)
        options.processes = 1 if options.torchrun else _processes(options)
    except ConfigError as error:
        parser.error(str(error))
    if options.torchrun and (options.num_gpus is not None or options.num_nodes != 1):
        parser.error("--num-gpus and --num-nodes: another launcher started this process (RANK is set in the "
                     "environment) and decides over them; leave them out, or unset RANK")  # fmt: skip
    return options


def _add_data(parser: CommandParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=data_dirs,
        default=(),
        help=f"roots of prepared data, also by URL, separated by commas; default: {DEFAULT_DATA_DIR}",
    )
    parser.add_argument(
        "--packs",
        type=path_or_url,
        nargs="+",
        default=(),
        help="mesh packs of the train split, for data made online",
    )
    parser.add_argument(
        "--latent-encoder",
        type=path_or_url,
        help="checkpoint stem of the encoder that makes the latents of scene_latents and latent_pictures",
    )
    parser.add_argument(
        "--validation-packs",
        type=path_or_url,
        nargs="+",
        default=(),
        help="mesh packs of the validation split, on which trainings from --packs are measured",
    )
    parser.add_argument(
        "--structure-decoder",
        type=path_or_url,
        help="checkpoint stem of the decoder with which object_flow and scene_flow show what they make, and "
        "object_flow measures it",
    )
    parser.add_argument(
        "--workers",
        type=whole_number,
        help="processes that compose scenes or read samples ahead, for each process that trains",
    )


def _add_course(parser: CommandParser) -> None:
    parser.add_argument(
        "--load-dir",
        type=lambda text: path_or_url(text) if text else None,
        help="output folder whose state is gone on from; default: --output-dir",
    )
    parser.add_argument(
        "--ckpt", type=state, default=LATEST, help="state to go on from: latest, none, or a step"
    )
    parser.add_argument(
        "--start-from",
        type=path_or_url,
        metavar="DIR",
        help="folder with a network of each role (ckpts of another run), from whose weights a new run starts "
        "in place of finetune_ckpt",
    )
    parser.add_argument(
        "--auto-retry",
        type=whole_number,
        default=3,
        help="how often a run that fails while it trains starts again; default: 3; 0 catches no error",
    )
    parser.add_argument(
        "--tryrun", action="store_true", help="build all, take some steps, tell sizes and times, save nothing"
    )
    parser.add_argument(
        "--profile", action="store_true", help="write a trace of some steps into the output folder, and end"
    )
    parser.add_argument(
        "--time-limit", type=non_negative, default=math.inf, help="seconds; the state is saved at the end"
    )
    parser.add_argument(
        "--anneal", action="store_true", help="spread the learning-rate schedule over --time-limit"
    )
    parser.add_argument(
        "--seed", type=run_seed, help="of weights, noise and data; default: those of the experiment"
    )


def _add_processes(parser: CommandParser) -> None:
    parser.add_argument("--device", type=device, help=f"default: {default_device()}, on this machine")
    parser.add_argument(
        "--num-gpus",
        type=gpu_count,
        help="processes of this machine, each with its GPU; default and -1: all GPUs; with --device cpu: 1",
    )
    parser.add_argument("--num-nodes", type=positive_int, default=1, help="machines; default: 1")
    parser.add_argument("--node-rank", type=whole_number, default=0, help="of this machine; default: 0")
    parser.add_argument(
        "--master-addr", default="localhost", help="where the first machine is reached; default: localhost"
    )
    parser.add_argument(
        "--master-port",
        type=port,
        help=f"port there; default: {DEFAULT_PORT} with several machines, else one that is free",
    )


def _processes(options: argparse.Namespace) -> int:
    """How many processes this machine runs.

    Raises:
        ConfigError: it has fewer GPUs, or a single one is named beside a number of them.
    """
    wanted = torch.device(default_device()) if options.device is None else options.device
    available = torch.cuda.device_count() if wanted.type == "cuda" and wanted.index is None else 1
    if options.num_gpus in (None, -1):
        return available
    if options.device is None and wanted.type == "cpu" and options.num_gpus > 1:
        raise ConfigError(
            f"argument --num-gpus: expected GPUs on this machine, found none, got {options.num_gpus}; give "
            "--device cpu to train with so many processes on the CPU"
        )
    if wanted.type != "cpu" and options.num_gpus > available:
        raise ConfigError(
            f"argument --num-gpus: expected at most {available} with --device {wanted}, "
            f"got {options.num_gpus}"
        )
    return options.num_gpus


def data_dirs(text: str) -> tuple[Path | StoreUrl, ...]:
    """Folders or URLs separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise argparse.ArgumentTypeError(f"expected folders separated by commas, got {shown(text)}")
    return tuple(map(path_or_url, parts))


def state(text: str) -> str | int:
    """Which saved state: "latest", "none" or a step."""
    if text in (LATEST, NONE):
        return text
    try:
        return whole_number(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"expected latest, none or a step, got {shown(text)}") from error


def gpu_count(text: str) -> int:
    """A number of GPUs: above 0, or -1 for all."""
    return -1 if text == "-1" else positive_int(text)


def run_seed(text: str) -> int:
    """A seed of a run."""
    value = whole_number(text)
    if value > MAX_SEED:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {MAX_SEED}, got {value}")
    return value
