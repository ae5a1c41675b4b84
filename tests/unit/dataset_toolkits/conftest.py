"""A data root with three small models."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_toolkits import build_metadata, download
from tests.asset_models import write_models


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with an OBJ, a GLB and a PLY."""
    write_models(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def downloaded(models: Path, tmp_path: Path) -> Path:
    """A data root whose models are downloaded."""
    root = tmp_path / "root"
    arguments = ["folder", "--output_dir", str(root), "--source", str(models)]
    assert build_metadata.main(arguments) == download.main(arguments) == build_metadata.main(arguments) == 0
    return root
