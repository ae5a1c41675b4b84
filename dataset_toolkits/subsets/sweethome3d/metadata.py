"""metadata.csv of the furniture: one row per model, with licence, split, true size and measures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from dataset_toolkits.subsets.sweethome3d.catalogue import CatalogueEntry
from dataset_toolkits.subsets.sweethome3d.licences import Licence
from dataset_toolkits.subsets.sweethome3d.prepare import PreparedModel, mesh_path
from scenegen.datasets.tables import MetadataError
from scenegen.synthesis.furniture.records import ModelInfo
from scenegen.synthesis.furniture.split import SplitEntry
from trellis_modules.files import atomic_write

METADATA_NAME = "metadata.csv"


def metadata_row(
    entry: CatalogueEntry, place: SplitEntry, licence: Licence, obj_path: Path, prepared: PreparedModel
) -> dict[str, object]:
    """One row of metadata.csv; lengths in metres, paths relative to the data root."""
    width, height, depth = entry.size_m
    return {
        "sha256": prepared.obj_sha256,
        "id": entry.id,
        "name": entry.name,
        "category": entry.category,
        "super_category": place.super_category,
        "tier": place.tier,
        "group": place.group,
        "split": place.split,
        "width_m": round(width, 5),
        "height_m": round(height, 5),
        "depth_m": round(depth, 5),
        "elevation_m": round(entry.elevation_m, 5),
        "licence": licence.name,
        "licence_url": licence.url,
        "creator": licence.creator,
        "source_url": licence.source_url,
        "local_path": obj_path.as_posix(),
        "mesh_path": mesh_path(entry.id).as_posix(),
        "num_faces": len(prepared.mesh.faces),
        "num_visible_faces": int(prepared.visible.sum()),
        "symmetry": prepared.symmetry,
    }


def write_metadata(rows: Iterable[dict[str, object]], root: Path) -> Path:
    """Write metadata.csv, sorted by id, under a temporary name first."""
    path = root / METADATA_NAME
    with atomic_write(path) as temporary:
        pd.DataFrame(list(rows)).sort_values("id").to_csv(temporary, index=False)
    return path


def read_metadata(root: Path) -> pd.DataFrame:
    """Read metadata.csv with text columns as text.

    Raises:
        MetadataError: the file is missing or of another form.
    """
    path = root / METADATA_NAME
    if not path.is_file():
        raise MetadataError(
            f"{path}: no metadata; run python -m dataset_toolkits.build_metadata sweethome3d "
            f"--output_dir {root}"
        )
    table = pd.read_csv(path, keep_default_na=False)
    if missing := sorted({"id", "split", "tier", "symmetry", "licence", "creator"} - set(table.columns)):
        raise MetadataError(
            f"{path}: expected column {missing[0]!r}; run python -m dataset_toolkits.build_metadata again"
        )
    return table


def model_infos(table: pd.DataFrame) -> dict[str, ModelInfo]:
    """The rows of metadata.csv as records by id."""
    return {
        row.id: ModelInfo(
            id=row.id,
            name=row.name,
            super_category=row.super_category,
            tier=row.tier,
            split=row.split,
            size_m=(row.width_m, row.height_m, row.depth_m),
            symmetry=int(row.symmetry),
            licence=row.licence,
            creator=row.creator,
        )
        for row in table.itertuples(index=False)
    }
