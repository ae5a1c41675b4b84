"""Sizes in the description of a network, checked before it is built: some fill the memory while it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from safe_files.limits import MAX_BLOCKS, MAX_CHANNELS, MAX_GRID, MAX_IMAGE_SIDE_PX, MAX_RATIO
from safe_files.regular import UnreadableFile, shown

_BLOCKS = (
    "num_blocks", "depth", "num_res_blocks", "num_res_blocks_middle", "num_io_res_blocks", "num_iteration",
    "trunk_depth", "iters", "corr_levels", "corr_radius", "num_heads", "aa_block_size", "num_register_tokens",
    "num_gaussians", "rank", "dim", "down_ratio", "stride", "window_size", "patch_size",
)  # fmt: skip
_HIGHEST = {"img_size": MAX_IMAGE_SIDE_PX, "resolution": MAX_GRID, **dict.fromkeys(_BLOCKS, MAX_BLOCKS)}
_MAY_BE_ZERO = {
    "num_blocks", "num_res_blocks", "num_res_blocks_middle", "num_io_res_blocks", "num_register_tokens",
    "trunk_depth", "intermediate_layer_idx",
}  # fmt: skip
_RATIO = "mlp_ratio"


def check_sizes(args: Mapping[str, Any]) -> None:
    """Check every number in the arguments of a network, at any depth.

    Args:
        args: as read from JSON; numbers are judged by their names.

    Raises:
        UnreadableFile: a whole number is negative, 0 where there must be one, or above the limit of its kind;
            a fraction is not finite; or a list is longer than a network has blocks.
    """
    for name, value in args.items():
        _check(name, value)


def _check(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        check_sizes(value)
    elif isinstance(value, list | tuple):
        if len(value) > MAX_BLOCKS:
            raise UnreadableFile(f"{name}: expected at most {MAX_BLOCKS} values, got {len(value)}")
        for item in value:
            _check(name, item)
    elif isinstance(value, int) and not isinstance(value, bool) and name != _RATIO:
        lowest, highest = int(name not in _MAY_BE_ZERO), _HIGHEST.get(name, MAX_CHANNELS)
        if not lowest <= value <= highest:
            raise UnreadableFile(f"{name}: expected {lowest} to {highest}, got {shown(value)}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or (name == _RATIO and not 0 < value <= MAX_RATIO):
            expected = f"above 0 and up to {MAX_RATIO}" if name == _RATIO else "a finite number"
            raise UnreadableFile(f"{name}: expected {expected}, got {shown(value)}")
