"""Options of ``scenegen infer`` for the scenes of a data root, and running one process for each GPU."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from scenegen.batch.scenes import SceneReport
from scenegen.cli.store_options import path_or_url
from scenegen.cli.types import positive_int, whole_number
from scenegen.export.registry import DEFAULT_FORMATS
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.layout import InputScene

DEFAULT_ROOT = "assets"
FRAMES = ("query", "first")

_EXPORT_FORMATS = ("glb", "poses")


def gpus(text: str) -> int:
    """A number of GPUs, or ``auto`` for all of this machine; 0 where it has none."""
    return torch.cuda.device_count() if text == "auto" else positive_int(text)


def add_root_arguments(parser: argparse.ArgumentParser) -> None:
    """A data root, and its share among processes."""
    root = parser.add_argument_group("data root, in place of --input and --output")
    root.add_argument(
        "--output-dir",
        type=path_or_url,
        metavar="ROOT",
        help="data root: photos and masks are in ROOT/masked_images_<set>, scenes go to "
        f"ROOT/scene_<set>_<name>/<id>.glb; default with --set: {DEFAULT_ROOT}",
    )
    root.add_argument("--set", dest="set_name", metavar="SET", help="name of the split; default: test")
    root.add_argument("--model-name", metavar="NAME", help="part of the folder's name; default: SceneGen")
    root.add_argument("--gpu-num", type=whole_number, help="number of processes that share the scenes")
    root.add_argument("--gpu-id", type=whole_number, help="which of these processes this one is")
    root.add_argument("--gpus", type=gpus, help="start one process on each of so many GPUs, or 'auto'")
    root.add_argument("--only", type=Path, metavar="FILE", help="only the scenes with these ids, one a line")
    parser.add_argument(
        "--frame",
        choices=FRAMES,
        help="where scene files stand: in the frame of the query (largest mask), or of the object with the "
        "lowest number, as true scenes do; default: query, with --set first",
    )


def apply_root(options: argparse.Namespace) -> None:
    """Turn the options of a data root into those of any folder.

    Raises:
        ValueError: they contradict each other.
    """
    options.is_root = options.output_dir is not None or options.set_name is not None
    own = {"--model-name": options.model_name, "--gpu-num": options.gpu_num, "--gpu-id": options.gpu_id}
    own |= {"--gpus": options.gpus, "--only": options.only}
    if not options.is_root:
        if wanted := [flag for flag, value in own.items() if value is not None]:
            raise ValueError(f"{', '.join(wanted)}: of a data root; add --output-dir and --set")
        options.frame = options.frame or "query"
        return
    if options.masks or options.boxes:
        raise ValueError("--masks, --boxes: of one photo; leave them out with --set")
    if options.formats not in (DEFAULT_FORMATS, _EXPORT_FORMATS):
        raise ValueError("--formats: scenes of a data root are GLB files; leave it out with --set")
    if options.room:
        raise ValueError(
            "--room: scenes of a data root are compared object by object; leave it out with --set"
        )
    set_name, name = options.set_name or "test", options.model_name or "SceneGen"
    root = options.output_dir or Path(DEFAULT_ROOT)
    options.input = root / f"masked_images_{set_name}"
    options.output = root / f"scene_{set_name}_{name}"
    options.formats = _EXPORT_FORMATS
    options.frame = options.frame or "first"
    options.gpu_num, options.gpu_id = options.gpu_num or 1, options.gpu_id or 0
    if options.gpu_id >= options.gpu_num:
        raise ValueError(
            f"--gpu-id: expected a number below --gpu-num {options.gpu_num}, got {options.gpu_id}"
        )
    if options.gpus and options.gpu_num > 1:
        raise ValueError("--gpus: starts the processes that --gpu-num counts; leave one of them out")
    if options.gpus:
        if options.workers or options.gpus_per_worker:
            raise ValueError("--gpus: means --workers and --gpus-per-worker 1; leave them out")
        options.workers, options.gpus_per_worker = options.gpus, 1.0


def only_named(scenes: list[InputScene], options: argparse.Namespace) -> list[InputScene]:
    """The scenes that the file of --only names; all where it is not given.

    Raises:
        SceneInputError: the file cannot be read.
    """
    if options.only is None:
        return scenes
    try:
        wanted = set(options.only.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise SceneInputError(f"--only {options.only}: expected ids of scenes, got {error}") from error
    return [scene for scene in scenes if scene.source.name in wanted]


def share(pending: list[InputScene], options: argparse.Namespace) -> list[InputScene]:
    """The scenes of this process among those that are still to be made."""
    return pending[options.gpu_id :: options.gpu_num]


def speed_line(reports: Sequence[SceneReport]) -> str:
    """Assets, seconds, the median of the seconds an asset without the first scene, which warms up."""
    done = [report for report in reports if report.status == "done" and report.objects]
    if not done:
        return "0 assets"
    seconds = [sum(report.seconds.values()) for report in done]
    rates = [spent / report.objects for spent, report in zip(seconds, done, strict=True)]
    peak = max((gib for report in done for gib in report.peak_gib.values()), default=0.0)
    text = f"{sum(report.objects for report in done)} assets in {sum(seconds):.1f} s"
    if len(rates) > 1:
        text += f", {median(rates[1:]):.2f} s an asset (median without the first scene)"
    return text + (f", peak memory {peak:.2f} GiB" if peak else "")
