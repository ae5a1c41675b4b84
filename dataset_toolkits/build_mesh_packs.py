"""Pack prepared meshes by split: python dataset_toolkits/build_mesh_packs.py --output-dir R [--packs DIR]."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from dataset_toolkits.subsets.sweethome3d.metadata import MetadataError, model_infos, read_metadata
from dataset_toolkits.subsets.sweethome3d.prepare import load_prepared
from scenegen.cli.parser import CommandParser
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.furniture.simplification import simplify
from scenegen.synthesis.furniture.split import SPLITS, check_split

# Faces beyond which a mesh is simplified: what stands on tables or hangs on walls covers few pixels.
MAX_FACES = {"floor": 12_000, "small": 4_000, "mounted": 4_000}
logger = logging.getLogger("build_mesh_packs")


def build_pack(root: Path, split: str, *, keep_hidden: bool = False) -> MeshPack:
    """Join the prepared meshes of one split, simplified where heavy and without faces that nobody can see.

    Raises:
        MetadataError: metadata.csv or a prepared mesh is missing.
        SplitError: metadata.csv puts a model into another split than the split file does.
    """
    infos = [info for info in model_infos(read_metadata(root)).values() if info.split == split]
    infos = [info for info in infos if info.tier in MAX_FACES]
    check_split((info.id for info in infos), split)
    return MeshPack.from_meshes(
        _packed(root, info, keep_hidden) for info in tqdm(infos, desc=split, unit="mesh")
    )


def _packed(root: Path, info: ModelInfo, keep_hidden: bool) -> tuple[FurnitureMesh, ModelInfo]:
    prepared = load_prepared(root, info.id)
    if prepared is None:
        raise MetadataError(f"{info.id}: no prepared mesh below {root}; run build_metadata.py again")
    mesh = prepared.mesh if keep_hidden else prepared.outer_mesh()
    return simplify(mesh, max_faces=MAX_FACES[info.tier]), info


def _save(pack: MeshPack, path: Path) -> None:
    pack.save(path)
    print(f"{path}: {len(pack)} meshes, {len(pack.faces)} faces, {path.stat().st_size / 1e6:.1f} MB")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("--output-dir", type=Path, required=True, help="data root with metadata.csv")
    parser.add_argument("--packs", type=Path, help="folder for the packs; default: <output_dir>/../packs")
    parser.add_argument(
        "--keep-hidden", action="store_true", help="keep faces that no outside camera can see"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    folder = options.packs or options.output_dir.parent / "packs"
    try:
        for split in SPLITS:
            pack = build_pack(options.output_dir, split, keep_hidden=options.keep_hidden)
            _save(pack, folder / f"{split}.safetensors")
    except ValueError as error:  # MetadataError and SplitError among them: all name the model and the remedy
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
