"""Seven sets of 40 scenes with one difficulty each: what they are, and how well a checkpoint does on them.

    python -m benchmarks.hard_scenes make --data-root data/sweethome3d --root data/hard
    python -m benchmarks.hard_scenes predict --root data/hard
    python -m benchmarks.hard_scenes measure --root data/hard --output data/hard/tables
    python -m benchmarks.hard_scenes insert --output data/hard/tables

The scenes of ``low``, ``hidden``, ``cut`` and ``wide`` are those of ``usual`` seen by other cameras. Those of
``masks`` have masks that are eroded, dilated, coarse, or have holes. Those of ``looks`` are rendered with
Blender in the light of photos of all directions (of the Debian package blender-data), with patterns on most
surfaces. ``hard_scenes_test.json`` and ``hard_scenes_validation.json`` hold the scenes in full, and
``hard_scenes.json`` the hashes of the masks that ``make`` writes. Settings are chosen on the validation
furniture (``--split validation``). Every step goes on where an earlier run ended. ``choose`` and ``record``
write these files anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.evaluation_tables import resolve_paths, run_together
from benchmarks.hard_scenes_table import BEGIN, END, PAGE, camera_figures, table
from dataset_toolkits.blender_renderer import BlenderLook, render_with_blender
from dataset_toolkits.subsets.mesh_library import MeshLibrary
from safe_files.json_reader import read_json
from scenegen.blender.program import BlenderError
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.evaluation.differences import read_report
from scenegen.evaluation.loading import EvaluationError, find_scene_files
from scenegen.inputs.names import mask_name
from scenegen.synthesis.layouts.hard_views import HARD_VIEWS, hard_views
from scenegen.synthesis.layouts.pool import ModelPool
from scenegen.synthesis.layouts.scene_layout import SceneLayout
from scenegen.synthesis.layouts.scene_list import SceneList
from scenegen.synthesis.layouts.scene_selection import VisibilityRule, balanced_counts, select_scenes
from scenegen.synthesis.pictures.mask_faults import faulty_masks
from scenegen.synthesis.pictures.render_mesh import RenderMesh
from scenegen.synthesis.pictures.scene_renderer import ScenePicture, render_scene
from scenegen.synthesis.pictures.scene_set import write_scene_set
from scenegen.synthesis.pictures.scene_writer import ScenePaths
from trellis_modules.files import atomic_write_text

FOLDER = Path(__file__).parent
SPLITS = ("test", "validation")
USUAL, MASKS, LOOKS = "usual", "masks", "looks"
CHOSEN = (USUAL, *HARD_VIEWS)
SETS = (*CHOSEN, MASKS, LOOKS)
SCENES = 40
SEED = 20
HASHES = FOLDER / "hard_scenes.json"
LOOKS_SIZE, LOOKS_SAMPLES = 384, 24  # pixels a side, scaled up afterwards, and paths a pixel
_MASK_TRIES = 100

_LOG = logging.getLogger("hard_scenes")


def list_path(split: str) -> Path:
    """The committed scenes of a split."""
    return FOLDER / f"hard_scenes_{split}.json"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--split", choices=SPLITS, default="test", help="furniture (%(default)s)")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="default: all")
    parser.add_argument(
        "--data-root", type=Path, metavar="DIR", help="furniture of build_metadata; of choose and make"
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="has or gets the scenes and predictions")
    parser.add_argument("--output", type=Path, metavar="DIR", help="of the reports; of measure and insert")
    parser.add_argument("--checkpoint", metavar="DIR", help="of predict; default: the bundled one")
    parser.add_argument("--few-steps", action="store_true", help="of predict: see inference.py")
    parser.add_argument("--model-name", default="structure", help="of the predictions (%(default)s)")
    parser.add_argument("--device", default="cpu", help="of predict (%(default)s)")
    parser.add_argument("--processes", type=positive_int, default=1, help="which share the work")
    parser.add_argument("--limit", type=positive_int, help="only the first scenes of each set")
    options = parser.parse_args(arguments)
    needed = {"choose": ("data_root",), "make": ("data_root", "root"), "predict": ("root",)}
    needed |= {"record": ("root",), "measure": ("root", "output"), "insert": ("output",)}
    for name in needed[options.step]:
        if getattr(options, name) is None:
            parser.error(f"{options.step} needs --{name.replace('_', '-')}")
    resolve_paths(options, "data_root", "root", "output")
    return options


def choose(options: argparse.Namespace) -> int:
    """Choose the scenes of some sets of a split, and write them into the list."""
    library = MeshLibrary(options.data_root)
    infos = {info.id: info for info in library.of_split(options.split)}
    meshes = {model_id: library.render_mesh(model_id) for model_id in infos}
    path, total = list_path(options.split), options.limit or SCENES
    known = SceneList.load(path).layouts if path.is_file() else ()
    sets = {name: [scene for scene in known if scene.scene_id.startswith(f"{name}_")] for name in CHOSEN}
    if USUAL in options.sets:
        sets[USUAL] = _usual(options.split, ModelPool(list(infos.values())), meshes, total)
    for name in HARD_VIEWS:
        if name in options.sets:
            views = hard_views(sets[USUAL][:total], name, infos, meshes, SEED)
            sets[name] = list(tqdm(views, desc=name, total=total, unit="scene", disable=None))
    demands = [f"{USUAL}: {VisibilityRule().describe()}"]
    demands += [f"{name}: {view.describe()}" for name, view in HARD_VIEWS.items()]
    layouts = tuple(scene for scenes in sets.values() for scene in scenes)
    rule = f"seed {SEED}; " + "; ".join(demands)
    SceneList(options.split, rule, VisibilityRule().image_size, layouts).save(path)
    return 0


def _usual(split: str, pool: ModelPool, meshes: Mapping[str, RenderMesh], total: int) -> list[SceneLayout]:
    """The first of the fixed test scenes; of validation furniture, which has fewer, new ones."""
    if split == "test":
        layouts = SceneList.load(FOLDER / "test_scenes.json").layouts[:total]
    else:
        layouts = tuple(select_scenes(SEED, pool, meshes, balanced_counts(total), ""))
    return [replace(layout, scene_id=f"{USUAL}_{number:04d}") for number, layout in enumerate(layouts)]


def layouts_of(split: str, name: str, limit: int | None = None) -> list[SceneLayout]:
    """The scenes of a set in their order; ``masks`` and ``looks`` have those of ``usual``."""
    prefix = name if name in HARD_VIEWS else USUAL
    layouts = SceneList.load(list_path(split)).layouts
    return [layout for layout in layouts if layout.scene_id.startswith(f"{prefix}_")][:limit]


def make(options: argparse.Namespace) -> int:
    """Render the sets, and compare the hashes of their masks with the committed ones."""
    library = MeshLibrary(options.data_root)
    stated = read_json(HASHES) if HASHES.is_file() else {}
    status = 0
    for name in options.sets:
        layouts = layouts_of(options.split, name, options.limit)
        picture_set = f"{options.split}_{name}"
        bar = tqdm(layouts, desc=picture_set, unit="scene", disable=None)
        take = partial(_picture, name=name, library=library, root=options.root)
        write_scene_set(bar, take, library, options.root, picture_set)
        found = masks_sha256(options.root, picture_set, layouts)
        known = stated.get(picture_set, {}).get(str(len(layouts)))
        if known not in (None, found):
            _LOG.warning("%s: expected masks with sha256 %s, got %s; another processor or version of embree "
                         "moved pixels at their borders", picture_set, known, found)  # fmt: skip
            status = 1
        print(f"{picture_set}: {len(layouts)} scenes, masks sha256 {found}")
    return status


def _picture(layout: SceneLayout, name: str, library: MeshLibrary, root: Path) -> ScenePicture:
    """The picture of a scene as its set shows it; ids and depth are the ray caster's."""
    picture = render_scene(layout, library.render_meshes(layout))
    number = int(layout.scene_id.rpartition("_")[2])
    if name == MASKS:
        return replace(picture, drawn_masks=_drawn_badly(picture.instances, len(layout.objects), number))
    if name != LOOKS:
        return picture
    glbs = {placed.model_id: library.glb(placed.model_id) for placed in layout.objects}
    log, look = root / f"{layout.scene_id}.blender.log", BlenderLook.draw(number)
    colour = render_with_blender(layout, glbs, LOOKS_SIZE, LOOKS_SAMPLES, log, look=look)
    log.unlink(missing_ok=True)
    scaled = Image.fromarray(colour).resize(picture.colour.shape[:2], Image.Resampling.BICUBIC)
    return replace(picture, colour=np.asarray(scaled))


