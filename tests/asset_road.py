"""The first steps of the asset road, in this process or in one that can be killed.

``python -m tests.asset_road ROOT MODELS`` prints a line once it begins to work.
"""

from __future__ import annotations

import sys

from dataset_toolkits import build_metadata, download, render, voxelize


def first_steps(root: str, models: str) -> None:
    """List, download, draw and voxelize the models of a folder."""
    shared = ["folder", "--output_dir", root]
    for main, arguments in (
        (download.main, ["--source", models]),
        (render.main, ["--engine", "EMBREE", "--resolution", "64", "--max-workers", "1"]),
        (voxelize.main, ["--max-workers", "1"]),
    ):
        assert build_metadata.main([*shared, "--source", models]) == 0
        assert main([*shared, *arguments]) == 0
    assert build_metadata.main(shared) == 0


if __name__ == "__main__":
    print("ready", flush=True)
    first_steps(*sys.argv[1:])
