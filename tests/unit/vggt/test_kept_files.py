"""Results of the vggt command beside files of a person."""

from __future__ import annotations

from pathlib import Path

import pytest

from vggt.kept_files import results_folder


def _write(folder: Path, text: str) -> None:
    with results_folder(folder) as empty:
        (empty / "depth").mkdir()
        (empty / "cameras.json").write_text(text)
        (empty / "depth" / "000.npz").write_text(text)


def test_results_replace_those_of_an_earlier_run_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path, "first")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "depth" / "000_edited.npz").write_text("mine")
    _write(tmp_path, "second")
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"cameras.json", "depth/000.npz", "depth/000_edited.npz", "notes.txt", "files.json"}
    assert (tmp_path / "depth" / "000.npz").read_text() == "second" and not caplog.messages


def test_what_was_changed_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2):
        _write(tmp_path, "made")
        (tmp_path / "cameras.json").write_text(f"mine {number}")
    _write(tmp_path, "made")
    assert (tmp_path / "cameras.json.bak").read_text() == "mine 0"
    assert (tmp_path / "cameras.json.bak2").read_text() == "mine 1"
    assert (tmp_path / "cameras.json").read_text() == "made"
    assert "kept as cameras.json.bak2" in caplog.text


def test_a_run_that_fails_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    _write(tmp_path, "made")
    with pytest.raises(ValueError, match="no geometry"), results_folder(tmp_path) as empty:
        (empty / "cameras.json").write_text("half")
        raise ValueError("no geometry")
    assert (tmp_path / "cameras.json").read_text() == "made"
    assert not list(tmp_path.glob(".partial-*"))
