"""The few figures that a run prints: a column for each alignment, and what it is."""

from __future__ import annotations

from typing import Any

from scenegen.evaluation.settings import CORRECTED
from scenegen.evaluation.tables import ALIGNER_NAMES, aligners, header_lines

_FIGURES = ("scene_cd", "scene_fscore", "iou_bbox", "object_cd", "object_fscore")
_MORE_FIGURES = (
    "rotation_error_symmetric_deg",
    "translation_error",
    "render_psnr",
    "render_ssim",
    "render_lpips",
    "scene_psnr",
    "scene_lpips",
    "colour_psnr",
    "physics_stable",
    "physics_stays",
)
_AS_PREDICTED = "as predicted"
_WIDTH = 14


def format_headline(report: dict[str, Any]) -> str:
    """Means of a report in one short table, with a line that says what each column is."""
    columns = {name: _means(report, protocol, suffix) for name, protocol, suffix in _columns(report)}
    lines = [header_lines(report, next(iter(report["protocols"])))[1]]
    lines += [f"{name}: {about}" for name, about in _legend(report).items()]
    lines += ["", f"{'mean':<30}" + "".join(f"{name:>{_WIDTH}}" for name in columns)]
    for figure in (*_FIGURES, *_MORE_FIGURES):
        if any(figure in means for means in columns.values()):
            cells = [f"{means[figure]:.4f}" if figure in means else "" for means in columns.values()]
            lines.append(f"{figure:<30}" + "".join(f"{cell:>{_WIDTH}}" for cell in cells).rstrip())
    return "\n".join(lines)


def _columns(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, protocol and suffix of the figures of each column."""
    columns = [(protocol, protocol, "") for protocol in report["protocols"]]
    if CORRECTED in report["protocols"]:
        columns.append((_AS_PREDICTED, CORRECTED, "_unaligned"))
    return columns


def _legend(report: dict[str, Any]) -> dict[str, str]:
    legend = {}
    for protocol in report["protocols"]:
        legend[protocol] = "; ".join([*aligners(report, protocol), header_lines(report, protocol)[2]])
    if CORRECTED in legend:
        legend[_AS_PREDICTED] = f"figures of the corrected protocol; {ALIGNER_NAMES['none']}"
    return legend


def _means(report: dict[str, Any], protocol: str, suffix: str) -> dict[str, float]:
    found = report["protocols"][protocol]["summary"]["all"]
    names = (*_FIGURES, *_MORE_FIGURES)
    return {name: found[name + suffix]["mean"] for name in names if name + suffix in found}
