"""The two tables of a data set: ``metadata.csv`` of its assets, ``metadata_scene[_test].csv`` of its scenes.

Ids are text, whatever they look like. Columns that are not listed here are kept as text in ``extra``, and
columns named ``feature_*``, ``latent_*`` and ``ss_latent_*`` are flags, one for each kind of stored data.
Files that were written before ``instance_id``, ``kind`` and ``center`` existed are read too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from safe_files.json_reader import parse_json
from scenegen.datasets.tables import (
    COUNT,
    FLAG,
    NUMBER,
    NUMBER_OR_FALSE,
    OPTIONAL_COUNT,
    TEXT,
    VECTOR_OR_FALSE,
    Column,
    MetadataError,
    OnError,
    Vector3,
    read_cells,
    read_lines,
    write_lines,
)

ASSETS_NAME = "metadata.csv"
SCENES_NAMES = {"train": "metadata_scene.csv", "test": "metadata_scene_test.csv"}
SCENE, ASSET = "scene", "asset"
"""Kinds of a scene row: an object in a photo, or an asset alone in one of its own renders."""

STATUS = re.compile(r"(feature|latent|ss_latent)_.+")
"""Columns that say whether an asset has stored data of a model."""

_ASSET_COLUMNS = {
    "sha256": TEXT,
    "file_identifier": TEXT,
    "aesthetic_score": NUMBER,
    "captions": TEXT,
    "rendered": FLAG,
    "voxelized": FLAG,
    "num_voxels": COUNT,
    "cond_rendered": FLAG,
    "local_path": TEXT,
}
_PLACE_COLUMNS = {
    "scene_id": TEXT,
    "model_id": TEXT,
    "translation": VECTOR_OR_FALSE,
    "rotation": VECTOR_OR_FALSE,
    "scale": NUMBER_OR_FALSE,
    "vggt_feature": TEXT,
    "masked_image_path": TEXT,
    "scene_image_path": TEXT,
}
_ADDED_COLUMNS = {"instance_id": OPTIONAL_COUNT, "kind": TEXT, "center": VECTOR_OR_FALSE}


_Row = TypeVar("_Row")


@dataclass(frozen=True)
class AssetRow:
    """One asset.

    Attributes:
        sha256: key of the asset, unique in its table.
        file_identifier: its name at its source, e.g. ``3D-FUTURE-model/<model_id>``.
        aesthetic_score: None where it is not known.
        captions: JSON list of strings, or empty; see `caption_list`.
        rendered, voxelized, cond_rendered: which steps are done.
        num_voxels: occupied voxels of its surface.
        local_path: model file relative to the data root; empty until it is there.
        status: ``feature_*``, ``latent_*`` and ``ss_latent_*`` columns.
        extra: all other columns, as text.
    """

    sha256: str
    file_identifier: str = ""
    aesthetic_score: float | None = None
    captions: str = ""
    rendered: bool = False
    voxelized: bool = False
    num_voxels: int = 0
    cond_rendered: bool = False
    local_path: str = ""
    status: dict[str, bool] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def caption_list(self) -> list[str]:
        """The captions; none where the cell is empty or is no list."""
        try:
            captions = parse_json(self.captions)
        except ValueError:
            return []
        return [str(caption) for caption in captions] if isinstance(captions, list) else []


@dataclass(frozen=True)
class SceneRow:
    """One object of one photo, with the columns of its asset.

    Attributes:
        scene_id: file name of the photo without its ending; the asset's key in a row of kind `ASSET`.
        model_id: the model at its source.
        translation, rotation, scale: pose of the object in the camera's frame as it was annotated: position
            of the origin of the model file, Euler angles in degrees about the fixed axes x, y, z, and longest
            side of the model's box. None in a row of kind `ASSET`.
        vggt_feature, masked_image_path, scene_image_path: files relative to the data root.
        sha256 to status: as in `AssetRow`.
        instance_id: number of the object in its photo, which is that of its mask.
        kind: `SCENE` or `ASSET`.
        center: centre of the box of the model file in its own coordinates, where it is known.
        extra: all other columns, as text.
    """

    scene_id: str
    model_id: str = ""
    translation: Vector3 | None = None
    rotation: Vector3 | None = None
    scale: float | None = None
    vggt_feature: str = ""
    masked_image_path: str = ""
    scene_image_path: str = ""
    sha256: str = ""
    file_identifier: str = ""
    aesthetic_score: float | None = None
    captions: str = ""
    rendered: bool = False
    voxelized: bool = False
    num_voxels: int = 0
    cond_rendered: bool = False
    local_path: str = ""
    status: dict[str, bool] = field(default_factory=dict)
    instance_id: int | None = None
    kind: str = SCENE
    center: Vector3 | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int | None]:
        """What is unique in a table: photo and number of the object in it."""
        return self.scene_id, self.instance_id


def read_assets(path: Path, on_error: OnError | None = None) -> list[AssetRow]:
    """Read a table of assets.

    Args:
        path: ``metadata.csv``.
        on_error: takes the error of a line that cannot be used, which is left out; None raises it.

    Raises:
        MetadataError: the file is missing or is no such table; without `on_error` also for a bad line: a cell
            of another type, a key that is empty or that another line has too.
    """

    def make(where: str, cells: Mapping[str, str]) -> tuple[str, AssetRow]:
        row = AssetRow(**_fields(where, cells, _ASSET_COLUMNS))
        if not row.sha256:
            raise MetadataError(f"{where}: expected a sha256, got an empty cell; remove the line")
        return f"sha256 {row.sha256}", row

    return _read(path, ["sha256"], make, on_error)


def write_assets(rows: Iterable[AssetRow], path: Path) -> None:
    """Write a table of assets, in the order given; the file appears whole.

    Raises:
        MetadataError: two rows have the same key.
    """
    rows = list(rows)
    _write(path, rows, _ASSET_COLUMNS, {}, [row.sha256 for row in rows])


def read_scenes(path: Path, on_error: OnError | None = None) -> list[SceneRow]:
    """Read a table of scenes.

    Args:
        path: ``metadata_scene.csv`` or ``metadata_scene_test.csv``.
        on_error: takes the error of a line that cannot be used, which is left out; None raises it.

    Raises:
        MetadataError: the file is missing or is no such table; without `on_error` also for a bad line: a cell
            of another type, a pose that is missing or not finite, an id that lost its leading zeros, or an
            object that another line has too.
    """
    columns = {**_PLACE_COLUMNS, **_ASSET_COLUMNS, **_ADDED_COLUMNS}

    def make(where: str, cells: Mapping[str, str]) -> tuple[str, SceneRow]:
        row = _scene_row(where, _fields(where, cells, columns))
        return f"object {row.instance_id} of {row.scene_id}", row

    return _read(path, ["scene_id", "translation", "rotation", "scale"], make, on_error)


def write_scenes(rows: Iterable[SceneRow], path: Path) -> None:
    """Write a table of scenes, in the order given; the file appears whole.

    Raises:
        MetadataError: two rows are of the same object.
    """
    rows = list(rows)
    _write(path, rows, {**_PLACE_COLUMNS, **_ASSET_COLUMNS}, _ADDED_COLUMNS, [row.key for row in rows])


def _read(
    path: Path,
    required: Sequence[str],
    make: Callable[[str, Mapping[str, str]], tuple[str, _Row]],
    on_error: OnError | None,
) -> list[_Row]:
    """Rows of a table.

    Args:
        path: the file.
        required: columns that it must have.
        make: file and line, and cells -> what must be unique, in words, and the row.
        on_error: see `read_assets`.
    """
    rows: dict[str, _Row] = {}
    first_line: dict[str, int] = {}
    for line, cells in read_lines(path, required, on_error):
        where = f"{path}: line {line}"
        try:
            key, row = make(where, cells)
            if key in rows:
                raise MetadataError(f"{where}: {key} is on line {first_line[key]} too; keep one of them")
        except MetadataError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        rows[key], first_line[key] = row, line
    return list(rows.values())


def _fields(where: str, cells: Mapping[str, str], columns: Mapping[str, Column]) -> dict[str, Any]:
    """Arguments of a row class: known columns, status and extra ones."""
    status_columns = {name: FLAG for name in cells if name not in columns and STATUS.fullmatch(name)}
    values, others = read_cells(where, cells, columns)
    status, extra = read_cells(where, others, status_columns)
    return {**values, "status": status, "extra": extra}


def _scene_row(where: str, values: dict[str, Any]) -> SceneRow:
    """A row with the added columns, which are found from the others in a file without them."""
    picture = PurePosixPath(values["masked_image_path"])
    if not values["scene_id"]:
        raise MetadataError(f"{where}: expected a scene_id, got an empty cell; remove the line")
    if not values["kind"]:
        values["kind"] = ASSET if values["scene_id"] == values["sha256"] else SCENE
    if values["kind"] not in (SCENE, ASSET):
        raise MetadataError(f"{where}: kind: expected {SCENE} or {ASSET}, got {values['kind']!r}")
    row = SceneRow(**values)
    if row.kind == ASSET:
        return row
    if None in (row.translation, row.rotation, row.scale) or row.scale <= 0:
        raise MetadataError(
            f"{where}: {row.scene_id}: expected a translation, a rotation and a scale above 0, got "
            f"{row.translation}, {row.rotation}, {row.scale}; remove the line"
        )
    folder = picture.parent.name
    if folder and folder != row.scene_id and folder == row.scene_id.zfill(len(folder)):
        raise MetadataError(
            f"{where}: scene_id {row.scene_id} lost its leading zeros, its pictures are in {folder}; "
            "write the table again, with ids as text"
        )
    if row.instance_id is None and picture.stem.isdecimal():
        values["instance_id"] = int(picture.stem)
        row = SceneRow(**values)
    return row


def _write(
    path: Path,
    rows: Sequence[AssetRow] | Sequence[SceneRow],
    columns: Mapping[str, Column],
    added: Mapping[str, Column],
    keys: Sequence[Any],
) -> None:
    """Write rows: known columns, status columns, added columns, then all others as they came."""
    seen = set()
    for key in keys:
        if key in seen:
            raise MetadataError(f"{path}: two rows have the key {key}; keep one of them")
        seen.add(key)
    status = sorted({name for row in rows for name in row.status})
    extra = list(dict.fromkeys(name for row in rows for name in row.extra))
    written = {**columns, **added}
    lines = [
        {name: column.text(getattr(row, name)) for name, column in written.items()}
        | {name: FLAG.text(row.status.get(name, False)) for name in status}
        | row.extra
        for row in rows
    ]
    write_lines(path, [*columns, *status, *added, *extra], lines)
