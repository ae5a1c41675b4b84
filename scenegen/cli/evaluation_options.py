"""The command line of ``scenegen evaluate``: its options, the keys of the published configuration, checks."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from safe_files.json_reader import parse_json
from safe_files.limits import MAX_SURFACE_POINTS
from scenegen.cli.bundled import bundled
from scenegen.cli.engine_options import add_engine_arguments, engine_of
from scenegen.cli.parser import CommandParser
from scenegen.cli.store_options import path_or_url, use_mirror
from scenegen.cli.types import non_negative, positive_int, up_to, whole_number
from scenegen.evaluation.alignment import ALIGNMENT_MODES
from scenegen.evaluation.pictures.renderers import RENDERERS
from scenegen.evaluation.settings import LEVELS, PROTOCOLS
from scenegen.physics.packages import SIMULATION_PACKAGES, PhysicsUnavailable, check_packages

LPIPS_WEIGHTS = "checkpoints/lpips_alex.safetensors"
WORKERS = 2
"""Processes by default."""
PAPER_ALIGNERS = tuple(mode for mode in ALIGNMENT_MODES if mode != "best")

_OVERRIDE = re.compile(r"[A-Za-z_][\w.]*=.*", re.DOTALL)
_PREFIX = "system."


@dataclass(frozen=True)
class ConfigKey:
    """A key of the published evaluation's configuration.

    Attributes:
        flags: the arguments that a value stands for.
        about: for the table of keys.
    """

    flags: Callable[[Any], list[str]]
    about: str


def _flag(name: str) -> ConfigKey:
    return ConfigKey(lambda value: [name, str(value)], f"`{name}`")


def _switch(flags: Sequence[str], when: bool, about: str) -> ConfigKey:
    return ConfigKey(lambda value: list(flags) if bool(value) is when else [], about)


def _ignored(about: str) -> ConfigKey:
    return ConfigKey(lambda value: [], about)


CONFIG_KEYS: Mapping[str, ConfigKey] = {
    "input_dir": _flag("--prediction"),
    "gt_dir": _flag("--truth"),
    "output_dir": ConfigKey(lambda value: ["--truth", str(value)], "`--truth`; the old name of `gt_dir`"),
    "gpu_num": ConfigKey(lambda value: ["--world-size", str(max(1, int(value)))], "`--world-size`"),
    "gpu_id": _flag("--rank"),
    "num_points": _flag("--num-points"),
    "fscore_threshold": _flag("--fscore-threshold"),
    "alignment_mode": _flag("--aligner"),
    "alignment_max_iterations": _flag("--max-iterations"),
    "alignment_tolerance": _flag("--tolerance"),
    "scene_alignment": _switch(["--aligner", "none"], False, "`--aligner none` where false"),
    "asset_alignment": _switch(["--object-aligner", "none"], False, "`--object-aligner none` where false"),
    "eval_scene_level": _switch(["--levels", "object"], False, "`--levels object` where false"),
    "eval_object_level": _switch(["--levels", "scene"], False, "`--levels scene` where false"),
    "render_eval": _switch(["--appearance"], True, "`--appearance` where true"),
    "masked_scene_images_eval": _switch(["--no-photo"], False, "`--no-photo` where false"),
    "clip_model_name": _ignored("no effect: `--clip` takes a folder, nothing is fetched"),
    "dinov2_model_name": _ignored("no effect: `--dinov2` takes a file, nothing is fetched"),
    "lpips_model_name": _ignored("no effect: LPIPS is that of AlexNet"),
    "blender_path": ConfigKey(
        lambda value: ["--blender", str(value)], "`--blender`; of `--renderer blender`"
    ),
    "render_gt_images_eval": _ignored("no effect: pictures of the truth are always compared"),
    "dataset_dir": _ignored("with `set`: `--images <dataset_dir>/masked_images_<set>`"),
    "set": _ignored("see `dataset_dir`"),
    "save_dir": _ignored("with `filename`: `--output <save_dir>/<filename>.json --csv`"),
    "filename": _ignored("see `save_dir`"),
    "experiment_name": _ignored("no effect"),
    "seed": _ignored("no effect: each scene has a seed of its own, made of its id"),
    "device": _ignored("no effect: evaluation runs on the CPU"),
    "chunk_size": _ignored("no effect: neighbours are found by trees"),
    "metrics": _ignored("no effect, as in the published code"),
    "input_format": _ignored("no effect: scenes are GLB files"),
    "gt_format": _ignored("no effect: scenes are GLB files"),
    "scene_visualize": _ignored("no effect: `--html` shows scenes"),
    "asset_visualize": _ignored("no effect: `--html` shows scenes"),
}
"""Keys of the published configuration, with or without ``system.`` before them."""


class ConfigurationError(ValueError):
    """A configuration that cannot be used; the message says why in one line."""


def parse_arguments(
    description: str, arguments: Sequence[str], prog: str | None = None
) -> argparse.Namespace:
    """Parse and check the command line; a bad one ends the process with status 2 and one line.

    What is given by a flag counts more than ``key=value``, and that more than a configuration file.
    """
    parser = CommandParser(description, prog)
    _add_inputs(parser)
    _add_geometry(parser)
    _add_appearance(parser)
    _add_run(parser)
    add_reports(parser)
    add_engine_arguments(parser, WORKERS)
    overrides = [text for text in arguments if _OVERRIDE.fullmatch(text)]
    plain = [text for text in arguments if text not in overrides]
    try:
        values = _configuration(_config_file(plain)) | dict(map(_override, overrides))
        options = parser.parse_args([*config_flags(values), *plain])
    except ConfigurationError as error:
        parser.error(str(error))
    _check(parser, options)
    options.urls = tuple(filter(None, [use_mirror(options, name) for name in ("prediction", "truth")]))
    options.cpus_per_worker = options.cpus_per_worker or 1  # more would fight for the cores
    try:
        options.runs_on = engine_of(options, is_apart=True)
    except ValueError as error:
        parser.error(str(error))
    return options


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prediction", type=path_or_url, metavar="DIR", help="folder or URL of predicted scenes"
    )
    parser.add_argument("--truth", type=path_or_url, metavar="DIR", help="folder or URL of true scenes")
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="the scenes that count: ids, one a line, or JSON with a sha256",
    )
    parser.add_argument("--limit", type=positive_int, help="only the first scenes")
    parser.add_argument(
        "--config",
        "--config-name",
        type=Path,
        metavar="YAML",
        help="keys of the published evaluation, also given as key=value; see benchmarks/README.md",
    )


def _add_geometry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--protocol", choices=("both", *PROTOCOLS), default="both", help="how to measure (%(default)s)"
    )
    parser.add_argument(
        "--num-points",
        type=up_to(MAX_SURFACE_POINTS),
        default=10240,
        help="surface points per object (%(default)s)",
    )
    parser.add_argument(
        "--fscore-threshold", type=non_negative, default=0.1, help="distance of a found point (%(default)s)"
    )
    parser.add_argument(
        "--aligner",
        choices=PAPER_ALIGNERS,
        default="filterreg",
        help="of the paper's protocol; cpd: 5,000 points, with scale (%(default)s)",
    )
    parser.add_argument(
        "--object-aligner", choices=PAPER_ALIGNERS, help="of the paper's protocol; default: --aligner"
    )
    parser.add_argument("--levels", choices=LEVELS, help="of the paper's protocol; default: both")
    parser.add_argument(
        "--alignment",
        choices=tuple(mode for mode in ALIGNMENT_MODES if mode != "cpd"),
        default="best",
        help="of the corrected protocol; best: coarse search, FilterReg and ICP (%(default)s)",
    )
    parser.add_argument(
        "--physics",
        action="store_true",
        help="also simulate two seconds of gravity (bash setup.sh --sim); about ten seconds an object",
    )
    parser.add_argument("--max-iterations", type=positive_int, default=200, help="of aligners (%(default)s)")
    parser.add_argument(
        "--tolerance", type=non_negative, default=1e-4, help="move that ends an alignment (%(default)s)"
    )


def _add_appearance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--appearance", action="store_true", help="also compare pictures through the photo's camera"
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="photos and masks; default: masked_images_<set> of the truth",
    )
    parser.add_argument("--no-photo", action="store_true", help="compare with pictures of the truth alone")
    parser.add_argument(
        "--renderer", choices=RENDERERS, default="embree", help="what draws both sides (%(default)s)"
    )
    parser.add_argument("--blender", metavar="PATH", help="of --renderer blender; default: $SCENEGEN_BLENDER")
    parser.add_argument(
        "--render-samples",
        type=positive_int,
        help="rays along an edge of a pixel (2), or with Blender paths a pixel (64)",
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="where pictures are kept; default: beside --output"
    )
    parser.add_argument(
        "--lpips", type=Path, metavar="FILE", help=f"weights of LPIPS; default: {LPIPS_WEIGHTS}, if it exists"
    )
    parser.add_argument("--clip", type=Path, metavar="DIR", help="CLIP model as transformers saves it")
    parser.add_argument("--dinov2", type=Path, metavar="FILE", help="DINOv2 encoder, .json beside it")
    parser.add_argument("--inception", type=Path, metavar="FILE", help="Inception network of FID and KID")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rank", type=whole_number, default=0, help="number of this part of a run")
    parser.add_argument("--world-size", type=positive_int, default=1, help="number of parts; join with merge")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a scene is missing or failed")


def add_reports(parser: argparse.ArgumentParser) -> None:
    """What is written; `merge` writes the same."""
    parser.add_argument(
        "--output",
        type=Path,
        metavar="JSON",
        help="report; finished scenes are kept beside it in <name>.records.jsonl and not redone",
    )
    parser.add_argument("--csv", action="store_true", help="also one row a scene, and one an object")
    parser.add_argument("--markdown", action="store_true", help="also the paper's columns and all tables")
    parser.add_argument("--verbose", action="store_true", help="print all tables, with intervals and medians")
    parser.add_argument("--html", type=Path, metavar="DIR", help="also a page that shows every scene")


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    for name in ("prediction", "truth"):
        if getattr(options, name) is None:
            parser.error(f"the following arguments are required: --{name}")
    check_reports(parser, options)
    if options.physics:
        if options.protocol == "paper":
            parser.error("--physics: of the corrected protocol; leave --protocol paper out")
        try:
            check_packages(SIMULATION_PACKAGES)
        except PhysicsUnavailable as error:
            parser.error(f"--physics: {error}")
    if options.fscore_threshold <= 0:
        parser.error("--fscore-threshold: expected a number above 0")
    if options.rank >= options.world_size:
        parser.error(f"--rank: expected a number below --world-size {options.world_size}, got {options.rank}")
    if options.world_size > 1 and options.output is None:
        parser.error("--world-size needs --output, beside which the records are written")
    appearance = ("images", "pictures", "lpips", "clip", "dinov2", "inception", "no_photo")
    if wanted := [name for name in appearance if getattr(options, name)]:
        if not options.appearance:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in wanted)
            parser.error(f"{flags}: of --appearance, which is not asked for; add it or leave them out")
    if options.appearance and not (options.pictures or options.output):
        parser.error("--appearance needs --output or --pictures, where pictures are kept")
    options.object_aligner = options.object_aligner or options.aligner
    if options.appearance and options.lpips is None and Path(bundled(LPIPS_WEIGHTS)).is_file():
        options.lpips = Path(bundled(LPIPS_WEIGHTS))


def check_reports(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with one line where something is to be written beside a report that is not."""
    for name in ("csv", "markdown"):
        if getattr(options, name) and options.output is None:
            parser.error(f"--{name} needs --output, beside which the table is written")


