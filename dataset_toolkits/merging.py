"""The table of assets and what became of them: records of the steps, files on the disk, and counts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from scenegen.datasets.metadata import STATUS, AssetRow
from scenegen.datasets.records import FAILED, pending_records, read_records
from scenegen.datasets.tables import COUNT, FLAG, MetadataError
from trellis_modules.representations.ply import read_ply_vertices

logger = logging.getLogger(__name__)

DOWNLOADED, RENDERED, VOXELIZED, COND_RENDERED = "downloaded", "rendered", "voxelized", "cond_rendered"
FIELDS = (RENDERED, VOXELIZED, COND_RENDERED)
"""Records of the steps that every root has; those of models are found in the folders of `MODEL_FOLDERS`."""

MODEL_FOLDERS = {"feature": "features", "latent": "latents", "ss_latent": "ss_latents"}
"""First part of a status column -> folder with one sub-folder for each model."""

_READ = {RENDERED: FLAG, VOXELIZED: FLAG, COND_RENDERED: FLAG, "num_voxels": COUNT}
_OWN_FIELDS = {field.name for field in fields(AssetRow)} - {"sha256", "status", "extra"}


def model_columns(root: Path) -> list[str]:
    """Status columns of the models that have a folder, e.g. ``feature_dinov2_vitl14_reg``."""
    return [
        f"{kind}_{folder.name}"
        for kind, parent in MODEL_FOLDERS.items()
        for folder in sorted((root / parent).glob("*"))
        if folder.is_dir()
    ]


def merge_records(root: Path, rows: Sequence[AssetRow]) -> tuple[list[AssetRow], list[Path]]:
    """Take in the records of all steps.

    A record that cannot be read is named and skipped; assets that are not in the table are counted and left
    out.

    Returns:
        The rows, and the records, which may be moved away once the rows are written.
    """
    by_key = {row.sha256: row for row in rows}
    columns, records = model_columns(root), []
    for key, row in by_key.items():
        by_key[key] = replace(row, status=dict.fromkeys(columns, False) | row.status)
    for kind in (DOWNLOADED, *FIELDS, *columns):
        for path in pending_records(root, kind):
            records.append(path)
            _merge(path, by_key)
    return list(by_key.values()), records


def _merge(path: Path, by_key: dict[str, AssetRow]) -> None:
    unknown = 0
    try:
        found = read_records(path, on_error=lambda error: logger.error("%s", error))
    except MetadataError as error:
        logger.error("%s", error)
        return
    for key, cells in found.items():
        if key not in by_key:
            unknown += 1
            continue
        try:
            by_key[key] = _updated(by_key[key], cells)
        except ValueError as error:
            logger.error("%s: %s: %s; the line is left out", path, key, error)
    if unknown:
        logger.error("%s: %d assets are not in the table; they are left out", path, unknown)


def _updated(row: AssetRow, cells: dict[str, str]) -> AssetRow:
    """A row with the fields of a record; what the row class does not know goes to the extra columns."""
    own, status, extra = {}, dict(row.status), dict(row.extra)
    for name, text in cells.items():
        if name in _OWN_FIELDS:
            own[name] = _READ[name].parse(text) if name in _READ else text
        elif STATUS.fullmatch(name):
            status[name] = FLAG.parse(text)
        elif name != "sha256":
            extra[name] = text
    return replace(row, **own, status=status, extra=extra)


def set_from_files(root: Path, rows: Iterable[AssetRow], chosen: Collection[str] | None) -> list[AssetRow]:
    """Set what is not set yet where the files of it are there.

    Args:
        root: data root.
        rows: the table.
        chosen: fields to set, names of models among them; None sets all.
    """
    wanted = _Wanted(chosen)
    return [_from_files(root, row, wanted) for row in rows]


@dataclass(frozen=True)
class _Wanted:
    chosen: Collection[str] | None

    def __call__(self, field: str) -> bool:
        names = {field, _split_column(field)[1]} if STATUS.fullmatch(field) else {field}
        return self.chosen is None or not names.isdisjoint(self.chosen)


def _from_files(root: Path, row: AssetRow, wanted: Callable[[str], bool]) -> AssetRow:
    key = row.sha256
    if not row.rendered and wanted(RENDERED):
        row = replace(row, rendered=(root / "renders" / key / "transforms.json").is_file())
    if row.rendered and not row.voxelized and wanted(VOXELIZED):
        row = _with_voxels(row, root / "voxels" / f"{key}.ply")
    if not row.cond_rendered and wanted(COND_RENDERED):
        row = replace(row, cond_rendered=(root / "renders_cond" / key / "transforms.json").is_file())
    status = dict(row.status)
    for column in filter(wanted, (name for name, done in row.status.items() if not done)):
        kind, model = _split_column(column)
        path = root / MODEL_FOLDERS[kind] / model / f"{key}.npz"
        status[column] = row.voxelized and (row.rendered or kind == "ss_latent") and path.is_file()
    return replace(row, status=status)


def _split_column(column: str) -> tuple[str, str]:
    """Kind and model of a status column."""
    kind = STATUS.fullmatch(column)[1]
    return kind, column.removeprefix(f"{kind}_")


def _with_voxels(row: AssetRow, path: Path) -> AssetRow:
    if not path.is_file():
        return row
    try:
        return replace(row, voxelized=True, num_voxels=len(read_ply_vertices(path)))
    except ValueError as error:
        logger.error("%s; voxelize the asset again", error)
        return row


def statistics(rows: Sequence[AssetRow]) -> str:
    """The counts of ``statistics.txt``, in the published form."""
    columns = sorted({name for row in rows for name in row.status})
    lines = [
        "Statistics:",
        f"  - Number of assets: {len(rows)}",
        f"  - Number of assets downloaded: {sum(bool(row.local_path) for row in rows)}",
        f"  - Number of assets rendered: {sum(row.rendered for row in rows)}",
        f"  - Number of assets voxelized: {sum(row.voxelized for row in rows)}",
    ]
    for kind, words in (
        ("feature", "image features extracted"),
        ("latent", "latents extracted"),
        ("ss_latent", "sparse structure latents extracted"),
    ):
        if own := [name for name in columns if name.startswith(f"{kind}_")]:
            lines.append(f"  - Number of assets with {words}:")
            lines += [
                f"    - {name.removeprefix(f'{kind}_')}: {sum(row.status.get(name, False) for row in rows)}"
                for name in own
            ]
    lines += [
        f"  - Number of assets with captions: {sum(bool(row.caption_list) for row in rows)}",
        f"  - Number of assets with image conditions: {sum(row.cond_rendered for row in rows)}",
    ]
    return "\n".join(lines) + "\n"


def failures(root: Path, rows: Sequence[AssetRow]) -> dict[str, int]:
    """How many assets failed in each step and have not come through it since."""
    by_key, counts = {row.sha256: row for row in rows}, {}
    for kind in (DOWNLOADED, *FIELDS, *model_columns(root)):
        failed = {key for path in pending_records(root, FAILED + kind) for key in read_records(path)}
        left = sum(key in by_key and not _is_done(by_key[key], kind) for key in failed)
        if left:
            counts[kind] = left
    return counts


def _is_done(row: AssetRow, kind: str) -> bool:
    if kind == DOWNLOADED:
        return bool(row.local_path)
    return getattr(row, kind) if kind in FIELDS else row.status.get(kind, False)
