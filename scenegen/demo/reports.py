"""What the page says about a scene, in words: where it is while it is made, and what came of it."""

from __future__ import annotations

from html import escape
from typing import Any

from scenegen.confidence.calibration import doubts_line
from scenegen.demo.jobs import Job
from scenegen.demo.prompts import object_title
from scenegen.demo.session import MadeScene
from scenegen.pipelines.memory import process_peak_bytes

_GIB = 2**30
_COMPLETIONS = {
    "legs_added": "missing legs added",
    "legs_plain": "plain legs added",
    "pieces_joined": "loose pieces joined",
    "pieces_dropped": "loose pieces left out",
}
"""What refinement did to shapes: key of its report, words."""
_ENDINGS = {"done": "Done", "cancelled": "Cancelled", "failed": "Failed"}


def status_line(job: Job, place: int) -> str:
    """HTML of a job's stage, step, seconds and memory.

    Args:
        place: how many jobs come before it, for one that waits.
    """
    if job.state == "waiting":
        return f"<p role='status'>Waiting: {place} scene{'s' * (place != 1)} before yours.</p>"
    if job.is_finished:
        text = f"{_ENDINGS[job.state]} after {job.seconds:.1f} s"
        detail = f": {escape(job.error)}" if job.error else ""
        return f"<p role='status'>{text}{_memory_text()}{detail}</p>"
    if job.progress is None:
        text = f"Loading the networks … {job.seconds:.0f} s{_memory_text()}"
        return f"<p role='status'>{text}</p><progress></progress>"
    stage, done, total = job.progress.stage, job.progress.done, job.progress.total
    return (
        f"<p role='status'>{escape(stage)}: {done} of {total} … {job.seconds:.0f} s{_memory_text()}</p>"
        f"<progress max='{max(total, 1)}' value='{done}'></progress>"
    )


def scene_report(scene: MadeScene) -> str:
    """Markdown about a finished scene: query, seed, times, memory, refinement, and objects with a problem."""
    result, settings = scene.result, scene.result.settings
    names = {item.object_id: object_title(item.object_id + 1, item.name) for item in result.objects}
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.timings.items())
    lines = [
        f"**{len(result.objects)} objects** in the frame of **{plain_text(names[result.query_id])}**, seed "
        f"{settings['seed']}, made in {scene.seconds:.1f} s ({stages}).",
    ]
    if result.peak_bytes:
        peak = max(result.peak_bytes.values()) / _GIB
        lines.append(f"Peak memory {peak:.2f} GiB.")
    if (refinement := settings.get("refinement")) is not None:
        lines.append(_refinement_text(refinement))
    if words := doubts_line({names[item.object_id]: item.confidence for item in result.objects}):
        lines.append(f"🤔 {plain_text(words)}.")
    for item in result.objects:
        if item.problem is not None:
            lines.append(f"⚠️ {plain_text(names[item.object_id])}: {plain_text(item.problem)}.")
    return "\n\n".join(lines)


def _refinement_text(report: Any) -> str:
    if "skipped" in report:
        return f"Refinement was skipped: {report['skipped']}."
    before, after = report["penetration_before"], report["penetration_after"]
    done = [entry["completed"] for entry in report["objects"] if "completed" in entry]
    counts = {words: sum(each[key] for each in done) for key, words in _COMPLETIONS.items()}
    words = "".join(f", {count} {what}" for what, count in counts.items() if count)
    return (
        f"Refinement: the volume that objects share went from {before:.4f} to {after:.4f} ({report['unit']})"
        f"{words}."
    )


def _memory_text() -> str:
    peak = process_peak_bytes()
    return "" if peak is None else f", peak memory {peak / _GIB:.2f} GiB"


def plain_text(text: str) -> str:
    """Text of a visitor inside Markdown: no markup, no HTML."""
    escaped = escape(text)
    for sign in "\\`*_[]#|":
        escaped = escaped.replace(sign, f"&#{ord(sign)};")
    return escaped
