"""The steps of preparing this data set: fetch it, prepare and list its models, pack them by split."""

from __future__ import annotations

import logging
from pathlib import Path

from tqdm import tqdm

from dataset_toolkits.subsets.sweethome3d.licences import licence_of
from dataset_toolkits.subsets.sweethome3d.meshes import MeshError
from dataset_toolkits.subsets.sweethome3d.metadata import (
    MetadataError,
    metadata_row,
    model_infos,
    read_metadata,
    write_metadata,
)
from dataset_toolkits.subsets.sweethome3d.prepare import load_prepared, prepare_model
from dataset_toolkits.subsets.sweethome3d.source import (
    fetch_package,
    find_libraries,
    read_entries,
    unpack_deb,
    unpack_models,
)
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.furniture.simplification import simplify
from scenegen.synthesis.furniture.split import check_split, load_split

# Faces beyond which a mesh is simplified: what stands on tables or hangs on walls covers few pixels.
MAX_FACES = {"floor": 12_000, "small": 4_000, "mounted": 4_000}
logger = logging.getLogger(__name__)


def download(root: Path, source: Path | None) -> int:
    """Unpack the indoor models below `root`, from `source` (folder or .deb) or else from the Debian package.

    Returns:
        Number of models unpacked.

    Raises:
        SourceError: nothing could be fetched or found.
    """
    if source is None:
        source = fetch_package(root / "raw")
    elif source.suffix == ".deb":
        unpack_deb(source, root / "raw" / "package")
        source = root / "raw" / "package"
    return len(unpack_models(find_libraries(source), root))


def build_metadata(root: Path, source: Path) -> tuple[int, list[str]]:
    """Prepare every indoor model and write `root`/metadata.csv.

    Args:
        root: data root.
        source: folder with the .sh3f libraries.

    Returns:
        Number of rows written and the ids of models that could not be prepared (logged).

    Raises:
        SourceError, CatalogueError: the libraries cannot be read.
    """
    libraries = find_libraries(source)
    paths = unpack_models(libraries, root)
    split = load_split()
    rows, failed = [], []
    for model_id, entry in tqdm(sorted(read_entries(libraries).items()), desc="models", unit="model"):
        try:
            prepared = prepare_model(root, paths[model_id], entry)
        except MeshError as error:
            logger.error("%s: left out: %s", model_id, error)
            failed.append(model_id)
            continue
        licence = licence_of(entry, (root / paths[model_id]).parent)
        rows.append(metadata_row(entry, split[model_id], licence, paths[model_id], prepared))
    write_metadata(rows, root)
    return len(rows), failed


def build_mesh_pack(root: Path, split: str, *, keep_hidden: bool = False) -> MeshPack:
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
        raise MetadataError(
            f"{info.id}: no prepared mesh below {root}; run python -m dataset_toolkits.build_metadata again"
        )
    mesh = prepared.mesh if keep_hidden else prepared.outer_mesh()
    return simplify(mesh, max_faces=MAX_FACES[info.tier]), info
