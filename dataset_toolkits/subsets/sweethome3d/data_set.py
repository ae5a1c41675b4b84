"""This data set as a source of assets: list its models, prepare their meshes, pack them by split."""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from dataset_toolkits.subsets import instances
from dataset_toolkits.subsets.instances import Outcome, attempt, keep_unique
from dataset_toolkits.subsets.sweethome3d.licences import licence_of
from dataset_toolkits.subsets.sweethome3d.metadata import asset_row, measured, model_infos, read_metadata
from dataset_toolkits.subsets.sweethome3d.prepare import load_prepared, prepare_model
from dataset_toolkits.subsets.sweethome3d.source import (
    fetch_package,
    find_libraries,
    read_entries,
    unpack_deb,
    unpack_models,
)
from scenegen.datasets.metadata import AssetRow
from scenegen.datasets.tables import MetadataError
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.furniture.simplification import simplify
from scenegen.synthesis.furniture.split import check_split, load_split

# Faces beyond which a mesh is simplified: what stands on tables or hangs on walls covers few pixels.
MAX_FACES = {"floor": 12_000, "small": 4_000, "mounted": 4_000}
logger = logging.getLogger(__name__)


def add_args(parser: argparse.ArgumentParser) -> None:
    """Declare where the libraries are."""
    parser.add_argument(
        "--source",
        type=Path,
        help="folder with .sh3f files, or the .deb (build_metadata, download); default: apt-get download",
    )


def get_metadata(output_dir: Path, options: argparse.Namespace) -> list[AssetRow]:
    """Unpack the indoor models and list them; the key of each is the hash of its OBJ.

    Raises:
        SubsetError: the libraries cannot be fetched or read.
    """
    libraries = find_libraries(_unpacked(output_dir, options.source))
    paths, split = unpack_models(libraries, output_dir), load_split()
    rows = []
    for model_id, entry in sorted(read_entries(libraries).items()):
        obj_path = output_dir / paths[model_id]
        digest = hashlib.sha256(obj_path.read_bytes()).hexdigest()
        licence = licence_of(entry, obj_path.parent)
        rows.append(asset_row(entry, split[model_id], licence, paths[model_id], digest))
    return keep_unique(rows)


def download(rows: Sequence[AssetRow], output_dir: Path, options: argparse.Namespace) -> Iterator[Outcome]:
    """Prepare the mesh of each model: a GLB in its true proportions, upright, with its front towards +z.

    What is prepared already is only read.

    Raises:
        SubsetError: the libraries cannot be fetched or read.
    """
    libraries = find_libraries(_unpacked(output_dir, options.source))
    paths, entries = unpack_models(libraries, output_dir), read_entries(libraries)

    def prepare(row: AssetRow) -> Mapping[str, object]:
        entry = entries.get(row.file_identifier)
        if entry is None:
            raise ValueError(f"{row.file_identifier}: not in the furniture libraries; give --source with it")
        prepared = prepare_model(output_dir, paths[entry.id], entry)
        if prepared.obj_sha256 != row.sha256:
            raise ValueError(
                f"{paths[entry.id]}: expected sha256 {row.sha256[:12]}... as in the table, got "
                f"{prepared.obj_sha256[:12]}...; the libraries are of another version"
            )
        return measured(entry, prepared)

    for row in rows:
        yield attempt(row.sha256, lambda row=row: prepare(row))


def model_files(rows: Sequence[AssetRow]) -> dict[str, str]:
    """Paths of the prepared meshes; see `dataset_toolkits.subsets.instances.model_files`.

    Raises:
        MetadataError: the table is of an earlier version, whose paths are those of unprepared models.
    """
    if any("mesh_path" in row.extra for row in rows):
        raise MetadataError(
            "metadata.csv: was written by an earlier version; remove it, and run build_metadata.py, "
            "download.py and build_metadata.py again: prepared meshes are kept"
        )
    return instances.model_files(rows)


def _unpacked(output_dir: Path, source: Path | None) -> Path:
    """The folder with the libraries."""
    if source is None:
        return fetch_package(output_dir / "raw")
    if source.suffix != ".deb":
        return source
    unpack_deb(source, output_dir / "raw" / "package")
    return output_dir / "raw" / "package"


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
        _packed(root, info, keep_hidden) for info in tqdm(infos, desc=split, unit="mesh", disable=None)
    )


def _packed(root: Path, info: ModelInfo, keep_hidden: bool) -> tuple[FurnitureMesh, ModelInfo]:
    prepared = load_prepared(root, info.id)
    if prepared is None:
        raise MetadataError(
            f"{info.id}: no prepared mesh below {root}; run download.py and build_metadata.py again"
        )
    mesh = prepared.mesh if keep_hidden else prepared.outer_mesh()
    return simplify(mesh, max_faces=MAX_FACES[info.tier]), info
