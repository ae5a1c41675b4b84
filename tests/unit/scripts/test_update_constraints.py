"""The script that fixes versions."""

import re

import pytest

from scripts import update_constraints


def test_help_and_dry_run_leave_the_file_as_it_is(capsys):
    before = update_constraints.TARGET.read_bytes()
    with pytest.raises(SystemExit) as exit_:
        update_constraints.main(["--help"])
    assert exit_.value.code == 0
    update_constraints.main(["--dry-run"])
    assert update_constraints.TARGET.read_bytes() == before
    assert re.search(r"^torch==\d", capsys.readouterr().out, re.MULTILINE)


def test_versions_go_to_the_file_that_is_named(tmp_path, capsys):
    update_constraints.main(["--output", str(tmp_path / "mine.txt")])
    lines = (tmp_path / "mine.txt").read_text().splitlines()
    assert lines[0] == update_constraints.HEADER and any(line.startswith("numpy==") for line in lines)
    assert capsys.readouterr().out == f"mine.txt: {len(lines) - 1} versions\n"
