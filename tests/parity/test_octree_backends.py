"""The octree backends of a GPU against the recorded pictures and gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.parity.families.octrees import octree_rasteriser
from tests.parity.golden import GoldenCase, default_golden_dir
from trellis_modules.renderers.backends import OCTREE_BACKENDS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per octree of the chosen folder, see conftest.py."""
    folder = metafunc.config.getoption("golden_dir", default=None) or default_golden_dir()
    paths = sorted(folder.glob("octree_*.json"))
    metafunc.parametrize("octree_path", paths, ids=[path.stem for path in paths])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("backend", OCTREE_BACKENDS.backends)
def test_golden_octree(octree_path: Path, backend: str) -> None:
    case = GoldenCase.load(octree_path)
    if not OCTREE_BACKENDS.backends[backend].installed():
        pytest.skip(f"needs the package {OCTREE_BACKENDS.backends[backend].package}")
    problems = case.compare(octree_rasteriser(case, "cuda", backend))
    assert not problems, f"{case.name}: {len(problems)} tensors differ\n" + "\n".join(problems)
