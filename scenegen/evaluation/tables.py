"""Reports as text, Markdown and CSV: one table for each aligner, so that no column mixes two of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenegen.evaluation.report import scene_means
from scenegen.evaluation.scene import Record
from scenegen.evaluation.settings import CORRECTED, PAPER
from trellis_modules.files import atomic_write, atomic_write_text

APPEARANCE_FIGURES = tuple(
    f"{target}_{figure}"
    for target in ("render", "scene")
    for figure in ("psnr", "ssim", "lpips", "clip_similarity", "dinov2_similarity", "fid", "kid")
)
"""Of pictures: against the picture of the truth, and against the masked photo."""

COLOUR_FIGURES = (
    "colour_psnr",
    "colour_psnr_flat",
    "colour_psnr_true_mean",
    "colour_psnr_mean",
    "silhouette_iou",
)

PHYSICS_FIGURES = (
    "physics_stable",
    "physics_stable_truth",
    "physics_stays",
    "physics_drift_m",
    "physics_turn_deg",
    "physics_penetration_m",
    "physics_peak_speed",
    "physics_peak_energy",
    "physics_stands_alone",
    "physics_supported",
    "physics_loose_pieces",
)

PAPER_COLUMNS = ("scene_cd", "scene_fscore", "object_cd", "object_fscore", "iou_bbox", *APPEARANCE_FIGURES)
"""In the order of the paper's table."""

LOWER_IS_BETTER = (
    "_cd",
    "lpips",
    "fid",
    "kid",
    "error",
    "add_s",
    "floor_gap",
    "collision_volume",
    "drift",
    "turn_deg",
    "penetration",
    "peak_",
    "loose_pieces",
)
"""Parts of the names of figures that are better when they are smaller."""

ALIGNER_NAMES = {
    "best": "twelve turns about the vertical with ICP, the nearest kept",
    "filterreg": "FilterReg, one run as it is",
    "icp": "ICP, one run as it is",
    "cpd": "coherent point drift with scale on 5,000 points, one run as it is",
    "none": "none, as predicted",
}


@dataclass(frozen=True)
class FigureTable:
    """Figures that share one aligner.

    Attributes:
        aligner: what moved the prediction, for people.
        names: of the figures, with their suffix.
        suffix: that the figures share, left out of the table.
    """

    aligner: str
    names: tuple[str, ...]
    suffix: str = ""


def blocks(report: dict[str, Any], protocol: str) -> list[FigureTable]:
    """The tables of a protocol, in their order."""
    settings = report["settings"]
    if protocol == PAPER:
        scene, objects = (settings["paper"][level]["mode"] for level in ("scene", "objects"))
        return [
            FigureTable(
                f"scene: {ALIGNER_NAMES[scene]}",
                ("scene_cd", "scene_fscore", "iou_bbox", *APPEARANCE_FIGURES),
            ),
            FigureTable(f"each object: {ALIGNER_NAMES[objects]}", ("object_cd", "object_fscore")),
        ]
    mode = settings["alignment"]["mode"]
    scene = ("scene_cd", "scene_fscore", "iou_bbox")
    placed = ("iou_box_upright", "add_s", "iou_bbox_hungarian", *APPEARANCE_FIGURES)
    still = ("floor_gap", "collision_volume")
    unaligned = tuple(f"{name}_unaligned" for name in scene)
    shapes = ("object_cd", "object_fscore", "object_cd_iso", "object_fscore_iso")
    alone = "FilterReg or none, the nearer" if mode == "best" else ALIGNER_NAMES[mode]
    poses = ("rotation_error_deg", "rotation_error_symmetric_deg", "translation_error", "size_agreement")
    return [
        FigureTable(f"scene: {ALIGNER_NAMES[mode]}", (*scene, *placed)),
        FigureTable(f"scene: {ALIGNER_NAMES['none']}", (*unaligned, *still), "_unaligned"),
        FigureTable(
            f"scene: {ALIGNER_NAMES[mode]}, then ICP with scale",
            tuple(f"{name}_similarity" for name in scene),
            "_similarity",
        ),
        FigureTable(f"each object: {alone}", shapes),
        FigureTable("colours of each object in its own frame, without alignment", COLOUR_FIGURES),
        FigureTable("poses relative to the query, without alignment", (*poses, "scale_ratio")),
        FigureTable("two seconds of gravity, without alignment", PHYSICS_FIGURES),
    ]


def aligners(report: dict[str, Any], protocol: str) -> tuple[str, str]:
    """What moves scenes, and what moves objects alone, before most figures of a protocol are taken."""
    in_scene, *others = blocks(report, protocol)
    return in_scene.aligner, next(block.aligner for block in others if "object_cd" in block.names)


def header_lines(report: dict[str, Any], protocol: str) -> list[str]:
    """What the figures of a protocol are of: list, hash, points, threshold, and what counts."""
    coverage, settings, listed = report["coverage"], report["settings"], report["list"]
    own = report["protocols"][protocol]
    if protocol == PAPER:
        counts = f"{own['counted']} of {coverage['scenes']} scenes counted, {own['left_out']} left out"
    else:
        counts = (
            f"scenes {coverage['evaluated']}/{coverage['scenes']} evaluated ({coverage['missing']} missing, "
            f"{coverage['failed']} failed), objects {coverage['objects_matched']}/{coverage['objects']} "
            "matched; missing ones count as worst"
        )
    part = f"first {coverage['scenes']} of " if coverage["scenes"] < listed["total"] else ""
    return [
        f"protocol: {protocol}; {settings['num_points']} points an object; threshold "
        f"{settings['fscore_threshold']:g}",
        f"list: {listed['name']}, {part}{listed['total']} scenes, sha256 {listed['sha256']}",
        counts,
    ]


