"""Many visitors of the demo at once: is any scene lost or mixed up, does memory grow, is any file left?

    python -m benchmarks.demo_soak --jobs 100 --cancelled 20 --dropped 10
    python -m benchmarks.demo_soak --http

The first one calls what the server calls, the second one starts the demo as a process of its own and reaches
it over HTTP. Every visitor uploads a picture with a number of objects of its own and asks for one scene with
a seed of its own. All wait in the queue of one device. Some are cancelled, half of them while they run, and
some visitors leave. Each scene that is made is compared with what its visitor asked for. Then the visitor
leaves, but for five of them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.demo_http_soak import soak_over_http
from benchmarks.demo_process import memory_mib
from benchmarks.demo_visitors import labels_file, object_count, photo_file
from scenegen.cli.bundled import bundled
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.demo.controls import OWN_PRESET
from scenegen.demo.jobs import Job
from scenegen.demo.options import DemoOptions
from scenegen.demo.service import DemoService
from scenegen.demo.session import Session
from scenegen.hub.releases import SMALL_MODEL

FIRST = 5  # scenes after which memory should not grow any more
STAY = 5  # visitors that stay to the end


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, print the figures and return 0 if all is well."""
    parser = CommandParser(__doc__)
    parser.add_argument("--checkpoint", default=bundled(SMALL_MODEL))
    parser.add_argument("--jobs", type=positive_int, default=100)
    parser.add_argument("--cancelled", type=whole_number, default=20)
    parser.add_argument("--dropped", type=whole_number, default=10)
    parser.add_argument("--http", action="store_true", help="reach a demo of its own over HTTP")
    options = parser.parse_args(arguments)
    measure = soak_over_http if options.http else soak
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.checkpoint, Path(folder), options.jobs, options.cancelled, options.dropped)
    print(json.dumps(figures, indent=2))
    return 0 if not figures["faults"] else 1


def soak(checkpoint: str, folder: Path, jobs: int, cancelled: int, dropped: int) -> dict[str, Any]:
    """Serve ``jobs`` visitors and return what came of it.

    Returns:
        "made", "cancelled", "dropped": how many; "growth_mib": memory at the end over that after the fifth
        scene; "files_left": files of nobody; "faults": one line for everything that is not as it should be.
    """
    root = folder / "sessions"
    root.mkdir()
    service = DemoService(DemoOptions(checkpoint, queue_size=jobs + 1), root)
    gate = threading.Event()
    service.queue.submit(Job(lambda job, device: gate.wait()))  # until all wait
    visitors = [_visit(service, folder, number) for number in range(jobs)]
    for number in range(cancelled // 2):
        service.cancel(service.sessions.get(str(number)))
    for number in range(jobs - dropped, jobs):
        service.sessions.drop(str(number))
    gate.set()
    stop_running = range(jobs - dropped - (cancelled - cancelled // 2), jobs - dropped)
    faults, counts, memory = [], {"made": 0, "cancelled": 0}, []
    start = time.perf_counter()
    for number, session in enumerate(visitors[: jobs - dropped]):
        fault = _wait(service, session, number, stop=number in stop_running)
        counts["made" if session.job.state == "done" else "cancelled"] += 1
        faults += [f"visitor {number}: {fault}"] if fault else []
        if number < jobs - dropped - STAY:
            service.sessions.drop(str(number))
        if session.job.state == "done":
            memory.append(memory_mib())
    service.sessions.sweep(stray_seconds=-1)
    staying = range(jobs - dropped - STAY, jobs - dropped)
    live = {service.sessions.get(str(number)).folder for number in staying}
    left = [path.name for path in root.iterdir() if path not in live]
    service.close()
    left += [path.name for path in root.iterdir()]
    faults += [f"{len(left)} files of nobody"] if left else []
    return {
        **counts, "dropped": dropped,
        "growth_mib": round(memory[-1] - memory[min(FIRST, len(memory)) - 1], 1),
        "seconds": round(time.perf_counter() - start, 1), "files_left": len(left), "faults": faults,
    }  # fmt: skip


def _visit(service: DemoService, folder: Path, number: int) -> Session:
    """A visitor with 1 to 3 objects and the seed ``number``, whose scene waits."""
    (folder / "photo.png").write_bytes(photo_file(number))
    (folder / "labels.png").write_bytes(labels_file(number))
    session = service.sessions.get(str(number))
    service.set_photo(session, folder / "photo.png", "photo.png")
    service.set_labels(session, folder / "labels.png", "labels.png")
    service.add_to_cache(session)
    service.generate(session, replace(service.preset(OWN_PRESET), seed=number, texture_size=512))
    return session


def _wait(service: DemoService, session: Session, number: int, *, stop: bool) -> str | None:
    """Wait for a visitor's scene, and say what is wrong with it."""
    job = session.job
    if stop:
        while job.state == "waiting":
            time.sleep(0.001)
        service.cancel(session)
    job.wait()
    if job.state != "done":
        return None if job.state == "cancelled" else f"{job.state}: {job.error}"
    result = session.scene.result
    expected, got = (number, object_count(number)), (result.settings["seed"], len(result.objects))
    if got != expected:
        return f"expected seed and number of objects {expected}, got {got}"
    if (
        not (session.scene.folder / "scene.glb").is_file()
        or session.folder not in session.scene.folder.parents
    ):
        return "its file is not in its folder"
    return None


if __name__ == "__main__":
    sys.exit(main())
