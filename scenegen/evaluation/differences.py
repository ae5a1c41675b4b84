"""Two reports side by side: differences scene by scene, with intervals that know the scenes are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from safe_files.json_reader import read_json
from safe_files.regular import UnreadableFile
from scenegen.evaluation.loading import EvaluationError, fault_of
from scenegen.evaluation.records import with_infinity
from scenegen.evaluation.report import bootstrap_interval, scene_values, with_colours
from scenegen.evaluation.scene import RECORD_FORMAT

_COMPARED = ("num_points", "fscore_threshold", "alignment", "paper")


def read_report(path: Path) -> dict[str, Any]:
    """Read a report of evaluate.py.

    Raises:
        EvaluationError: it cannot be read or is none.
    """
    try:
        report = with_infinity(read_json(path))
    except (OSError, UnreadableFile) as error:
        raise EvaluationError(
            f"{path}: expected a report of evaluate.py, got {fault_of(error)}; check the path"
        ) from error
    if not isinstance(report, dict) or report.get("format") != RECORD_FORMAT or "protocols" not in report:
        raise EvaluationError(
            f"{path}: expected a report of this version of evaluate.py, got another file; evaluate again"
        )
    return report


def compare_reports(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Differences second - first of every figure, over the scenes and objects of both.

    Args:
        first, second: reports of one list and one way of measuring.

    Returns:
        Names of the two, number of scenes, and by protocol and figure the means, the mean difference of the
        scenes and its 95 % interval.

    Raises:
        EvaluationError: lists, points, thresholds or aligners differ, or no protocol is in both.
    """
    for name in _COMPARED:
        if first["settings"][name] != second["settings"][name]:
            raise EvaluationError(
                f"--compare: expected one {name}, got {first['settings'][name]} and "
                f"{second['settings'][name]}; evaluate both in one way"
            )
    if first["list"]["sha256"] != second["list"]["sha256"]:
        raise EvaluationError("--compare: expected reports of one list of scenes, got two; use one --list")
    shared = [name for name in first["protocols"] if name in second["protocols"]]
    if not shared:
        raise EvaluationError("--compare: expected a protocol that both reports have, got none")
    by_id = [{record["id"]: record for record in report["scenes"]} for report in (first, second)]
    ids = [scene_id for scene_id in by_id[0] if scene_id in by_id[1]]
    return {
        "names": [report["inputs"]["prediction"] for report in (first, second)],
        "scenes": len(ids),
        "protocols": {
            name: _differences(*([records[i]["protocols"][name] for i in ids] for records in by_id))
            for name in shared
        },
    }


def _differences(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> dict[str, Any]:
    values = [scene_values(with_colours(parts), with_penalties=True) for parts in (first, second)]
    found = {}
    for name in sorted(values[0].keys() & values[1].keys()):
        pairs = [
            (np.mean(one), np.mean(other))
            for one, other in zip(values[0][name], values[1][name], strict=True)
            if one and other
        ]
        if pairs and np.isfinite(pairs).all():
            before, after = np.array(pairs).T
            found[name] = {
                "first": float(before.mean()),
                "second": float(after.mean()),
                "difference": float((after - before).mean()),
                "ci95": bootstrap_interval([[float(value)] for value in after - before]),
                "count": len(pairs),
            }
    return found


def format_differences(differences: dict[str, Any]) -> str:
    """The differences as text; intervals without 0 are marked."""
    first, second = differences["names"]
    lines = [f"A: {first}", f"B: {second}", f"{differences['scenes']} scenes in both; means over scenes"]
    for protocol, figures in differences["protocols"].items():
        lines += ["", f"protocol: {protocol}"]
        lines.append(f"{'figure':<34}{'A':>10}{'B':>10}{'B - A':>10}{'95 % interval':>24}{'scenes':>8}")
        for name, entry in figures.items():
            low, high = entry["ci95"]
            mark = " *" if low > 0 or high < 0 else ""
            lines.append(
                f"{name:<34}{entry['first']:>10.4f}{entry['second']:>10.4f}{entry['difference']:>10.4f}"
                f"{f'{low:.4f} .. {high:.4f}':>24}{entry['count']:>8}{mark}"
            )
    return "\n".join(lines)
