"""Render scenes of furniture into masked-image folders with their truth.

Re-create the fixed test scenes:
    python dataset_toolkits/build_scenes.py --data-root data/sweethome3d --output-dir data/scenes \\
        --set test --list benchmarks/test_scenes.json
Make a new list first: add --make-list 200 --seed 1. Scenes that are there already are skipped.
``--renderer blender`` needs Blender 3.4 or newer with NumPy (Debian: packages blender and python3-numpy).
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from dataset_toolkits.blender_renderer import BlenderError, render_with_blender
from dataset_toolkits.subsets.mesh_library import MeshLibrary
from dataset_toolkits.subsets.sweethome3d.metadata import MetadataError
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.synthesis.furniture.split import SplitError
from scenegen.synthesis.layouts.scene_composer import CompositionError, ModelPool
from scenegen.synthesis.layouts.scene_layout import SceneLayout
from scenegen.synthesis.layouts.scene_list import SceneList, SceneListError
from scenegen.synthesis.layouts.scene_selection import VisibilityRule, balanced_counts, select_scenes
from scenegen.synthesis.pictures.scene_renderer import Rendering, render_scene
from scenegen.synthesis.pictures.scene_writer import ScenePaths, write_scene

RENDERERS = ("embree", "blender")
logger = logging.getLogger("build_scenes")


@dataclass(frozen=True)
class RenderSettings:
    """How pictures are made: ``antialias`` is of embree, ``samples`` (paths a pixel) of Blender."""

    renderer: str = "embree"
    size: int = 512
    antialias: bool = False
    samples: int = 64


def make_list(library: MeshLibrary, split: str, total: int, seed: int, path: Path) -> None:
    """Choose ``total`` scenes of a split and write them to ``path``."""
    infos = library.of_split(split)
    rule = VisibilityRule()
    meshes = {info.id: library.textured(info.id) for info in tqdm(infos, desc="meshes", unit="mesh")}
    chosen = select_scenes(seed, ModelPool(infos), meshes, balanced_counts(total), f"{split}_", rule)
    layouts = tuple(tqdm(chosen, desc="choose", total=total, unit="scene"))
    SceneList(split, f"seed {seed}; {rule.describe()}", rule.image_size, layouts).save(path)


def render(layout: SceneLayout, library: MeshLibrary, settings: RenderSettings, log: Path) -> Rendering:
    """Render a layout; ids and depth are embree's with either renderer.

    Args:
        log: file for Blender's output, kept when it fails.
    """
    embree = render_scene(layout, library.textured_meshes(layout), settings.size, settings.antialias)
    if settings.renderer == "embree":
        return embree
    glbs = {placed.model_id: library.glb(placed.model_id) for placed in layout.objects}
    colour = render_with_blender(layout, glbs, settings.size, settings.samples, log)
    return Rendering(colour, embree.instances, embree.depth)


def build_scenes(
    layouts: Sequence[SceneLayout],
    library: MeshLibrary,
    settings: RenderSettings,
    output_dir: Path,
    set_name: str,
    with_depth: bool = False,
) -> int:
    """Render and write the scenes that are not there yet; returns how many that were."""
    written = 0
    for layout in tqdm(layouts, desc="render", unit="scene"):
        paths = ScenePaths.of(output_dir, set_name, layout.scene_id)
        if paths.complete(with_depth):
            continue
        rendering = render(layout, library, settings, output_dir / f"{layout.scene_id}.blender.log")
        write_scene(layout, rendering, library.outer_meshes(layout), library.infos, paths, with_depth)
        written += 1
    return written


def read_layouts(options: argparse.Namespace) -> list[SceneLayout]:
    """The scenes of ``--list`` that the command line asks for.

    Raises:
        SceneListError: the list is unreadable, of another split, or lacks a scene asked for.
    """
    scene_list = SceneList.load(options.list)
    if scene_list.split != options.set:
        raise SceneListError(f"{options.list}: holds {scene_list.split} scenes, --set is {options.set}")
    layouts = {layout.scene_id: layout for layout in scene_list.layouts}
    if unknown := sorted(set(options.scenes or ()) - set(layouts)):
        raise SceneListError(f"{options.list}: no scene {unknown[0]!r}; check --scenes")
    return [layouts[scene_id] for scene_id in options.scenes or layouts][: options.limit]


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument("--data-root", type=Path, required=True, help="furniture of build_metadata.py")
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


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    settings = RenderSettings(options.renderer, options.size, options.antialias, options.samples)
    try:
        library = MeshLibrary(options.data_root)
        if options.make_list:
            make_list(library, options.set, options.make_list, options.seed, options.list)
        layouts = read_layouts(options)
        written = build_scenes(layouts, library, settings, options.output_dir, options.set, options.depth)
    except (MetadataError, SceneListError, SplitError, CompositionError, BlenderError, OSError) as error:
        logger.error("%s", error)
        return 1
    print(f"{written} of {len(layouts)} scenes written below {options.output_dir}, the rest was there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
