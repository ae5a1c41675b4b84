"""Options of the parity tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity.golden import default_golden_dir


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the golden cases come from another folder of the same form."""
    parser.addoption(
        "--golden-dir",
        type=Path,
        default=None,
        help="folder with golden cases (NAME.json + NAME.safetensors); default: tests/data/golden",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per golden case of the chosen folder."""
    if "golden_path" not in metafunc.fixturenames:
        return
    # The option is unknown when this conftest was collected after the command line was parsed.
    folder = metafunc.config.getoption("golden_dir", default=None) or default_golden_dir()
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise pytest.UsageError(f"--golden-dir: no case (*.json) in {folder}")
    metafunc.parametrize("golden_path", paths, ids=[path.stem for path in paths])
