"""What commands over many scenes tell: log lines of faults, and one summary."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from scenegen.batch.scenes import SceneReport
from scenegen.export.names import POSES_FILE
from scenegen.inputs.image_files import one_line
from scenegen.stores.urls import StoreUrl
from trellis_modules.devices import default_dtype, device_text

logger = logging.getLogger(__name__)

_SCENES_TOLD = 5  # with a line of their own

_TO_OPEN = {
    "preview.png": "look at",
    "turntable.mp4": "watch",
    "scene.glb": "open in a 3D program",
    "scene.obj": "open in a 3D program",
    "scene.usdz": "open in a 3D program",
    "labels.png": "correct the masks in",
}


class _OneLineFormatter(logging.Formatter):
    """Escapes line breaks, which names of folders may hold; tracebacks keep their lines."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.exc_info else one_line(text)


def set_up_logging() -> None:
    """Warnings and errors go to stderr, one line each, with what was made of inputs and where pages are."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLineFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in ("scenegen.cli", "scenegen.demo.listening", "scenegen.inputs"):
        logging.getLogger(name).setLevel(logging.INFO)
    # The hub's package writes a line for each try, ours tell the end. It sets its level while it is loaded.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def tell_device(device: torch.device, dtype: str | None = None) -> None:
    """Say where networks run and in what precision."""
    precision = getattr(torch, dtype) if dtype else default_dtype(device)
    logger.info("device: %s", device_text(device, precision))


def what_to_open(reports: Sequence[SceneReport], output: Path) -> str | None:
    """One line that names files of the first scene that was made, to open; None where none was."""
    for report in reports:
        folder = output / report.scene_id
        if report.status == "done" and (found := [name for name in _TO_OPEN if (folder / name).is_file()]):
            return one_line("; ".join(f"{_TO_OPEN[name]}: {folder / name}" for name in found))
    return None


def doubt_lines(reports: Sequence[SceneReport]) -> list[str]:
    """Lines about objects that may be wrong: for each of a few scenes, or one about all of them."""
    found = [report for report in reports if report.doubts is not None]
    if len(found) <= _SCENES_TOLD:
        return [one_line(f"{report.scene_id}: {report.doubts}") for report in found]
    count, total = sum(report.doubtful for report in found), sum(report.objects for report in reports)
    where = f"'confidence' in each {POSES_FILE} tells which"
    return [f"{count} of {total} objects in {len(found)} scenes doubtful; {where}"]


def count_statuses(reports: Sequence[SceneReport]) -> dict[str, int]:
    """How many scenes are done, skipped and failed."""
    return {status: sum(r.status == status for r in reports) for status in ("done", "skipped", "failed")}


def summary(counts: Mapping[str, int], output: Path | StoreUrl, memory: str = "") -> str:
    """One line for people: `count_statuses`, where the results are, and how to redo what was skipped."""
    skipped = "; finished scenes are skipped, --overwrite makes skipped ones again"
    hint = skipped if counts["skipped"] else ""
    return f"{', '.join(f'{count} {status}' for status, count in counts.items())} in {output}{memory}{hint}"
