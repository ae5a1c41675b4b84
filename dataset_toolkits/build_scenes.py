"""Render scenes of furniture into masked-image folders with their truth.

Re-create the fixed test scenes:
    python dataset_toolkits/build_scenes.py --data_root data/sweethome3d --output_dir data/scenes \\
        --set test --list benchmarks/test_scenes.json
Make a new list first: add --make_list 200 --seed 1. Scenes that are there already are skipped.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tqdm import tqdm

from dataset_toolkits.blender_renderer import BlenderError, render_with_blender
from dataset_toolkits.furniture import FurnitureMesh, ModelInfo
from dataset_toolkits.scene_composer import CompositionError, ModelPool
from dataset_toolkits.scene_layout import SceneLayout
from dataset_toolkits.scene_list import SceneList, SceneListError
from dataset_toolkits.scene_renderer import Rendering, render_scene
from dataset_toolkits.scene_selection import VisibilityRule, balanced_counts, select_scenes
from dataset_toolkits.scene_writer import ScenePaths, write_scene
from dataset_toolkits.sweethome3d.metadata import MetadataError, model_infos, read_metadata
from dataset_toolkits.sweethome3d.prepare import load_prepared, mesh_path
from dataset_toolkits.sweethome3d.split import SplitError
from dataset_toolkits.textured_mesh import TexturedMesh, load_glb

COMPOSED_TIERS = ("floor", "small")
RENDERERS = ("embree", "blender")
logger = logging.getLogger("build_scenes")


class MeshLibrary:
    """Meshes of the prepared furniture, read once each."""

    def __init__(self, data_root: Path) -> None:
        """Use the data root that ``build_metadata.py`` wrote.

        Raises:
            MetadataError: it has no metadata.csv.
        """
        self.root = data_root
        self.infos: dict[str, ModelInfo] = model_infos(read_metadata(data_root))
        self._textured: dict[str, TexturedMesh] = {}

    def of_split(self, split: str) -> list[ModelInfo]:
        """Models of a split that scenes are composed of."""
        return [info for info in self.infos.values() if info.split == split and info.tier in COMPOSED_TIERS]

    def glb(self, model_id: str) -> Path:
        """Path of a model's textured GLB."""
        return self.root / mesh_path(model_id)

    def textured(self, layout: SceneLayout) -> dict[str, TexturedMesh]:
        """Meshes for rendering a layout.

        Raises:
            FileNotFoundError, ValueError: a GLB is missing or empty.
        """
        wanted = {placed.model_id for placed in layout.objects}
        for model_id in wanted - set(self._textured):
            self._textured[model_id] = load_glb(self.glb(model_id))
        return {model_id: self._textured[model_id] for model_id in wanted}

    def outer(self, layout: SceneLayout) -> dict[str, FurnitureMesh]:
        """Face-coloured meshes without hidden faces, for the truth.

        Raises:
            MetadataError: a prepared mesh is missing.
        """
        meshes = {}
        for model_id in {placed.model_id for placed in layout.objects}:
            prepared = load_prepared(self.root, model_id)
            if prepared is None:
                raise MetadataError(f"{model_id}: no prepared mesh below {self.root}; run build_metadata.py")
            meshes[model_id] = prepared.outer_mesh()
        return meshes


def make_list(library: MeshLibrary, split: str, total: int, seed: int, path: Path) -> None:
    """Choose ``total`` scenes of a split and write them to ``path``."""
    infos = library.of_split(split)
    rule = VisibilityRule()
    meshes = {info.id: load_glb(library.glb(info.id)) for info in tqdm(infos, desc="meshes")}
    chosen = select_scenes(seed, ModelPool(infos), meshes, balanced_counts(total), f"{split}_", rule)
    layouts = tuple(tqdm(chosen, desc="choose", total=total, unit="scene"))
    SceneList(split, f"seed {seed}; {rule.describe()}", rule.image_size, layouts).save(path)


def render(layout: SceneLayout, library: MeshLibrary, options: argparse.Namespace, paths: ScenePaths) -> Rendering:
    """Render with the renderer asked for; ids and depth are embree's in either case."""
    embree = render_scene(layout, library.textured(layout), options.size, options.antialias)
    if options.renderer == "embree":
        return embree
    glbs = {placed.model_id: library.glb(placed.model_id) for placed in layout.objects}
    colour = render_with_blender(
        layout, glbs, options.size, options.samples, paths.images.with_suffix(".blender.log")
    )
    return Rendering(colour, embree.instances, embree.depth)


def build_scenes(scene_list: SceneList, library: MeshLibrary, options: argparse.Namespace) -> int:
    """Render and write the scenes that are not there yet; returns how many that were."""
    names = {model_id: info.name for model_id, info in library.infos.items()}
    layouts = [layout for layout in scene_list.layouts if not options.scenes or layout.scene_id in options.scenes]
    layouts = layouts[: options.limit]
    written = 0
    for layout in tqdm(layouts, desc="render", unit="scene"):
        paths = ScenePaths.of(options.output_dir, options.set, layout.scene_id)
        if paths.complete(options.depth):
            continue
        rendering = render(layout, library, options, paths)
        write_scene(layout, rendering, library.outer(layout), names, paths, options.depth)
        written += 1
    return written


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, required=True, help="prepared furniture (build_metadata.py)")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the scenes go")
    parser.add_argument("--set", choices=("test", "validation"), default="test", help="furniture split")
    parser.add_argument("--list", type=Path, required=True, help="JSON list of scenes")
    parser.add_argument("--make_list", type=int, metavar="N", help="first choose N scenes and write --list")
    parser.add_argument("--seed", type=int, default=0, help="for --make_list")
    parser.add_argument("--renderer", choices=RENDERERS, default="embree")
    parser.add_argument("--size", type=int, default=512, help="pixels per side")
    parser.add_argument("--antialias", action="store_true", help="embree: four rays a pixel for the colour")
    parser.add_argument("--samples", type=int, default=64, help="blender: samples a pixel")
    parser.add_argument("--depth", action="store_true", help="also write depth PNGs")
    parser.add_argument("--scenes", nargs="+", metavar="ID", help="only these scenes")
    parser.add_argument("--limit", type=int, help="only the first so many")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        library = MeshLibrary(options.data_root)
        if options.make_list:
            make_list(library, options.set, options.make_list, options.seed, options.list)
        scene_list = SceneList.load(options.list)
        if scene_list.split != options.set:
            raise SceneListError(f"{options.list}: holds {scene_list.split} scenes, asked for --set {options.set}")
        written = build_scenes(scene_list, library, options)
    except (MetadataError, SceneListError, SplitError, CompositionError, BlenderError, OSError) as error:
        logger.error("%s", error)
        return 1
    print(f"{written} scenes written below {options.output_dir}; list {scene_list.sha256[:16]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
