"""The furniture's rows of metadata.csv, with more columns: licence, split, true size and measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dataset_toolkits.subsets.sweethome3d.catalogue import CatalogueEntry
from dataset_toolkits.subsets.sweethome3d.licences import Licence
from dataset_toolkits.subsets.sweethome3d.prepare import PreparedModel, mesh_path
from scenegen.datasets.metadata import ASSETS_NAME, AssetRow, read_assets
from scenegen.datasets.tables import MetadataError
from scenegen.synthesis.furniture.records import ModelInfo
from scenegen.synthesis.furniture.split import SplitEntry

_COLUMNS = ("id", "name", "super_category", "tier", "split", "licence", "creator", "symmetry")


def asset_row(
    entry: CatalogueEntry, place: SplitEntry, licence: Licence, obj_path: Path, obj_sha256: str
) -> AssetRow:
    """The row of a model that is not prepared yet; lengths in metres, paths relative to the data root."""
    width, height, depth = entry.size_m
    return AssetRow(
        sha256=obj_sha256,
        file_identifier=entry.id,
        extra={
            "id": entry.id,
            "name": entry.name,
            "category": entry.category,
            "super_category": place.super_category,
            "tier": place.tier,
            "group": place.group,
            "split": place.split,
            "width_m": repr(round(width, 5)),
            "height_m": repr(round(height, 5)),
            "depth_m": repr(round(depth, 5)),
            "elevation_m": repr(round(entry.elevation_m, 5)),
            "licence": licence.name,
            "licence_url": licence.url,
            "creator": licence.creator,
            "source_url": licence.source_url,
            "source_path": obj_path.as_posix(),
        },
    )


def measured(entry: CatalogueEntry, prepared: PreparedModel) -> dict[str, object]:
    """What the preparation of a model adds to its row."""
    return {
        "local_path": mesh_path(entry.id).as_posix(),
        "num_faces": len(prepared.mesh.faces),
        "num_visible_faces": int(prepared.visible.sum()),
        "symmetry": prepared.symmetry,
    }


def read_metadata(root: Path) -> list[AssetRow]:
    """The furniture below a data root.

    Raises:
        MetadataError: there is no table, or it is of something else.
    """
    path = root / ASSETS_NAME
    if not path.is_file():
        raise MetadataError(
            f"{path}: no metadata; run "
            f"python dataset_toolkits/build_metadata.py sweethome3d --output-dir {root}"
        )
    rows = read_assets(path)
    for column in _COLUMNS:
        if not any(column in row.extra for row in rows):
            raise MetadataError(
                f"{path}: expected furniture of sweethome3d with the column {column!r}; run "
                "build_metadata.py, download.py and build_metadata.py again"
            )
    return rows


def model_infos(rows: Sequence[AssetRow]) -> dict[str, ModelInfo]:
    """Records by id of the models that are prepared.

    Raises:
        MetadataError: a column does not hold what it should.
    """
    return {row.extra["id"]: _model_info(row) for row in rows if row.local_path}


def _model_info(row: AssetRow) -> ModelInfo:
    text = row.extra
    try:
        return ModelInfo(
            id=text["id"],
            name=text["name"],
            super_category=text["super_category"],
            tier=text["tier"],
            split=text["split"],
            size_m=(float(text["width_m"]), float(text["height_m"]), float(text["depth_m"])),
            symmetry=int(float(text["symmetry"])),
            licence=text["licence"],
            creator=text["creator"],
        )
    except (KeyError, ValueError) as error:
        raise MetadataError(
            f"{ASSETS_NAME}: {row.file_identifier or row.sha256}: {error}; write the table again"
        ) from error