def format_report(report: dict[str, Any]) -> str:
    """All tables of a report as text."""
    lines = []
    for protocol in report["protocols"]:
        lines += header_lines(report, protocol)
        for block in blocks(report, protocol):
            rows = list(_rows(report, protocol, block))
            if not rows:
                continue
            lines += ["", f"aligner, {block.aligner}"]
            lines.append(
                f"{'figure':<30}{'mean':>10}{'95 % interval':>22}{'median':>10}{'over scenes':>13}"
                f"{'matched only':>14}"
            )
            for name, mean, low, high, median, over, matched in rows:
                interval = f"{_number(low)} .. {_number(high)}"
                lines.append(
                    f"{name:<30}{_number(mean):>10}{interval:>22}{_number(median):>10}{_number(over):>13}"
                    f"{_number(matched):>14}"
                )
        lines += [f"{name}: {why}" for name, why in _empty(report).items()]
        lines.append("")
    return "\n".join(lines).rstrip()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _rows(report: dict[str, Any], protocol: str, block: FigureTable) -> Iterator[tuple[Any, ...]]:
    """Name, mean, interval, median, mean over scenes and mean of what is matched of each figure."""
    summary = report["protocols"][protocol]["summary"]
    for name in block.names:
        if figures := summary["all"].get(name):
            matched = summary["matched"].get(name)
            over = figures.get("mean_of_scenes", figures["mean"])
            yield (
                name.removesuffix(block.suffix),
                figures["mean"],
                *figures["ci95"],
                figures["median"],
                over,
                matched["mean"] if matched else float("nan"),
            )


def _empty(report: dict[str, Any]) -> dict[str, str]:
    """Why figures have no values, by name."""
    return (report["settings"].get("appearance") or {}).get("empty", {})


def write_markdown(path: Path, report: dict[str, Any]) -> None:
    """Write the paper's columns in its order, and all tables with their intervals."""
    name = Path(report["inputs"]["prediction"]).name
    lines = [f"# {name}", ""]
    for protocol in report["protocols"]:
        lines += [
            f"## Protocol: {protocol}",
            "",
            *(f"- {line}" for line in header_lines(report, protocol)),
            "",
        ]
        lines += [*paper_table({name: report}, protocol), ""]
        for block in blocks(report, protocol):
            if rows := list(_rows(report, protocol, block)):
                lines += [f"Aligner, {block.aligner}:", ""]
                lines += ["| figure | mean | 95 % interval | median | over scenes | matched only |"]
                lines += ["|---|---:|---|---:|---:|---:|"]
                lines += [
                    f"| `{name}` | {_number(mean)} | {_number(low)} to {_number(high)} | {_number(median)} | "
                    f"{_number(over)} | {_number(matched)} |"
                    for name, mean, low, high, median, over, matched in rows
                ]
                lines.append("")
        lines += [f"- {name}: {why}" for name, why in _empty(report).items()]
    atomic_write_text(path, "\n".join(lines).rstrip() + "\n")


def paper_table(reports: Mapping[str, dict[str, Any]], protocol: str) -> list[str]:
    """A Markdown table with the paper's columns and a row for each method; what was not measured is empty.

    Args:
        reports: by the name of the method, all measured in one way.
        protocol: that all of them have.
    """
    report = next(iter(reports.values()))
    in_scene, alone = aligners(report, protocol)
    found = [
        name for name in PAPER_COLUMNS if any(name in _means(each, protocol) for each in reports.values())
    ]
    names = [f"{name} ({'object' if name.startswith('object') else 'scene'})" for name in found]
    lines = [
        f"In the order of the paper; `(scene)` after {in_scene}, `(object)` after {alone}:",
        "",
        "| method | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for method, each in reports.items():
        means = _means(each, protocol)
        cells = [_number(means[name]) if name in means else "" for name in found]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def _means(report: dict[str, Any], protocol: str) -> dict[str, float]:
    summary = report["protocols"][protocol]["summary"]["all"]
    return {name: figures["mean"] for name, figures in summary.items()}


def write_csv(path: Path, report: dict[str, Any]) -> list[Path]:
    """Write one row for each scene, and one for each object beside it in ``<name>.objects.csv``.

    Penalties are included; in the table of scenes the figures of objects are means over the scene. Columns
    are named ``<protocol>.<figure>``.

    Returns:
        The two files.
    """
    objects = path.with_suffix(f".objects{path.suffix}")
    write_rows(path, [_scene_row(record) for record in report["scenes"]])
    write_rows(objects, [row for record in report["scenes"] for row in _object_rows(record)])
    return [path, objects]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV; a column for each name in them, in the order in which they come."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _scene_row(record: Record) -> dict[str, Any]:
    row = {name: record[name] for name in ("id", "status", "n_truth", "n_prediction", "n_matched", "seconds")}
    row["error"] = record["error"] or ""
    for protocol, part in record["protocols"].items():
        row[f"{protocol}.aligner"] = (part["alignment"] or {}).get("method", "")
        row[f"{protocol}.left_out"] = part["left_out"] or ""
        row |= {f"{protocol}.{name}": value for name, value in scene_means(part).items()}
    return row


def _object_rows(record: Record) -> Iterator[dict[str, Any]]:
    entries: dict[int, dict[str, Any]] = {}
    for protocol, part in record["protocols"].items():
        for entry in part["objects"]:
            row = entries.setdefault(entry["id"], {"id": record["id"], "object": entry["id"]})
            if protocol == CORRECTED:
                row["matched"] = entry["matched"]
            figures = entry["metrics"] | entry["penalties"]
            row |= {f"{protocol}.{name}": value for name, value in figures.items()}
    yield from entries.values()
