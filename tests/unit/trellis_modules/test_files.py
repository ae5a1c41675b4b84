"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from trellis_modules.files import atomic_write, atomic_write_bytes, atomic_write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.txt"
    atomic_write_text(path, "größe\n")
    assert path.read_bytes() == "größe\n".encode()
    atomic_write_bytes(path, b"\0")
    assert path.read_bytes() == b"\0" and names(path.parent) == ["a.txt"]


def test_the_target_is_untouched_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == path.parent
    assert path.read_text() == "new" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_keeps_the_old_file_and_removes_the_new(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_failure_before_anything_is_written_is_the_one_that_shows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="first"), atomic_write(tmp_path / "a.txt"):
        raise ValueError("first")
    assert names(tmp_path) == []


def test_what_a_kill_left_behind_is_overwritten(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.txt") as killed:
        killed.write_text("a")
    killed.write_text("leftover of a killed run")
    atomic_write_text(tmp_path / "a.txt", "new")
    assert names(tmp_path) == ["a.txt"]


def test_processes_that_share_a_file_have_temporary_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    with atomic_write(path, shared=True) as first:
        first.write_text("first")
        with monkeypatch.context() as other:
            other.setattr("os.getpid", lambda: 1)
            with atomic_write(path, shared=True) as second:
                assert second != first
                second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first" and names(tmp_path) == ["a.txt"]


def test_new_files_get_the_permissions_of_new_files(tmp_path: Path) -> None:
    plain, written = tmp_path / "plain", tmp_path / "written"
    plain.touch()
    atomic_write_bytes(written, b"")
    assert written.stat().st_mode == plain.stat().st_mode
