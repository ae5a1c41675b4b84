"""Rows of the table of scenes: kept objects of photos joined with their assets, and assets on their own."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import PurePosixPath

from dataset_toolkits.photos.set_paths import RENDERS_COND, SetPaths
from scenegen.datasets.annotations import KeptObject
from scenegen.datasets.metadata import ASSET, SCENE, AssetRow, SceneRow
from scenegen.datasets.model_boxes import ModelBoxes
from scenegen.inputs.names import PHOTO_NAME, cutout_name

_SHARED = tuple(field.name for field in fields(AssetRow))


class AssetIndex:
    """Assets by the name of their model: the last part of ``file_identifier``, the first asset of a name."""

    def __init__(self, assets: Iterable[AssetRow]) -> None:
        self.by_model: dict[str, AssetRow] = {}
        for asset in assets:
            self.by_model.setdefault(asset.file_identifier.rpartition("/")[2], asset)

    def joined(self, row: SceneRow) -> SceneRow:
        """A row with the present columns of its asset; as it is where the asset is gone."""
        asset = self.by_model.get(row.model_id)
        if asset is None:
            return row
        return replace(row, **{name: getattr(asset, name) for name in _SHARED})


def scene_rows(
    file_name: str, objects: Iterable[KeptObject], assets: AssetIndex, boxes: ModelBoxes, paths: SetPaths
) -> tuple[list[SceneRow], list[KeptObject]]:
    """The rows of one photo, and the objects that have none because no asset is of their model."""
    rows, without = [], []
    for item in objects:
        if item.model_id not in assets.by_model:
            without.append(item)
            continue
        box, folder = boxes.box(item.model_id), paths.masked_images(file_name)
        row = SceneRow(
            scene_id=file_name,
            model_id=item.model_id,
            translation=item.translation,
            rotation=item.rotation_deg,
            scale=box.longest_side,
            vggt_feature=paths.vggt_feature(file_name),
            masked_image_path=f"{folder}/{cutout_name(item.instance_id)}",
            scene_image_path=f"{folder}/{PHOTO_NAME}",
            instance_id=item.instance_id,
            kind=SCENE,
            center=box.center,
        )
        rows.append(assets.joined(row))
    return rows, without


def asset_row(asset: AssetRow, paths: SetPaths, files: Iterable[str]) -> SceneRow:
    """The row of an asset alone, seen in one of its own renders, which its key chooses.

    Args:
        asset: of the table.
        paths: the set.
        files: names of what is in the folder of its renders, from the data root on.

    Raises:
        FileNotFoundError: it has no render.
    """
    folder = PurePosixPath(RENDERS_COND) / asset.sha256
    names = map(PurePosixPath, files)
    views = sorted(name for name in names if name.parent == folder and name.suffix == ".png")
    if not views:
        raise FileNotFoundError(
            f"{paths.root / folder}: expected views of the asset, found none; run render_cond.py again"
        )
    view = str(random.Random(asset.sha256).choice(views))
    row = SceneRow(
        scene_id=asset.sha256,
        model_id=asset.file_identifier.rpartition("/")[2],
        vggt_feature=paths.vggt_feature(asset.sha256),
        masked_image_path=view,
        scene_image_path=view,
        kind=ASSET,
    )
    return replace(row, **{name: getattr(asset, name) for name in _SHARED})


def statistics_text(rows: Iterable[SceneRow]) -> str:
    """Counts of a table: scenes with their models, pictures and sizes, then assets alone."""
    rows = list(rows)
    scenes, alone = ([row for row in rows if row.kind == kind] for kind in (SCENE, ASSET))
    sizes = Counter(Counter(row.scene_id for row in scenes).values())
    lines = [
        f"Number of scenes: {len({row.scene_id for row in scenes})}",
        f"  - distinct models: {len({row.model_id for row in scenes})}",
        f"  - masked images: {len({row.masked_image_path for row in scenes})}",
        *(f"  - {count} scenes have {size} instances" for size, count in sorted(sizes.items())),
        f"Number of single assets: {len(alone)}",
        f"  - distinct models: {len({row.model_id for row in alone})}",
        f"  - images: {len({row.masked_image_path for row in alone})}",
    ]
    return "\n".join(lines) + "\n"


def grouped(rows: Iterable[SceneRow]) -> Mapping[str, list[SceneRow]]:
    """Rows by scene, in the order of their coming."""
    groups: dict[str, list[SceneRow]] = defaultdict(list)
    for row in rows:
        groups[row.scene_id].append(row)
    return groups
