"""How long the demo takes: until its page is there, and for a scene of an example, as a program asks for it.

    python -m benchmarks.demo_times --example 00001

Starts the demo as a process of its own and runs ``examples/demo_client.py`` against it, from the start of
that process to the last file on the disk: at first with networks that have to be loaded, then again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.demo_process import REPOSITORY, RunningDemo, running_demo
from scenegen.cli.parser import CommandParser
from scenegen.demo.examples import EXAMPLES_FOLDER, LABELS_FILE, PHOTO_FILE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, print the seconds and return 0."""
    parser = CommandParser(__doc__)
    parser.add_argument("--example", default="00001", help="folder in assets/gradio_demos (%(default)s)")
    options = parser.parse_args(arguments)
    folder = REPOSITORY / EXAMPLES_FOLDER / options.example
    if not folder.is_dir():
        parser.error(f"{folder}: expected an example, found no such folder; choose another one")
    print(json.dumps(measure(folder), indent=2))
    return 0


def measure(example: Path) -> dict[str, Any]:
    """Seconds for an example.

    Returns:
        "page": from the start of the demo to its page; "first", "second": from the start of the client to all
        files, with boxes around the objects of the label image; "first_lines": what the client said when.
    """
    with running_demo([]) as demo, tempfile.TemporaryDirectory() as work:
        boxes = Path(work) / "boxes.json"
        boxes.write_text(json.dumps(_boxes(example / LABELS_FILE)), encoding="utf-8")
        first, lines = _run_client(demo, example / PHOTO_FILE, boxes, Path(work) / "first")
        second, _ = _run_client(demo, example / PHOTO_FILE, boxes, Path(work) / "second")
    return {
        "page": round(demo.ready_seconds, 1),
        "first": round(first, 1),
        "second": round(second, 1),
        "first_lines": lines,
    }


def _run_client(demo: RunningDemo, photo: Path, boxes: Path, output: Path) -> tuple[float, list[str]]:
    """Seconds of a run of the client, and its lines with the second at which each came."""
    command = [
        sys.executable, "-u", str(REPOSITORY / "examples" / "demo_client.py"), "--url", demo.url,
        "--picture", str(photo), "--boxes", str(boxes), "--settings", '{"seed": 1}', "--output", str(output),
    ]  # fmt: skip
    lines, start = [], time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as client:
        for line in client.stdout or ():
            lines.append(f"{time.perf_counter() - start:.1f} {line.strip()}")
    if client.returncode:
        raise RuntimeError(f"the client ended with status {client.returncode}")
    return time.perf_counter() - start, lines


def _boxes(labels: Path) -> list[list[int]]:
    """Boxes around the areas of a label image of palette indices."""
    numbers = np.asarray(Image.open(labels))
    found = []
    for number in np.unique(numbers[numbers > 0]):
        rows, columns = np.nonzero(numbers == number)
        found.append([int(value) for value in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)])
    return found


if __name__ == "__main__":
    sys.exit(main())
