"""Change one object of a finished scene and keep the rest as it is.

    scenegen reroll outputs/lounge --object obj_2 [--seed 7]           another chair
    scenegen reroll outputs/lounge --object obj_2 --replace-mask FILE  the same from another mask
    scenegen reroll outputs/lounge --add-mask FILE                     an object that was forgotten
    scenegen reroll outputs/lounge --object obj_2 --remove
    scenegen reroll outputs/lounge --object obj_2 --use-mesh FILE      a mesh of your own in its place
    scenegen reroll outputs/lounge --undo

The scene must have been made with --keep-state. Every other object keeps its mesh, texture and pose to the
last bit. The files before are kept in <scene>/versions, and --undo brings them back.

Exit status: 0 the scene was changed, 1 it could not be made, 2 nothing could be started.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from safe_files.limits import MAX_STEPS
from scenegen.batch.origin import ORIGIN_KEY
from scenegen.cli.bundled import bundled
from scenegen.cli.candidate_options import add_candidate_arguments, candidates_of
from scenegen.cli.infer import show_progress
from scenegen.cli.parser import CommandParser
from scenegen.cli.reports import set_up_logging, tell_device
from scenegen.cli.sampling_options import FEW_STEPS_HELP
from scenegen.cli.types import default_device, device, seed, up_to
from scenegen.export.kept_files import read_record
from scenegen.export.options import ExportOptions
from scenegen.export.registry import representation_requests
from scenegen.export.scene_files import ExportError, check_meshes, check_output, write_scene
from scenegen.export.state import SceneStateError, read_state
from scenegen.export.versions import go_back, keep_version
from scenegen.hub.releases import SMALL_MODEL
from scenegen.inputs.forms.numbered_pictures import read_mask
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.mesh_files import read_mesh
from scenegen.inputs.objects import problem_of
from scenegen.inputs.photos import ScenePhoto
from scenegen.inputs.read_options import ReadOptions
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.reroll import EditError, check_objects, remove_objects
from scenegen.pipelines.result import SceneResult
from scenegen.pipelines.settings import DECODER_ROLES, SEEDS, RunSettings
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.config import ConfigError, build

logger = logging.getLogger(__name__)

_OBJECT = re.compile(r"(?:obj_)?(\d{1,9})")


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(arguments, prog)
    set_up_logging()
    try:
        if options.undo:
            version = go_back(_existing(options.scene))
            print(f"back to version {version.name} of {options.scene}; what it was is in versions/undone")
            return 0
        result = read_state(_existing(options.scene))
        check_output(options.scene)
        record = finished_record(options.scene)
        changed = change(result, record, options)
        kept = write_changed(changed, record, options.scene)
    except EditError as error:
        logger.error("%s: %s", options.scene, error)
        return 2
    except (SceneInputError, CheckpointError, ExportError, SceneStateError) as error:  # they name their files
        logger.error("%s", error)
        return 2
    except (torch.OutOfMemoryError, MemoryError) as error:
        logger.error("%s: expected memory for the objects, got none (%s)", options.scene, _first_line(error))
        return 1
    except OSError as error:
        logger.error("%s: expected to write the scene, the disk refuses (%s)", options.scene, error)
        return 1
    for line in told(result, changed, options.scene, kept):
        print(line)
    return 0


def parse_arguments(arguments: Sequence[str] | None, prog: str | None = None) -> argparse.Namespace:
    """Parse and check the command line; exits with status 2 on a bad argument."""
    parser = CommandParser(__doc__, prog)
    parser.add_argument("scene", type=Path, help="folder of a scene that was made with --keep-state")
    parser.add_argument(
        "--object",
        type=object_number,
        dest="objects",
        action="append",
        default=[],
        metavar="OBJ",
        help="obj_2 or 2; may be given several times",
    )
    parser.add_argument("--seed", type=seed, help="of the noise; default: the next one of the scene")
    add_candidate_arguments(parser)
    add_ways(parser)
    parser.add_argument(
        "--few-steps",
        action=argparse.BooleanOptionalAction,
        help=f"{FEW_STEPS_HELP}, or the usual one; default: that of the scene",
    )
    parser.add_argument("--steps", type=up_to(MAX_STEPS), help="sampling steps; default: those of the scene")
    parser.add_argument(
        "--checkpoint", default=bundled(SMALL_MODEL), help="that made the scene; default: the small model"
    )
    parser.add_argument("--revision", help="of a checkpoint on the hub")
    parser.add_argument(
        "--device", type=device, default=default_device(), help="cpu, mps, cuda, cuda:0 (%(default)s)"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="default: float32 on a CPU, else float16"
    )
    options = parser.parse_args(arguments)
    if problem := problem_of_options(options):
        parser.error(problem)
    return options


def add_ways(parser: argparse.ArgumentParser) -> None:
    """What is done to the objects; without any of these they are made anew."""
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--replace-mask", type=Path, metavar="FILE", help="another mask of the object, white on it"
    )
    ways.add_argument(
        "--add-mask", type=Path, metavar="FILE", help="the mask of a further object, without --object"
    )
    ways.add_argument("--remove", action="store_true", help="take the objects out of the scene")
    ways.add_argument(
        "--use-mesh", type=Path, metavar="FILE", help="GLB, OBJ, PLY or STL that takes the object's place"
    )
    ways.add_argument("--undo", action="store_true", help="go back to the version before")
    parser.add_argument("--lock-pose", action="store_true", help="the object stays where it stands")


def object_number(text: str) -> int:
    """The number of an object, as people and files name it."""
    match = _OBJECT.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected the name of an object such as obj_2, got {text[:40]!r}")
    return int(match[1])


def problem_of_options(options: argparse.Namespace) -> str | None:
    """Which options do not go together, in one line."""
    needs_none = options.undo or options.add_mask is not None
    if needs_none and options.objects:
        way = "--undo" if options.undo else "--add-mask"
        return f"{way}: is about no object that is there; leave --object out"
    if not needs_none and not options.objects:
        return "expected --object, --add-mask or --undo; say what is changed"
    if (options.replace_mask or options.use_mesh) and len(set(options.objects)) > 1:
        return "--replace-mask and --use-mesh: are for one object, got several; change one after the other"
    samples = not (options.undo or options.remove or options.use_mesh)
    given = {
        "--seed": options.seed,
        "--few-steps": options.few_steps,
        "--steps": options.steps,
        "--candidates": options.candidates,
        "--budget": options.budget,
    }
    if not samples and (wrong := [flag for flag, value in given.items() if value is not None]):
        return f"{', '.join(wrong)}: of objects that are made anew, which none is; leave it out"
    if options.lock_pose and (options.undo or options.remove or options.add_mask is not None):
        return "--lock-pose: of an object that is there and gets another shape; leave it out"
    return None


def change(result: SceneResult, record: Mapping[str, Any], options: argparse.Namespace) -> SceneResult:
    """The scene with the change that the command line asks for, and with all that its formats draw.

    Raises:
        EditError, SceneInputError, CheckpointError: it cannot be made.
    """
    objects = list(dict.fromkeys(options.objects))
    check_objects(result, objects)
    requests = representation_requests(record["formats"], export_options(record, options.scene))
    if options.remove and not requests:
        return remove_objects(result, objects)  # no network is needed
    mesh = None if options.use_mesh is None else read_mesh(options.use_mesh)
    masks = given_masks(result, options)
    tell_device(options.device, options.dtype)
    settings = next_settings(result, options)
    pipeline = load_pipeline(options, settings.few_steps)
    with tqdm(desc=options.scene.name, leave=False, disable=None) as bar:
        shown: dict[str, Any] = {"lock_pose": options.lock_pose, "on_progress": partial(show_progress, bar)}
        if options.remove:
            changed = remove_objects(result, objects)
        elif mesh is not None:
            changed = pipeline.place_mesh(result, objects[0], mesh, **shown)
        else:
            changed = pipeline.reroll(result, objects, settings, masks=masks, **shown)
    drawn = {request.representation for request in requests}
    known = {name for name in drawn if DECODER_ROLES[name] in pipeline.networks.roles}
    return pipeline.with_representations(changed, known)


def next_settings(result: SceneResult, options: argparse.Namespace) -> RunSettings:
    """How objects are made: as the scene was, with the next seed, but for the command line.

    Raises:
        EditError: there are not so many seeds.
    """
    state = result.state
    assert state is not None, "read_state gives one"
    settings = replace(state.settings, candidates=candidates_of(options))
    if options.few_steps not in (None, settings.few_steps):  # what the scene was told is for the other flow
        settings = replace(settings, few_steps=options.few_steps, sampling={})
    if options.steps is not None:
        settings = replace(settings, sampling={**settings.sampling, "steps": options.steps})
    following = state.seed + 1 if state.seed + 1 in SEEDS else 0
    try:
        return replace(settings, seed=following if options.seed is None else options.seed)
    except ValueError as error:  # candidates have the seeds after it
        raise EditError(str(error)) from error


def given_masks(result: SceneResult, options: argparse.Namespace) -> dict[int, Any]:
    """The mask that the command line gives, by the number of its object.

    Raises:
        SceneInputError: it cannot be read, or shows no object.
    """
    path = options.replace_mask or options.add_mask
    if path is None:
        return {}
    assert result.state is not None, "read_state gives one"
    mask = read_mask(path, ScenePhoto(result.state.views[0].photo))
    if problem := problem_of(mask, ReadOptions(inverted="keep")):
        raise SceneInputError(f"{path}: {problem}")
    free = max((*result.object_ids, *result.left_out), default=-1) + 1
    return {options.objects[0] if options.objects else free: mask}


def load_pipeline(options: argparse.Namespace, few_steps: bool) -> SceneGenPipeline:
    """The pipeline of the checkpoint, with the flow of structures that is used.

    Raises:
        CheckpointError: a file is missing or damaged, or there is no such flow.
    """
    dtype = getattr(torch, options.dtype) if options.dtype else None
    return SceneGenPipeline.from_pretrained(
        options.checkpoint, options.device, dtype, revision=options.revision, few_steps=few_steps
    )


def finished_record(folder: Path) -> dict[str, Any]:
    """The record of a scene.

    Raises:
        ExportError: there is none.
    """
    record = read_record(folder)
    if record is None:
        raise ExportError(
            f"{folder}: expected a finished scene, found no record of one; --undo may bring one"
        )
    return record


def export_options(record: Mapping[str, Any], folder: Path) -> ExportOptions:
    """How the files of a scene were written.

    Raises:
        ExportError: it has other options than this version.
    """
    try:
        return build(ExportOptions, record.get("export", {}), "export")
    except ConfigError as error:
        raise ExportError(f"{folder}: its record has other options than this version ({error})") from error


def write_changed(result: SceneResult, record: Mapping[str, Any], folder: Path) -> Path:
    """Write a scene in the formats that its folder has, after the files there are kept as a version.

    Returns:
        The folder of the version.

    Raises:
        ExportError: see `write_scene`; nothing was changed.
        OSError: the disk refuses.
    """
    check_meshes(result, folder.name)
    kept = keep_version(folder)
    notes = {ORIGIN_KEY: record[ORIGIN_KEY]} if ORIGIN_KEY in record else {}
    write_scene(result, folder, record["formats"], export_options(record, folder), notes=notes)
    return kept


def told(before: SceneResult, after: SceneResult, folder: Path, kept: Path) -> list[str]:
    """Lines about what was changed."""
    old = {item.object_id: item for item in before.objects}
    new = {item.object_id: item for item in after.objects}
    changed = [
        item.node for number, item in new.items() if old.get(number) is not item and _is_new(item, old)
    ]
    gone = [item.node for number, item in old.items() if number not in new]
    words = [f"made {', '.join(changed)}"] if changed else []
    words += [f"removed {', '.join(gone)}"] if gone else []
    stays = len(new) - len(changed)
    lines = [
        f"{folder}: {' and '.join(words)}; {stays} object{'s' * (stays != 1)} stayed as they were; "
        f"before: {kept}, --undo brings it back"
    ]
    lines += [
        f"{item.node}: {item.problem}" for item in new.values() if item.node in changed and item.problem
    ]
    return lines


def _is_new(item: Any, old: dict[int, Any]) -> bool:
    """Whether an object was made: those that stay share their meshes with those before."""
    return item.object_id not in old or item.mesh is not old[item.object_id].mesh


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise ExportError(f"{folder}: expected the folder of a scene, found none; check the path")
    return folder


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
