"""Stages of scenes as steps of Ray Data, each with its own resources, against workers that do all.

    python -m benchmarks.ray_stages --input assets/masked_images_test --count 12 --output outputs/ray_stages

Starts a Ray cluster of this machine's processors (``--cpus``) for each of the two and makes the same scenes:

- ``workers``: the Ray engine of `inference.py`, one worker a processor, each of which does all of a scene;
- ``stages``: read, condition, generate and texture as a chain of Ray Data, whose actors have the share of a
  processor that ``--shares`` says. What passes between them, tokens, latents and meshes, goes through the
  object store of Ray.

A line for each goes to ``<output>/ray_stages.jsonl``; what is there is not measured again. A rate counts
scenes from the end of the first ones, one a processor, to the end of the last one. Processor seconds are
those of the workers or actors alone and hardly depend on what else the machine does: from them comes the most
that each way can make, ``cpus`` scenes in the seconds of one, or one scene in those of the longest stage.
Needs the package ray, and pyarrow and pandas for Ray Data.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.batch_scaling import repeat_scenes
from benchmarks.kept_records import append_record, read_records
from safe_files.limits import MAX_PIXELS
from scenegen.batch.engines.ray_cluster import RayEngine
from scenegen.batch.engines.tasks import (
    EngineError,
    Task,
    TaskFunction,
    TaskResult,
    Work,
    WorkerNeeds,
)
from scenegen.batch.options import BatchOptions
from scenegen.batch.work import SceneWork, scene_task
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_float, positive_int
from scenegen.conditioning.scene_conditioner import SceneCond
from scenegen.export.scene_files import write_scene
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.layout import detect_scene
from scenegen.inputs.masks import order_objects
from scenegen.inputs.scene_folder import read_layout
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.memory import StageMeter, repeatable_kernels
from scenegen.pipelines.pipeline import SceneGenPipeline, _coloured
from scenegen.pipelines.preview import PartialResults
from scenegen.pipelines.progress import ProgressReporter
from scenegen.pipelines.settings import ResolvedSettings, RunSettings
from scenegen.pipelines.stages import SceneStages

ROOT = Path(__file__).resolve().parents[1]
RESULTS = "ray_stages.jsonl"
FORMATS = ("glb", "poses")
STAGES = ("read", "condition", "generate", "texture")


def load_pipeline(checkpoint: Path, low_vram: bool = False) -> SceneGenPipeline:
    """The networks on the CPU; ``low_vram`` as in `SceneWork`."""
    return SceneGenPipeline.from_pretrained(checkpoint, "cpu", offload=low_vram)


def fresh(value: Any) -> bytes:
    """What passes between stages, as Ray Data can hold it in a table."""
    buffer = io.BytesIO()
    pickle.dump(value, buffer, protocol=pickle.HIGHEST_PROTOCOL)
    return buffer.getvalue()


def read(row: dict[str, Any]) -> dict[str, Any]:
    """The photo and its objects."""
    return {
        "id": row["id"],
        "sent": 0,
        "cpu": [],
        "item": fresh(read_layout(detect_scene(Path(row["path"])))),
    }


@dataclass(frozen=True)
class GivenConditions(SceneStages):
    """Stages between the conditions, which are given, and the textures, which are left to another process."""

    given: tuple[SceneCond, SceneCond | None] = None
    left: list[Any] = None

    def _conditions(self, views, order, settings, reporter):  # noqa: ANN001, ANN202 - as in SceneStages
        return self.given

    def _add_appearance(self, drafts, objects, generator, settings, meter, shown) -> None:  # noqa: ANN001
        latents = self.appearance.sample(drafts, objects, generator, settings, shown.reporter)
        self.left.append(self.appearance.decode(drafts, latents, settings, shown.reporter))


class Stage:
    """An actor of a stage, which loads the networks once; see the head of this file."""

    def __init__(self, name: str, checkpoint: Path, output: Path) -> None:
        torch.set_num_threads(1)
        self._work = getattr(self, f"_{name}")
        self._pipeline, self._output = load_pipeline(checkpoint), output
        self._settings = RunSettings().resolve(self._pipeline.config, self._pipeline.networks.roles)

    @torch.no_grad()
    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        start = time.process_time()
        item = pickle.loads(row["item"])  # noqa: S301 - of another actor of this program
        with repeatable_kernels(self._pipeline.device):
            made = self._work(item, row["id"])
        sent = b"" if made is None else fresh(made)
        cpu = [*row["cpu"], time.process_time() - start]
        return {**row, "item": sent, "sent": row["sent"] + len(sent), "cpu": cpu, "end": time.time()}

    def _shown(self, views: Sequence[SceneImages], settings: ResolvedSettings) -> PartialResults:
        sizes = [int(mask.sum()) for mask in views[0].masks]
        return PartialResults(
            views[0], order_objects(sizes, settings.order, settings.query), {}, ProgressReporter()
        )

    def _condition(self, views: Sequence[SceneImages], name: str) -> Any:
        shown = self._shown(views, self._settings)
        stages = self._pipeline._stages
        return views, stages._conditions(views, shown.order, self._settings, shown.reporter)

    def _generate(self, item: Any, name: str) -> Any:
        views, given = item
        known = {
            name: getattr(self._pipeline._stages, name) for name in ("config", "structure", "appearance")
        }
        stages = GivenConditions(
            **known, calibration=self._pipeline._stages.calibration, given=given, left=[]
        )
        shown = self._shown(views, self._settings)
        made = stages.generate(views, self._settings, StageMeter(self._pipeline.device), shown)
        return views, made, stages.left

    def _texture(self, item: Any, name: str) -> None:
        views, made, left = item
        shown = self._shown(views, self._settings)
        for meshes in left:
            self._pipeline._stages.appearance.texture(
                made.drafts, meshes, self._settings, shown.reporter, lambda row, draft: None
            )
        result = replace(_coloured(made, views[0], shown.order), left_out=dict(views[0].left_out))
        write_scene(result, self._output / name, FORMATS)


def run_stages(options: argparse.Namespace, scenes: Sequence[Path], output: Path) -> list[dict[str, Any]]:
    """Make scenes by a chain of Ray Data; a line for each."""
    import ray.data

    ray.init("local", num_cpus=options.cpus, include_dashboard=False, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    rows = [{"id": path.name, "path": str(path)} for path in scenes]
    chain = ray.data.from_items(rows, override_num_blocks=len(rows)).map(read, num_cpus=0.05)
    for name, share in zip(STAGES[1:], options.shares, strict=True):
        make = partial(chain.map, num_cpus=share, concurrency=1)
        chain = make(Stage, fn_constructor_args=(name, options.checkpoint, output))
    try:
        return [{"time": row["end"], "sent": row["sent"], "cpu": row["cpu"]} for row in chain.iter_rows()]
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class TimedWork:
    """A work whose results are the processor seconds of each task.

    Attributes:
        work: any.
    """

    work: Work

    @property
    def device(self) -> str:
        """That of the work."""
        return self.work.device

    def open(self) -> TaskFunction:
        """Open the work."""
        function = self.work.open()

        def run(task: Task) -> TaskResult:
            start = time.process_time()
            result = function(task)
            return replace(result, value=time.process_time() - start)

        return run


def run_workers(options: argparse.Namespace, scenes: Sequence[Path], output: Path) -> list[dict[str, Any]]:
    """Make scenes by the Ray engine; a line for each."""
    work = SceneWork(
        partial(load_pipeline, options.checkpoint), BatchOptions(output, FORMATS), "cpu", False, MAX_PIXELS
    )
    tasks = (scene_task(detect_scene(path)) for path in scenes)
    engine = RayEngine(options.cpus, WorkerNeeds(cpus=1), "local")
    lines = []
    for record in engine.run(tasks, TimedWork(work)):
        if record.error is not None:
            raise ValueError(record.error)
        lines.append({"time": time.time(), "sent": 0, "cpu": [record.value]})
    return lines


def rate(lines: Sequence[dict[str, Any]], skipped: int) -> float:
    """Scenes a second between the end of the first few and that of the last one."""
    ends = sorted(line["time"] for line in lines)
    return (len(ends) - skipped) / (ends[-1] - ends[skipped - 1])


def most(row: dict[str, Any]) -> float:
    """Scenes a second that processors of their own, or those that the workers share, can make at most."""
    if row["kind"] == "workers":
        return row["cpus"] / row["cpu_s"][0]
    return min(1 / max(row["cpu_s"]), row["cpus"] / sum(row["cpu_s"]))


def measure(options: argparse.Namespace, kind: str, scenes: Sequence[Path]) -> dict[str, Any]:
    """Make the scenes in one of the two ways, on a cluster of its own."""
    output = options.output / kind
    shutil.rmtree(output, ignore_errors=True)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    start = time.time()
    lines = (run_stages if kind == "stages" else run_workers)(options, scenes, output)
    return {
        "kind": kind,
        "scenes": len(lines),
        "scenes_per_s": round(rate(lines, options.cpus), 4),
        "all_s": round(time.time() - start, 1),
        "mb": round(sum(line["sent"] for line in lines) / len(lines) / 1e6, 1),
        "cpu_s": [round(float(seconds), 2) for seconds in np.mean([line["cpu"] for line in lines], axis=0)],
        "shares": list(options.shares),
        "cpus": options.cpus,
    }


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--input", type=Path, required=True, help="folder of scenes")
    parser.add_argument("--output", type=Path, default="outputs/ray_stages", help="(%(default)s)")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "scenegen-small")
    parser.add_argument("--count", type=positive_int, default=12, help="scenes (%(default)s)")
    parser.add_argument(
        "--cpus", type=positive_int, default=2, help="processors of the cluster (%(default)s)"
    )
    parser.add_argument("--kinds", nargs="+", choices=("workers", "stages"), default=("workers", "stages"))
    parser.add_argument(
        "--shares",
        type=positive_float,
        nargs=3,
        default=(0.25, 0.85, 0.85),
        help="of a processor, for condition, generate and texture (%(default)s)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing and print the table; 1 where scenes cannot be made."""
    options = parse_arguments(arguments)
    options.output = options.output.resolve()
    try:
        scenes = repeat_scenes(options.input, options.output / "scenes", options.count)
        path = options.output / RESULTS
        known = read_records(path)
        for kind in options.kinds:
            if not any(row["kind"] == kind for row in known):
                known.append(measure(options, kind, scenes))
                append_record(path, known[-1])
    except (EngineError, SceneInputError, ImportError, ValueError) as error:
        print(f"ray_stages.py: {error}", file=sys.stderr)
        return 1
    print("| | processor seconds | most scenes a second | measured | MB sent a scene |")
    print("|---|---|---:|---:|---:|")
    for row in known:
        cpu = " + ".join(f"{seconds:.1f}" for seconds in row["cpu_s"])
        print(f"| {row['kind']} | {cpu} | {most(row):.3f} | {row['scenes_per_s']:.3f} | {row['mb']} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
