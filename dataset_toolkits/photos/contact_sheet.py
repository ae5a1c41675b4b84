"""One picture that shows a data set at a glance: photos with their masks coloured, and assets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dataset_toolkits.photos.set_paths import RENDERS_COND
from safe_files.pictures import read_picture
from safe_files.regular import UnreadableFile
from scenegen.datasets.metadata import AssetRow, SceneRow

TILE = 192
COLUMNS = 6
MAX_SCENES, MAX_ASSETS = 18, 12
_LABEL_HEIGHT = 14
_COLOURS = np.array(
    [[230, 60, 60], [60, 160, 240], [90, 200, 90], [240, 180, 40], [170, 90, 220], [60, 210, 200]]
)


def contact_sheet(
    root: Path, scenes: Mapping[str, Mapping[str, Sequence[SceneRow]]], assets: Sequence[AssetRow]
) -> Image.Image | None:
    """Draw the first photos of each set and the first assets.

    Args:
        root: data root.
        scenes: rows of each photo, by set and photo.
        assets: of the table.

    Returns:
        RGB, or None where there is no picture at all. Pictures that cannot be read are left out: the
        inspection names them.
    """
    tiles = []
    for set_name, photos in scenes.items():
        for name, rows in list(photos.items())[:MAX_SCENES]:
            if (tile := _photo_tile(root, rows)) is not None:
                tiles.append((f"{set_name} {name}: {len(rows)}", tile))
    drawn = [asset for asset in assets if asset.rendered or asset.cond_rendered][:MAX_ASSETS]
    for asset in drawn:
        if (tile := _asset_tile(root, asset)) is not None:
            tiles.append((asset.sha256[:16], tile))
    if not tiles:
        return None
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + _LABEL_HEIGHT)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (label, tile) in enumerate(tiles):
        x, y = number % COLUMNS * TILE, number // COLUMNS * (TILE + _LABEL_HEIGHT)
        sheet.paste(tile, (x, y))
        draw.text((x + 2, y + TILE), label, fill="black")
    return sheet


def _photo_tile(root: Path, rows: Sequence[SceneRow]) -> Image.Image | None:
    """A photo with the masks of its objects in colours, where they were written."""
    photo = _opened(root / rows[0].scene_image_path)
    if photo is None:
        return None
    small = photo.convert("RGB")
    small.thumbnail((TILE, TILE))
    pixels = np.asarray(small).astype(float)
    for number, row in enumerate(rows):
        crop = root / row.masked_image_path
        mask = _opened(crop.with_name(f"{crop.stem}_mask.png"))
        if mask is not None:
            inside = np.asarray(mask.convert("L").resize(small.size))[..., None] / 255
            pixels += 0.4 * inside * (_COLOURS[number % len(_COLOURS)] - pixels)
    return _padded(Image.fromarray(pixels.round().astype(np.uint8)))


def _asset_tile(root: Path, asset: AssetRow) -> Image.Image | None:
    for folder in (RENDERS_COND, "renders"):
        view = _opened(root / folder / asset.sha256 / "000.png")
        if view is not None:
            view = view.convert("RGBA")
            view.thumbnail((TILE, TILE))
            white = Image.new("RGBA", view.size, "white")
            return _padded(Image.alpha_composite(white, view).convert("RGB"))
    return None


def _padded(picture: Image.Image) -> Image.Image:
    tile = Image.new("RGB", (TILE, TILE), (235, 235, 235))
    tile.paste(picture, ((TILE - picture.width) // 2, (TILE - picture.height) // 2))
    return tile


def _opened(path: Path) -> Image.Image | None:
    try:
        return read_picture(path)
    except (OSError, UnreadableFile):
        return None
