"""Many visitors of a demo that runs as a process of its own; see `benchmarks.demo_soak`."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.demo_process import RunningDemo, memory_mib, running_demo
from benchmarks.demo_visitors import VisitError, Visitor, object_count

FIRST = 5  # scenes after which memory should not grow any more
STAY = 5  # visitors that stay to the end
_GONE_SECONDS = 60.0


@dataclass
class _Soak:
    """What is counted on the way."""

    demo: RunningDemo
    made: int = 0
    cancelled: int = 0
    dropped: int = 0
    most_waiting: int = 0
    memory: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def soak_over_http(checkpoint: str, folder: Path, jobs: int, cancelled: int, dropped: int) -> dict[str, Any]:
    """Let ``jobs`` visitors reach a demo over HTTP, all at once, and return what came of it.

    Returns:
        As `benchmarks.demo_soak.soak`; "most_waiting": scenes before the last one in the queue;
        "uploads_waiting": uploaded files, which the demo keeps for five minutes.
    """
    root = folder / "sessions"
    arguments = ["--checkpoint", checkpoint, "--output-dir", str(root), "--queue-size", str(jobs + 1)]
    start = time.perf_counter()
    with running_demo(arguments) as demo:
        counts = _Soak(demo)
        left, uploads = asyncio.run(_visit_all(counts, root, jobs, cancelled, dropped))
    left += [path.name for path in root.iterdir()]
    counts.faults += [f"{len(left)} files of nobody"] if left else []
    return {
        "made": counts.made, "cancelled": counts.cancelled, "dropped": counts.dropped,
        "growth_mib": round(counts.memory[-1] - counts.memory[min(FIRST, len(counts.memory)) - 1], 1),
        "memory_mib": round(counts.memory[-1], 1), "most_waiting": counts.most_waiting,
        "seconds": round(time.perf_counter() - start, 1), "files_left": len(left), "uploads_waiting": uploads,
        "faults": counts.faults,
    }  # fmt: skip


async def _visit_all(
    counts: _Soak, root: Path, jobs: int, cancelled: int, dropped: int
) -> tuple[list[str], int]:
    """All visits; returns the folders of nobody and the number of uploads that are still kept."""
    import httpx  # comes with gradio

    limits = httpx.Limits(max_connections=None, keepalive_expiry=1)
    async with httpx.AsyncClient(base_url=counts.demo.url, timeout=None, limits=limits) as client:
        config = (await client.get("/config")).raise_for_status().json()
        visitors = [Visitor(client, config, number) for number in range(jobs)]
        for visitor in visitors:
            await visitor.arrive()
        drop, cancel = range(jobs - dropped, jobs), range(jobs - dropped - cancelled, jobs - dropped)
        await asyncio.gather(
            *(
                _visit(
                    counts,
                    visitor,
                    leave=visitor.number in drop,
                    # half of them while they wait, half while they run
                    cancel=None
                    if visitor.number not in cancel
                    else ("waiting", "running")[visitor.number % 2],
                    stay=visitor.number < STAY,
                )
                for visitor in visitors
            )
        )
        (sessions,) = root.iterdir()
        deadline = time.monotonic() + _GONE_SECONDS
        while len(folders := _session_folders(sessions)) > STAY and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        uploads = sum(1 for _ in sessions.iterdir()) - len(folders)
        for visitor in visitors[:STAY]:
            await visitor.leave()
    return [path.name for path in folders[STAY:]], uploads


async def _visit(counts: _Soak, visitor: Visitor, *, leave: bool, cancel: str | None, stay: bool) -> None:
    """Ask for a scene, and leave or cancel on the way, or check what comes."""
    last: dict[str, Any] = {}
    has_asked = False
    settings = {"seed": visitor.number, "texture_size": 512}
    try:
        async for last in visitor.stream("generate", settings):
            counts.most_waiting = max(counts.most_waiting, last["before"])
            if leave:
                counts.dropped += 1
                break
            if last["state"] == cancel and not has_asked:
                has_asked = True
                await visitor.call("cancel")
        if not leave:
            await _check(counts, visitor, last)
    except VisitError as error:
        counts.faults.append(f"visitor {visitor.number}: {error}")
    if not stay:
        await visitor.leave()


async def _check(counts: _Soak, visitor: Visitor, last: dict[str, Any]) -> None:
    """Count a scene that ended, and compare it with what its visitor asked for."""
    number = visitor.number
    if last["state"] == "cancelled":
        counts.cancelled += 1
        return
    if last["state"] != "done":
        counts.faults.append(f"visitor {number}: expected a scene, its state is {last['state']}")
        return
    counts.made += 1
    record = json.loads(await visitor.fetch(last["poses"]))
    expected = (number, object_count(number), f"photo {number}")
    got = (record["settings"]["seed"], len(record["objects"]), record["scene_id"])
    if got != expected or not (await visitor.fetch(last["glb"])).startswith(b"glTF"):
        counts.faults.append(f"visitor {number}: expected seed, objects and name {expected}, got {got}")
    counts.memory.append(memory_mib(counts.demo.pid))


def _session_folders(sessions: Path) -> list[Path]:
    """Folders of visitors, who all have put a picture into the cache; the others are uploads."""
    return [path for path in sessions.iterdir() if any(path.glob("pair-*"))]
