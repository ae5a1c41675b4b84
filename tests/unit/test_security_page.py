"""The numbers in SECURITY.md are those of the tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_ROW = re.compile(r"^\| (?P<kind>[^|]+) \| `(?P<file>tests/[\w/]+\.py)` \| (?P<count>\d+) \|$", re.MULTILINE)


def collected(files: list[str]) -> Counter[str]:
    """Test file -> its number of tests."""
    program = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    program += ["-m", "", *files]  # the slow ones too
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(program, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert result.returncode == 0, result.stdout[-2000:]
    return Counter(line.partition("::")[0] for line in result.stdout.splitlines() if "::" in line)


def test_the_table_of_cases_has_the_numbers_of_the_tests():
    """At least as many as it says, and at most a tenth more."""
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = {row["file"]: (row["kind"], int(row["count"])) for row in _ROW.finditer(page)}
    assert len(rows) >= 12
    counts = collected(list(rows))
    wrong = [
        f"| {kind} | `{file}` | {counts[file]} |"
        for file, (kind, count) in rows.items()
        if not 0.9 * counts[file] <= count <= counts[file]
    ]
    stated = sum(count for _, count in rows.values())
    assert not wrong, "SECURITY.md: these rows should be\n" + "\n".join(wrong)
    assert f"| Together | | {stated} |" in page.splitlines(), (
        f"SECURITY.md: the rows have {stated} cases together"
    )