def _drawn_badly(instances: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Faulty masks (N, S, S) of the objects of a picture; that of the query, the first, stays the largest."""
    true = torch.from_numpy(instances[None] == np.arange(count)[:, None, None])
    for attempt in range(_MASK_TRIES):
        generator = torch.Generator().manual_seed(_MASK_TRIES * seed + attempt)
        faulty = faulty_masks(true, 1.0, generator)
        if faulty.sum((1, 2)).argmax() == 0:
            return faulty.numpy()
    return true.numpy()


def masks_sha256(root: Path, picture_set: str, layouts: Sequence[SceneLayout]) -> str:
    """Hash of the masks of a set: their pixels, 8 in a byte, scene by scene and object by object."""
    digest = hashlib.sha256()
    for layout in layouts:
        folder = ScenePaths.of(root, picture_set, layout.scene_id).images
        for number in range(len(layout.objects)):
            with Image.open(folder / mask_name(number)) as mask:
                digest.update(np.packbits(np.asarray(mask.convert("L")) > 127).tobytes())
    return digest.hexdigest()


def predict(options: argparse.Namespace) -> int:
    """Make the scenes of every set that are not there yet, structures alone."""
    commands = []
    for name in options.sets:
        picture_set = f"{options.split}_{name}"
        folder = options.root / f"scene_{picture_set}_{options.model_name}"
        found = find_scene_files(folder) if folder.is_dir() else {}
        made = {scene_id for scene_id, files in found.items() if files.poses}  # written last
        ids = [layout.scene_id for layout in layouts_of(options.split, name, options.limit)]
        missing = [scene_id for scene_id in ids if scene_id not in made]
        command = ["inference.py", "--output-dir", str(options.root), "--set", picture_set, "--no-appearance"]
        command += ["--model-name", options.model_name, "--device", options.device]
        command += ["--checkpoint", options.checkpoint] if options.checkpoint else []
        command += ["--few-steps"] if options.few_steps else []
        commands += _shares(command, missing, options.root / picture_set, _processes_of_a_set(options))
    return _in_turn(commands, options.processes)


def _processes_of_a_set(options: argparse.Namespace) -> int:
    """How many processes work on a set where all sets are worked on at once."""
    return max(1, options.processes // len(options.sets))


def _shares(command: list[str], missing: list[str], stem: Path, processes: int) -> Iterator[list[str]]:
    """The command for each process, with the scenes dealt out like cards."""
    for index in range(min(processes, len(missing))):
        only = stem.with_name(f"{stem.name}_{index}.txt")
        atomic_write_text(only, "\n".join(missing[index::processes]) + "\n")
        yield [*command, "--only", str(only)]


def _in_turn(commands: list[list[str]], together: int) -> int:
    """Run commands, so many at a time; the greatest exit status."""
    groups = [commands[first : first + together] for first in range(0, len(commands), together)]
    return max((run_together(group) for group in groups), default=0)


def measure(options: argparse.Namespace) -> int:
    """Evaluate the predictions of every set by the corrected protocol, with 2,048 points an object."""
    options.output.mkdir(parents=True, exist_ok=True)
    commands = []
    for name in options.sets:
        picture_set = f"{options.split}_{name}"
        prediction = options.root / f"scene_{picture_set}_{options.model_name}"
        if not prediction.is_dir():
            _LOG.warning("%s: no predictions; left out", prediction)
            continue
        ids = [layout.scene_id for layout in layouts_of(options.split, name, options.limit)]
        listed = options.output / f"{picture_set}.txt"
        atomic_write_text(listed, "\n".join(ids) + "\n")
        truth, report = options.root / f"scene_{picture_set}", options.output / f"{picture_set}.json"
        command = ["evaluate.py", "--prediction", prediction, "--truth", truth, "--list", listed]
        command += ["--output", report, "--num-points", 2048]
        command += ["--protocol", "corrected", "--workers", _processes_of_a_set(options)]
        commands.append(list(map(str, command)))
        atomic_write_text(_camera_path(options, name), json.dumps(camera_figures(prediction, truth, ids)))
    if status := _in_turn(commands, options.processes):
        return status
    print(_table_of(options))
    return 0


def _camera_path(options: argparse.Namespace, name: str) -> Path:
    return options.output / f"{options.split}_{name}_camera.json"


def insert(options: argparse.Namespace) -> int:
    """Write the table of the reports that are there between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise EvaluationError(f"{PAGE}: expected the marks {BEGIN} and {END}; put them where the table goes")
    atomic_write_text(PAGE, f"{before}{begin}\n{_table_of(options)}\n{end}{after}")
    return 0


def _table_of(options: argparse.Namespace) -> str:
    paths = {name: options.output / f"{options.split}_{name}.json" for name in SETS}
    reports = {name: read_report(path) for name, path in paths.items() if path.is_file()}
    if not reports:
        raise EvaluationError(f"{options.output}: expected reports of measure, found none; run it first")
    cameras = {name: read_json(_camera_path(options, name)) for name in reports}
    return table(reports, cameras)


def record(options: argparse.Namespace) -> int:
    """Write the hashes of the masks of the sets that are there, for the repository."""
    stated = read_json(HASHES) if HASHES.is_file() else {}
    for name in options.sets:
        layouts = layouts_of(options.split, name)
        made = f"{options.split}_{USUAL if name == LOOKS else name}"  # these differ in colours alone
        stated[f"{options.split}_{name}"] = {str(len(layouts)): masks_sha256(options.root, made, layouts)}
    atomic_write_text(HASHES, json.dumps(stated, indent=1, sort_keys=True) + "\n")
    return 0


STEPS = {
    "choose": choose,
    "make": make,
    "record": record,
    "predict": predict,
    "measure": measure,
    "insert": insert,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    options = parse_arguments(arguments)
    try:
        return STEPS[options.step](options)
    except (EvaluationError, BlenderError, ValueError, OSError) as error:  # lists, tables, models, disks
        _LOG.error("%s", error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
