"""Blending of many small volumes front to back, in plain PyTorch, on any device, with gradients.

Pictures are cut into square tiles, of several pixels or of one. Each tile lists the volumes that may touch
it, front to back; a layer of volumes of many tiles is blended at once in dense arithmetic, and a tile is left
when its volumes are used up or nothing shines through any more. With gradients a layer is computed again in
the backward pass: memory grows with the number of layers, not with that of pixels times volumes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trellis_modules import ragged

# Numbers in the largest tensors; on the CPU they fit the cache.
_MAX_NUMBERS = {"cuda": 1 << 23, "cpu": 1 << 18}


@dataclass(frozen=True)
class TileGrid:
    """How V pictures of H x W pixels are cut: E x E pixels a tile, those at the borders reach over them."""

    views: int
    height: int
    width: int
    edge: int

    @property
    def rows(self) -> int:
        """Tiles of a picture from top to bottom."""
        return -(-self.height // self.edge)

    @property
    def columns(self) -> int:
        """Tiles of a picture from left to right."""
        return -(-self.width // self.edge)

    def first_pixels(self, tile: Tensor) -> Tensor:
        """Coordinates (L, 2) of the first pixels of tiles (L,), as (x, y)."""
        return torch.stack([tile % self.columns, tile // self.columns % self.rows], dim=1) * self.edge

    def pictures(self, values: Tensor) -> Tensor:
        """Values (tiles, C, E * E) of all tiles as pictures (V, H, W, C)."""
        channels = values.shape[1]
        grid = values.view(self.views, self.rows, self.columns, channels, self.edge, self.edge)
        pictures = grid.permute(0, 1, 4, 2, 5, 3).reshape(
            self.views, self.rows * self.edge, self.columns * self.edge, channels
        )
        return pictures[:, : self.height, : self.width]


@dataclass(frozen=True)
class TileLists:
    """The volumes of each touched tile, front to back, one list after the other."""

    item: Tensor  # (P,) int64, row of the volume in the caller's table
    tile: Tensor  # (L,) int64, number of the tile among those of all views, by view, row and column
    start: Tensor  # (L,) int64, where the list of a tile starts
    count: Tensor  # (L,) int64


@dataclass(frozen=True)
class Layering:
    """How ``blend`` goes through the lists.

    Attributes:
        depth: volumes of a tile that are blended at once.
        width: numbers that the layer function computes at once for a volume at a pixel.
        channels: values of a pixel.
        least_light: transmittance below which a tile is finished.
    """

    depth: int
    width: int
    channels: int
    least_light: float


#: Blends one layer. Arguments: rows (L, K, C) of the table, filled (L, K) whether there is a volume at this
#: place, tile (L,), transmittance (L, 1, E * E) of all that lies in front. Returns what the layer adds,
#: (L, channels, E * E), and the transmittance behind it.
Layer = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

#: Which of P pairs of a volume (P,) and a tile (P,) really meet, (P,) bool.
Meets = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def tile_lists(
    grid: TileGrid,
    view: Tensor,
    first: Tensor,
    last: Tensor,
    front_to_back: Tensor,
    meets: Meets | None = None,
) -> TileLists:
    """Find and sort the volumes of every tile.

    Args:
        grid: the tiles.
        view: (M,) int64, the picture a volume is seen in.
        first, last: (M, 2) int64, the pixels (x, y) between which it may be seen, inside the picture.
        front_to_back: (M,) int64, the volumes in the order in which they cover each other.
        meets: leaves pairs of a volume and a tile out.
    """
    first, extent = first // grid.edge, last // grid.edge - first // grid.edge + 1
    first, extent, view = first[front_to_back], extent[front_to_back], view[front_to_back]
    rank, local = ragged.expand(extent.prod(1))
    width = extent[rank, 0]
    column, row = first[rank, 0] + local % width, first[rank, 1] + local // width
    tile = (view[rank] * grid.rows + row) * grid.columns + column
    if meets is not None:
        met = meets(front_to_back[rank], tile)
        rank, tile = rank[met], tile[met]
    # with the rank every key is unique, so that the result does not depend on how the sort treats equal ones
    num_ranks = max(len(front_to_back), 1)
    keys = (tile * num_ranks + rank).sort().values
    tile, count = torch.unique_consecutive(keys // num_ranks, return_counts=True)
    return TileLists(front_to_back[keys % num_ranks], tile, count.cumsum(0) - count, count)


def blend(table: Tensor, lists: TileLists, layer: Layer, grid: TileGrid, layering: Layering) -> Tensor:
    """Blend volumes into pictures (V, H, W, channels).

    Args:
        table: (M, C), what ``layer`` needs to know of each volume.
        lists: rows of the table for each tile.
        layer: blends one layer of volumes.
        grid: the tiles.
        layering: sizes of the layers.
    """
    # the empty sum ties pictures without any volume to the parameters too: their gradient is 0
    shape = (grid.views * grid.rows * grid.columns, layering.channels, grid.edge**2)
    values = table.new_zeros(shape) + table[:0].sum()
    if len(lists.tile):
        limit = _MAX_NUMBERS.get(table.device.type, _MAX_NUMBERS["cpu"])
        longest_first = lists.count.argsort(descending=True)
        parts = longest_first.split(max(1, limit // (layering.depth * layering.width * grid.edge**2)))
        blended = torch.cat([_blend_tiles(table, lists, part, layer, layering, shape[2]) for part in parts])
        values = values.index_copy(0, lists.tile[longest_first], blended)
    return grid.pictures(values)


def _blend_tiles(
    table: Tensor, lists: TileLists, part: Tensor, layer: Layer, layering: Layering, pixels: int
) -> Tensor:
    """(L, channels, pixels) blended values of the tiles ``part`` (L,) of the lists."""
    tile, start, count = lists.tile[part], lists.start[part], lists.count[part]
    transmittance = table.new_ones((len(part), 1, pixels))
    blended = table.new_zeros((len(part), layering.channels, pixels))
    active = torch.arange(len(part), device=part.device)
    steps = torch.arange(layering.depth, device=part.device)
    needs_gradient = torch.is_grad_enabled() and table.requires_grad

    def blend_layer(
        item: Tensor, filled: Tensor, tile: Tensor, transmittance: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows = table.index_select(0, item.flatten()).view(*item.shape, -1)
        return layer(rows, filled, tile, transmittance)

    for passed in range(0, int(count.max()), layering.depth):
        place = passed + steps
        filled = place < count[active, None]
        item = lists.item[torch.where(filled, start[active, None] + place, 0)]
        inputs = (item, filled, tile[active], transmittance)
        if needs_gradient:
            added, transmittance = checkpoint(blend_layer, *inputs, use_reentrant=False)
        else:
            added, transmittance = blend_layer(*inputs)
        blended = blended.index_add(0, active, added)
        light = transmittance.detach().amax((1, 2))
        unfinished = (count[active] > passed + layering.depth) & (light >= layering.least_light)
        kept = unfinished.nonzero()[:, 0]
        if not len(kept):
            break
        active, transmittance = active[kept], transmittance[kept]
    return blended
