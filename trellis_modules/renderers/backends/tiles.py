"""Blending of many small volumes front to back, in plain PyTorch, on any device, with gradients.

Pictures are cut into small tiles. Each tile lists the volumes that may touch it, front to back; a layer of
volumes of many tiles is blended at once in dense arithmetic, and a tile is left when its volumes are used up
or nothing shines through any more. With gradients a layer is computed again in the backward pass: memory
grows with the number of layers, not with that of pixels times volumes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trellis_modules import ragged
from trellis_modules.renderers.backends import BlendedViews
from trellis_modules.renderers.cameras import Cameras

EDGE = 8  # pixels per edge of a tile
CHANNELS = 5  # colour and depth, times alpha, and alpha
_OPAQUE = 1e-4  # transmittance below which a tile is finished

# Numbers in the largest tensors; on the CPU they fit the cache.
_MAX_NUMBERS = {"cuda": 1 << 23, "cpu": 1 << 18}


@dataclass(frozen=True)
class TileLists:
    """The volumes of each touched tile, front to back, one list after the other."""

    item: Tensor  # (P,) int64, row of the volume in the caller's table
    tile: Tensor  # (L,) int64, number of the tile among those of all views, by view, row and column
    start: Tensor  # (L,) int64, where the list of a tile starts
    count: Tensor  # (L,) int64


#: Blends one layer. Arguments: rows (L, K, C) of the table, filled (L, K) whether there is a volume at this
#: place, tile (L,), transmittance (L, 1, EDGE * EDGE) of all that lies in front. Returns what the layer adds,
#: (L, CHANNELS, EDGE * EDGE), and the transmittance behind it.
Layer = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def tiles_per_edge(size: int) -> int:
    """Tiles along an edge of a picture; the last one may reach over it."""
    return -(-size // EDGE)


def tile_pixels(tile: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """View (L,) and coordinates (L, 2) of the first pixel, as (x, y), of tiles (L,)."""
    per_edge = tiles_per_edge(size)
    place = torch.stack([tile % per_edge, tile // per_edge % per_edge], dim=1)
    return tile // per_edge**2, place * EDGE


@torch.no_grad()
def tile_lists(view: Tensor, first: Tensor, last: Tensor, front_to_back: Tensor, size: int) -> TileLists:
    """Find and sort the volumes of every tile.

    Args:
        view: (M,) int64, the picture a volume is seen in.
        first, last: (M, 2) int64, the pixels (x, y) between which it may be seen, inside the picture.
        front_to_back: (M,) int64, the volumes in the order in which they cover each other.
        size: pixels per edge.
    """
    first, extent = first // EDGE, last // EDGE - first // EDGE + 1
    first, extent, view = first[front_to_back], extent[front_to_back], view[front_to_back]
    rank, local = ragged.expand(extent.prod(1))
    width = extent[rank, 0]
    column, row = first[rank, 0] + local % width, first[rank, 1] + local // width
    tile = (view[rank] * tiles_per_edge(size) + row) * tiles_per_edge(size) + column
    # with the rank every key is unique, so that the result does not depend on how the sort treats equal ones
    num_ranks = max(len(front_to_back), 1)
    keys = (tile * num_ranks + rank).sort().values
    tile, count = torch.unique_consecutive(keys // num_ranks, return_counts=True)
    return TileLists(front_to_back[keys % num_ranks], tile, count.cumsum(0) - count, count)


def blend(
    table: Tensor, lists: TileLists, layer: Layer, cameras: Cameras, *, depth: int, width: int = 1
) -> BlendedViews:
    """Blend volumes into pictures.

    Args:
        table: (M, C), what ``layer`` needs to know of each volume.
        lists: rows of the table for each tile.
        layer: blends one layer of volumes.
        cameras: whose pictures these are.
        depth: volumes in a layer.
        width: numbers that ``layer`` computes at once for a volume at a pixel.
    """
    per_edge = tiles_per_edge(cameras.size)
    # the empty sum ties pictures without any volume to the parameters too: their gradient is 0
    tiles = table.new_zeros((len(cameras) * per_edge**2, CHANNELS, EDGE**2)) + table[:0].sum()
    if len(lists.tile):
        limit = _MAX_NUMBERS.get(table.device.type, _MAX_NUMBERS["cpu"])
        longest_first = lists.count.argsort(descending=True)
        for part in longest_first.split(max(1, limit // (depth * width * EDGE**2))):
            tiles = tiles.index_copy(0, lists.tile[part], _blend_tiles(table, lists, part, layer, depth))
    pictures = tiles.view(len(cameras), per_edge, per_edge, CHANNELS, EDGE, EDGE).permute(0, 1, 4, 2, 5, 3)
    pictures = pictures.reshape(len(cameras), per_edge * EDGE, per_edge * EDGE, CHANNELS)
    pictures = pictures[:, : cameras.size, : cameras.size]
    return BlendedViews(pictures[..., :3], pictures[..., 3], pictures[..., 4])


def _blend_tiles(table: Tensor, lists: TileLists, part: Tensor, layer: Layer, depth: int) -> Tensor:
    """(L, CHANNELS, EDGE * EDGE) blended values of the tiles ``part`` (L,) of the lists."""
    tile, start, count = lists.tile[part], lists.start[part], lists.count[part]
    transmittance = table.new_ones((len(part), 1, EDGE**2))
    blended = table.new_zeros((len(part), CHANNELS, EDGE**2))
    active = torch.arange(len(part), device=part.device)
    steps = torch.arange(depth, device=part.device)
    needs_gradient = torch.is_grad_enabled() and table.requires_grad

    def blend_layer(
        item: Tensor, filled: Tensor, tile: Tensor, transmittance: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows = table.index_select(0, item.flatten()).view(*item.shape, -1)
        return layer(rows, filled, tile, transmittance)

    for passed in range(0, int(count.max()), depth):
        place = passed + steps
        filled = place < count[active, None]
        item = lists.item[torch.where(filled, start[active, None] + place, 0)]
        inputs = (item, filled, tile[active], transmittance)
        if needs_gradient:
            added, transmittance = checkpoint(blend_layer, *inputs, use_reentrant=False)
        else:
            added, transmittance = blend_layer(*inputs)
        blended = blended.index_add(0, active, added)
        unfinished = (count[active] > passed + depth) & (transmittance.detach().amax((1, 2)) > _OPAQUE)
        kept = unfinished.nonzero()[:, 0]
        if not len(kept):
            break
        active, transmittance = active[kept], transmittance[kept]
    return blended
