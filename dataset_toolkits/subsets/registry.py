"""Sources of assets by name: what each must offer, and the one place where they are listed."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from dataset_toolkits.subsets.instances import Outcome
from scenegen.datasets.metadata import AssetRow

SUBSETS = {
    "3D-FUTURE": "dataset_toolkits.subsets.three_d_future",
    "sweethome3d": "dataset_toolkits.subsets.sweethome3d.data_set",
    "folder": "dataset_toolkits.subsets.folder",
}


class Subset(Protocol):
    """A source of assets: a module with these four functions."""

    def add_args(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options of this source."""

    def get_metadata(self, output_dir: Path, options: argparse.Namespace) -> list[AssetRow]:
        """The table of its assets, before anything of them was made.

        Raises:
            SubsetError: it cannot be had.
        """

    def download(
        self, rows: Sequence[AssetRow], output_dir: Path, options: argparse.Namespace
    ) -> Iterator[Outcome]:
        """Put the models of assets below ``output_dir``; each outcome has at least ``local_path``.

        Raises:
            SubsetError: nothing can be had at all.
        """

    def model_files(self, rows: Sequence[AssetRow]) -> dict[str, str]:
        """Paths of models below the data root, by key; see `instances.model_files`."""


def load_subset(name: str) -> Subset:
    """The source of this name.

    Raises:
        KeyError: there is none.
    """
    return importlib.import_module(SUBSETS[name])
