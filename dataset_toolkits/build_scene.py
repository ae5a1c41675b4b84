"""Build the true scenes of the test photos, and draw each from the camera of its photo.

python dataset_toolkits/build_scene.py 3D-FUTURE --output-dir R --blender-path /opt/blender

Writes ``scene_test/<photo>.glb`` with nodes ``obj_<n>``, numbered as the masks are, the poses that
``evaluate.py`` reads in ``scene_test/<photo>.json``, ``scene_test_render/<photo>.png``, and the cameras in
``scene_test_render/render_cfg.json``. Safe to run again: what is there already is not made again.
``--workers`` and ``--engine ray`` share the photos out by themselves, and the data root may be in an object
store. Several processes share them by ``--gpu-num``, ``--gpu-id``, ``--num-workers`` and ``--worker-id``;
after them ``--merge-only`` brings their cameras together, as ``build_scene.sh`` does.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from dataset_toolkits.asset_work import check_engine
from dataset_toolkits.photos.engine import BOXES, PhotoWork, measured_boxes, run_photos
from dataset_toolkits.photos.failures import write_failures
from dataset_toolkits.photos.rows import AssetIndex
from dataset_toolkits.photos.set_paths import DATASETS, SetPaths
from dataset_toolkits.photos.truth_builder import Truth, TruthBuilder, TruthJob, TruthSettings
from dataset_toolkits.photos.truth_render import (
    CONFIG_NAME,
    CYCLES,
    ENGINES,
    PART_NAME,
    merge_parts,
    write_part,
)
from dataset_toolkits.steps import add_output_dir, run_step
from scenegen.batch.engines.tasks import Task
from scenegen.blender.program import default_blender
from scenegen.cli.engine_options import ENGINES as WHERE
from scenegen.cli.engine_options import ChooseEngine, add_engine_arguments
from scenegen.cli.parser import CommandParser
from scenegen.cli.store_options import use_mirror
from scenegen.cli.types import positive_int, whole_number
from scenegen.datasets.annotations import AnnotatedPhoto, AnnotationError, Fault, read_annotations
from scenegen.datasets.metadata import ASSETS_NAME, read_assets
from scenegen.demo.viewer import ViewerUnavailable, launch_viewer
from scenegen.evaluation.loading import EvaluationError

logger = logging.getLogger("build_scene")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("dataset", choices=DATASETS, help="data set with annotated photos")
    add_output_dir(parser, may_be_stored=True)
    parser.add_argument("--set", choices=("test",), default="test", help="set of photos (%(default)s)")
    parser.add_argument(
        "--blender-path", default=default_blender(), help="Blender, or the folder that it is in (%(default)s)"
    )
    parser.add_argument("--gpu-num", type=whole_number, default=0, help="GPUs that share the photos")
    parser.add_argument("--gpu-id", type=whole_number, default=0, help="number of this process's GPU")
    parser.add_argument("--num-workers", type=positive_int, default=1, help="processes on each GPU")
    parser.add_argument("--worker-id", type=whole_number, default=0, help="number of this process on its GPU")
    parser.add_argument("--gradio-only", action="store_true", help="only show the scenes in the browser")
    parser.add_argument("--share", action="store_true", help="with --gradio-only: a public link")
    parser.add_argument(
        "--merge-only", action="store_true", help="only bring the cameras of workers together"
    )
    parser.add_argument(
        "--engine",
        dest="drawn_by",
        action=ChooseEngine,
        choices=(*ENGINES, *WHERE),
        default=CYCLES,
        help="EMBREE needs no Blender. Also where: processes of this machine (local), or a Ray cluster "
        "(ray); give it twice for both",
    )
    parser.add_argument("--samples", type=positive_int, default=128, help="CYCLES: paths a pixel")
    parser.add_argument("--timeout", type=positive_int, default=3600, help="seconds for a picture")
    parser.add_argument("--no-render", action="store_true", help="build the scenes, draw no picture")
    parser.add_argument(
        "--keep-hidden", action="store_true", help="keep objects without a pixel, numbered after the others"
    )
    parser.add_argument(
        "--legacy-normalize",
        action="store_true",
        help="scale scenes as the published ones were, which does not centre them",
    )
    add_engine_arguments(parser, with_engine=False)
    options = parser.parse_args(arguments)
    options.root_url = use_mirror(options, "output_dir")
    if options.gradio_only and options.root_url is not None:
        parser.error("--gradio-only: shows scenes on the disk; copy scene_test of the store")
    if options.worker_id >= options.num_workers or options.gpu_id >= max(options.gpu_num, 1):
        parser.error("--gpu-id and --worker-id: expected numbers below --gpu-num and --num-workers")
    return check_engine(parser, options)


def share_of(photos: Sequence[AnnotatedPhoto], options: argparse.Namespace) -> Sequence[AnnotatedPhoto]:
    """The photos of this process."""
    if options.gpu_num > 1:
        photos = photos[options.gpu_id :: options.gpu_num]
    return photos[options.worker_id :: options.num_workers]


def blender_executable(path: str) -> str:
    """The program that a path names, which may be the folder that it is in."""
    return os.path.join(path, "blender") if os.path.isdir(path) else path


def build(paths: SetPaths, options: argparse.Namespace) -> int:
    """Build and draw the scenes of this process, and name what failed; the exit status.

    Raises:
        MetadataError, AnnotationError: the input cannot be used.
        EngineError, StoreError: there is nowhere to do it, or the store cannot be used.
        OSError: the disk refuses.
    """
    faults: list[Fault] = []
    photos = read_annotations(paths.annotations, faults.append)
    assets = read_assets(paths.root / ASSETS_NAME, lambda error: logger.warning("%s", error))
    by_model = AssetIndex(assets).by_model
    settings = TruthSettings(
        options.drawn_by,
        options.samples,
        options.timeout,
        blender_executable(options.blender_path),
        options.keep_hidden,
        options.legacy_normalize,
        options.no_render,
    )
    own, worker = share_of(photos, options), worker_of(options)
    name = f"scene_{options.set}_{worker}"
    boxes = measured_boxes((model for photo in own for model in photo.models()), options, name)

    def task(photo: AnnotatedPhoto) -> Task:
        models = photo.models()
        known = {model: by_model[model] for model in models if model in by_model}
        return Task(photo.file_name, TruthJob(photo, known, boxes.of(models)))

    entries: dict[str, Mapping[str, Any]] = {}
    failed: dict[str, dict[str, str]] = {}
    for fault in faults:
        fail(failed, paths, fault.item, fault.reason)
    work = PhotoWork(paths.root, options.root_url, partial(TruthBuilder, paths.name, settings))
    for record in run_photos(work, map(task, own), options, name, "scene", len(own)):
        truth = record.value or Truth(None)
        for fault in truth.faults:
            fail(failed, paths, fault.item, fault.reason, record.id)
        if record.error is not None:
            fail(failed, paths, record.id, record.error, record.id)
        if truth.entry is not None:
            entries[record.id] = truth.entry
        if options.max_failures is not None and sum(map(len, failed.values())) > options.max_failures:
            logger.error("more than %d failed (--max-failures); stopped", options.max_failures)
            break
    order = ["", *(photo.file_name for photo in own)]
    write_part(paths.truth_renders, worker, {name: entries[name] for name in order if name in entries})
    if is_alone(options):
        merge_parts(paths.truth_renders)
    print(f"{len(entries)} scenes in {options.root_url or paths.root}/{paths.truth.name}")
    told = {item: reason for name in order for item, reason in failed.get(name, {}).items()}
    kind = f"scene_{options.set}"
    return write_failures(paths.root, kind, "0" if is_alone(options) else worker, paths.annotations, told)


def fail(failed: dict[str, dict[str, str]], paths: SetPaths, item: str, reason: str, photo: str = "") -> None:
    """Name what could not be made, of a photo or of none, and keep it."""
    failed.setdefault(photo, {})[item] = " ".join(reason.split())
    logger.warning("%s: %s: %s", paths.annotations, item, failed[photo][item])


def is_alone(options: argparse.Namespace) -> bool:
    """Whether no other process has a share of the photos."""
    return options.gpu_num <= 1 and options.num_workers == 1


def worker_of(options: argparse.Namespace) -> str:
    """Name of this process among those that share the photos."""
    return f"{options.gpu_id}_{options.worker_id}"


def run(options: argparse.Namespace) -> int:
    """Build, merge or show; the exit status. Errors as for `build`, and those of the viewer."""
    paths = SetPaths(options.output_dir, options.set)
    if options.gradio_only:
        launch_viewer(paths.truth, share=options.share)
        return 0
    if options.merge_only:
        print(f"{merge_parts(paths.truth_renders)} cameras in {paths.truth_renders}")
        return 0
    return build(paths, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, merge or show; 1 when something failed or the input cannot be used."""
    options = parse_arguments(arguments)
    paths = SetPaths(Path(), options.set)
    workers = range(options.gpu_num or 1), range(options.num_workers)
    names = [CONFIG_NAME, *(PART_NAME.format(f"{gpu}_{worker}") for gpu, worker in product(*workers))]
    cameras = [(paths.truth_renders / name).as_posix() for name in names]
    files = [paths.annotations.as_posix(), BOXES, *cameras]
    errors = (AnnotationError, EvaluationError, ViewerUnavailable)
    return run_step(lambda: run(options), *errors, options=options, files=files)


if __name__ == "__main__":
    sys.exit(main())
