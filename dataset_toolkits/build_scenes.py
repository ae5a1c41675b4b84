"""Render scenes of furniture into masked-image folders with their truth.

Re-create the fixed test scenes:
    python -m dataset_toolkits.build_scenes --data-root data/sweethome3d --output-dir data/scenes \\
        --set test --list benchmarks/test_scenes.json
Make a new list first: add --make-list 200 --seed 1. Scenes that are there already are skipped.
``--renderer blender`` needs Blender 3.4 or newer with NumPy (Debian: packages blender and python3-numpy).
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from dataset_toolkits.blender_renderer import render_with_blender
from dataset_toolkits.subsets.mesh_library import MeshLibrary
from scenegen.blender.program import BlenderError
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.synthesis.layouts.scene_composer import CompositionError
from scenegen.synthesis.layouts.scene_layout import SceneLayout
from scenegen.synthesis.layouts.scene_list import SceneList
from scenegen.synthesis.layouts.scene_selection import make_scene_list
from scenegen.synthesis.pictures.scene_renderer import ScenePicture, render_scene
from scenegen.synthesis.pictures.scene_set import write_scene_set

RENDERERS = ("embree", "blender")
logger = logging.getLogger("build_scenes")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--data-root", type=Path, required=True, help="furniture of build_metadata")
    parser.add_argument("--output-dir", type=Path, required=True, help="where the scenes go")
    parser.add_argument("--set", choices=("test", "validation"), default="test", help="furniture split")
    parser.add_argument("--list", type=Path, required=True, help="JSON list of scenes")
    parser.add_argument(
        "--make-list", type=positive_int, metavar="N", help="first choose N scenes, write --list"
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="for --make-list")
    parser.add_argument("--renderer", choices=RENDERERS, default="embree")
    parser.add_argument("--size", type=positive_int, default=512, help="pixels per side")
    parser.add_argument("--antialias", action="store_true", help="embree: four rays a pixel for the colour")
    parser.add_argument("--samples", type=positive_int, default=64, help="blender: paths a pixel")
    parser.add_argument("--depth", action="store_true", help="also write depth PNGs")
    parser.add_argument("--scenes", nargs="+", metavar="ID", help="only these scenes")
    parser.add_argument("--limit", type=positive_int, help="only the first so many")
    return parser.parse_args(arguments)


def make_list(library: MeshLibrary, options: argparse.Namespace) -> None:
    """Choose scenes of a split and write ``--list``."""
    infos = library.of_split(options.set)
    meshes = {
        info.id: library.render_mesh(info.id)
        for info in tqdm(infos, desc="meshes", unit="mesh", disable=None)
    }
    scene_list = make_scene_list(
        infos,
        meshes,
        options.set,
        options.make_list,
        options.seed,
        progress=lambda scenes: tqdm(
            scenes, desc="choose", total=options.make_list, unit="scene", disable=None
        ),
    )
    scene_list.save(options.list)


def render(layout: SceneLayout, library: MeshLibrary, options: argparse.Namespace) -> ScenePicture:
    """Render a layout as the command line asks; ids and depth are embree's with either renderer."""
    picture = render_scene(layout, library.render_meshes(layout), options.size, options.antialias)
    if options.renderer == "embree":
        return picture
    glbs = {placed.model_id: library.glb(placed.model_id) for placed in layout.objects}
    log = options.output_dir / f"{layout.scene_id}.blender.log"
    return replace(picture, colour=render_with_blender(layout, glbs, options.size, options.samples, log))


def main(arguments: Sequence[str] | None = None) -> int:
    """Choose scenes if asked, render and write them; 1 when something is missing or fails."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        library = MeshLibrary(options.data_root)
        if options.make_list:
            make_list(library, options)
        layouts = SceneList.load(options.list).chosen(options.set, options.scenes)[: options.limit]
        written = write_scene_set(
            tqdm(layouts, desc="render", unit="scene", disable=None),
            lambda layout: render(layout, library, options),
            library,
            options.output_dir,
            options.set,
            options.depth,
        )
    except (ValueError, CompositionError, BlenderError, OSError) as error:  # tables, lists, splits, models
        logger.error("%s", error)
        return 1
    print(f"{written} of {len(layouts)} scenes written below {options.output_dir}, the rest was there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
