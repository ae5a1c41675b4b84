"""Commands of ``dataset_toolkits`` on full disks, below odd names, and told to write where nothing can be."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.data_commands import main
from tests.e2e.test_killed_data_commands import CASES, HOME, content

ODD_NAME = 'a "b" ü\n🙂 [1]*'
QUICK = {"build_metadata, merging", "download", "stat_latent", "pack_scenes, latents", "build_attribution"}
"""Commands whose cases are run by default."""


def cases() -> list:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES]


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: the system refuses as it does on a full disk."""
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)


def told(caplog, capsys) -> list[str]:
    """The lines about errors; none of them has a traceback."""
    said = [record for record in caplog.records if record.levelno >= logging.ERROR]
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err + printed.out
    assert not any(record.exc_info or "\n" in record.getMessage() for record in said)
    return [record.getMessage() for record in said]


@pytest.mark.parametrize("name", cases())
def test_a_full_disk_ends_a_command_in_one_line_and_the_next_run_goes_on(
    tmp_path: Path, finished_roots: dict[str, Path], caplog, capsys, name: str
) -> None:
    case = CASES[name]
    fresh = case.copies_of(finished_roots[case.root], tmp_path)
    whole, root = fresh("whole"), fresh("root")
    before = content(root)
    assert main([case.command, *case.given(whole)]) == 0
    expected = content(whole)
    made = [len(value) for file, value in expected.items() if before.get(file) != value]
    told(caplog, capsys)
    caplog.clear()
    with full_disk(max(made) // 2):
        assert main([case.command, *case.given(root)]) == 1
    lines = told(caplog, capsys)
    assert len(lines) == 1 and "File too large" in lines[0]
    after = content(root)
    assert not [file for file in before if file not in after]
    assert not [file for file in after if file not in expected]
    assert main([case.command, *case.given(root)]) == 0
    assert content(root) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_root_of_any_name_is_written_below(
    tmp_path: Path, finished_roots: dict[str, Path], capsys, name: str
) -> None:
    case = CASES[name]
    fresh = case.copies_of(finished_roots[case.root], tmp_path)
    plain, odd = fresh("plain"), fresh(ODD_NAME)
    for root in (plain, odd):
        assert main([case.command, *case.given(root)]) == 0
    assert content(plain).keys() == content(odd).keys()


NOWHERE = {
    "build_attribution": ["--output_dir", "HOME", "--output", "/proc/nothing/credits.md"],
    "build_mesh_packs": ["--output_dir", "HOME", "--packs", "/proc/nothing"],
    "build_procedural_pack": ["--output", "/proc/nothing/pack.safetensors", "--count", "2", "--workers", "1"],
    "build_lookalike": ["--output_dir", "/proc/nothing", "--assets", "2", "--scenes", "2", "--size", "32"],
    "build_metadata": ["folder", "--output_dir", "/proc/nothing", "--source", "HOME"],
    "build_scenes": [
        "--data_root",
        "HOME",
        "--output_dir",
        "/proc/nothing",
        "--list",
        "LIST",
        "--make_list",
        "1",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", NOWHERE)
def test_a_place_that_cannot_be_written_to_is_one_line(
    tmp_path: Path, finished_roots: dict[str, Path], caplog, capsys, command: str
) -> None:
    places = {"HOME": str(finished_roots[HOME]), "LIST": str(tmp_path / "list.json")}
    assert main([command, *(places.get(argument, argument) for argument in NOWHERE[command])]) == 1
    lines = told(caplog, capsys)
    assert len(lines) == 1 and "/proc/nothing" in lines[0]