# --- keys of the published configuration -------------------------------------------------------------------


def _config_file(arguments: Sequence[str]) -> Path | None:
    """The value of --config, which is read before the other arguments."""
    found = None
    for text, following in zip(arguments, [*arguments[1:], None]):
        name, equals, value = text.partition("=")
        if name.replace("_", "-") in ("--config", "--config-name"):
            found = value if equals else following
    return Path(found) if found else None


def _configuration(path: Path | None) -> dict[str, Any]:
    """Keys and values of a configuration file, those under ``system`` with that prefix."""
    if path is None:
        return {}
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError(
            "--config expects the package 'pyyaml', which is not installed; run bash setup.sh --eval"
        ) from error
    path = path if path.suffix else path.with_suffix(".yaml")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        first = str(error).partition("\n")[0]
        raise ConfigurationError(f"--config {path}: expected a YAML file, got: {first}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("system", {}), dict):
        raise ConfigurationError(f"--config {path}: expected keys and values, got {type(raw).__name__}")
    values = {str(key): value for key, value in raw.items() if key not in ("system", "defaults", "hydra")}
    return values | {f"{_PREFIX}{key}": value for key, value in raw.get("system", {}).items()}


def _override(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, parse_json(value)
    except ValueError:
        return key, {"True": True, "False": False, "None": None}.get(value, value)


def config_flags(values: Mapping[str, Any]) -> list[str]:
    """The arguments that keys of the published configuration stand for.

    Args:
        values: by key, with or without ``system.``; None has no effect.

    Raises:
        ConfigurationError: a key is unknown.
    """
    plain = {key.removeprefix(_PREFIX): value for key, value in values.items()}
    for key in plain:
        if key not in CONFIG_KEYS:
            near = get_close_matches(key, CONFIG_KEYS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"{key}: unknown key of the configuration{hint}")
    plain = {key: value for key, value in plain.items() if value is not None}
    flags: list[str] = []
    for key in CONFIG_KEYS:  # in the order of the table: what turns an aligner off comes after its name
        if key in plain:
            flags += CONFIG_KEYS[key].flags(plain[key])
    if plain.get("scene_alignment") is False and plain.get("asset_alignment") is not False:
        flags += ["--object-aligner", str(plain.get("alignment_mode", "filterreg"))]
    if plain.get("render_eval") and "dataset_dir" in plain:
        flags += ["--images", str(Path(plain["dataset_dir"]) / f"masked_images_{plain.get('set', 'test')}")]
    if not plain.get("render_eval"):
        flags = [flag for flag in flags if flag != "--no-photo"]
    if "save_dir" in plain:
        flags += [
            "--output",
            str(Path(plain["save_dir"]) / f"{plain.get('filename', 'metrics')}.json"),
            "--csv",
        ]
    return flags
