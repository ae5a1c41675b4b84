"""The list of what could not be made of a set of photos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scenegen.datasets.records import FAILED
from scenegen.datasets.tables import write_lines


def write_failures(root: Path, kind: str, worker: str, source: Path, failed: Mapping[str, str]) -> int:
    """Write ``failed_<kind>_<worker>.csv`` and say how many there are; without any the file is removed.

    Args:
        root: data root.
        kind: name of the step.
        worker: which process.
        source: the file that the items are from.
        failed: reasons by item.

    Returns:
        The exit status: 1 when something failed.
    """
    path = root / f"{FAILED}{kind}_{worker}.csv"
    if not failed:
        path.unlink(missing_ok=True)
        return 0
    lines = [
        {"file": str(source), "item": item, "error": " ".join(reason.split())}
        for item, reason in failed.items()
    ]
    write_lines(path, ["file", "item", "error"], lines)
    print(f"{len(failed)} failed, listed in {path}")
    return 1
