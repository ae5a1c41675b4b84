"""Time and memory of ``inference.py`` on a CPU, from process start to the last file, in a fresh process.

    python benchmarks/inference_cpu.py [--scene assets/masked_images_test/test_0078] [--threads 2]

Prints the stages, the wall time, the CPU time (which other processes on the machine change less) and the peak
memory of the process, and exits with status 1 over the limits.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scenegen.cli.parser import CommandParser

REPOSITORY = Path(__file__).resolve().parent.parent
KIB_PER_UNIT = 1 if sys.platform == "linux" else 1 / 1024  # ru_maxrss is in bytes on macOS


def main() -> int:
    """Run the benchmark and return its exit status."""
    options = parse_arguments()
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    with tempfile.TemporaryDirectory() as output:
        command = [
            sys.executable, str(REPOSITORY / "inference.py"), "--json", "--device", "cpu",
            "--input", str(options.scene), "--output", output, "--checkpoint", str(options.checkpoint),
        ]  # fmt: skip
        command += ["--dtype", options.dtype] if options.dtype else []
        command += ["--no-appearance"] if options.no_appearance else []
        start = time.perf_counter()
        process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        wall_seconds = time.perf_counter() - start
    if process.returncode != 0:
        return process.returncode
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak_gib = usage.ru_maxrss * KIB_PER_UNIT / 1024**2
    (scene,) = json.loads(process.stdout)["scenes"]
    print_report(options, scene, wall_seconds, usage.ru_utime + usage.ru_stime, peak_gib)
    return 1 if wall_seconds > options.max_seconds or peak_gib > options.max_gib else 0


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--scene", type=Path, default=REPOSITORY / "assets/masked_images_test/test_0078")
    parser.add_argument("--checkpoint", type=Path, default=REPOSITORY / "checkpoints/scenegen-small")
    parser.add_argument("--dtype", help="see inference.py")
    parser.add_argument("--no-appearance", action="store_true", help="see inference.py")
    parser.add_argument("--threads", type=int, default=2, help="OMP_NUM_THREADS of the process")
    parser.add_argument("--max-seconds", type=float, default=90.0)
    parser.add_argument("--max-gib", type=float, default=5.0)
    return parser.parse_args()


def print_report(
    options: argparse.Namespace, scene: dict, wall_seconds: float, cpu_seconds: float, peak_gib: float
) -> None:
    """Print settings and figures as a Markdown table; "start" is imports and loading of weights."""
    num_objects = len(list(options.scene.glob("*_mask.png")))
    stages = {"start": wall_seconds - sum(scene["seconds"].values()), **scene["seconds"]}
    print(f"{scene['scene_id']}, {num_objects} objects, {options.threads} threads, {os.cpu_count()} cores,")
    print(f"{platform.machine()}, Python {platform.python_version()}, checkpoint {options.checkpoint.name}\n")
    print("| stage | seconds |\n| --- | ---: |")
    for stage, seconds in stages.items():
        print(f"| {stage} | {seconds:.2f} |")
    print(f"| **total** | **{wall_seconds:.2f}** (limit {options.max_seconds:g}) |")
    print(f"\nCPU time {cpu_seconds:.1f} s, peak memory {peak_gib:.2f} GiB (limit {options.max_gib:g})")


if __name__ == "__main__":
    sys.exit(main())
