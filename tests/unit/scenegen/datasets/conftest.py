"""Data roots at toy size, and sources that read them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scenegen.datasets.registry import DATASETS
from scenegen.datasets.source import SourceOptions
from scenegen.datasets.stored import StoredSource
from tests.lookalike_root import lookalike_root
from trellis_modules.config import build

SCENES = "ImageConditionedSparseStructureLatentVGGT"
OPTIONS = SourceOptions(torch.device("cpu"), batch_size=4)


@pytest.fixture(scope="session")
def _toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lookalike_root(tmp_path_factory.mktemp("toy") / "data.set", single_assets=True)


@pytest.fixture
def toy_root(_toy_root: Path) -> Path:
    """Six assets, scenes of 3, 3, 2 and 3 objects and every asset alone; to read from."""
    return _toy_root


@pytest.fixture
def changed_root(_toy_root: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(_toy_root, tmp_path / "root")


@pytest.fixture
def make_source() -> Callable[..., StoredSource]:
    """Function (name, roots, options' fields as ``run``, settings) -> source."""

    def make(name: str, *roots: Path, run: dict[str, Any] | None = None, **settings: Any) -> StoredSource:
        kind = DATASETS[name]
        config = build(kind.config, {"min_aesthetic_score": 4.5, **settings}, f"dataset {name}")
        return kind.make(config, replace(OPTIONS, **{"data_dirs": roots, **(run or {})}))

    return make
