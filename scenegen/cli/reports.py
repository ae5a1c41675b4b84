"""What commands over many scenes tell: log lines of faults, and one summary."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from scenegen.batch.scenes import SceneReport


def set_up_logging() -> None:
    """Warnings and errors go to stderr, one line each, and so does what was made of inputs on the way."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for name in ("scenegen.cli", "scenegen.inputs"):
        logging.getLogger(name).setLevel(logging.INFO)
    # The hub's package writes a line for each try, ours tell the end. It sets its level while it is loaded.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def count_statuses(reports: Sequence[SceneReport]) -> dict[str, int]:
    """How many scenes are done, skipped and failed."""
    return {status: sum(r.status == status for r in reports) for status in ("done", "skipped", "failed")}


def summary(counts: Mapping[str, int], output: Path, memory: str = "") -> str:
    """One line for people: `count_statuses`, where the results are, and how to redo what was skipped."""
    hint = "; --overwrite makes skipped ones again" if counts["skipped"] else ""
    return f"{', '.join(f'{count} {status}' for status, count in counts.items())} in {output}{memory}{hint}"
