"""Build the true scenes of the test photos, and draw each from the camera of its photo.

python dataset_toolkits/build_scene.py 3D-FUTURE --output-dir R --blender-path /opt/blender

Writes ``scene_test/<photo>.glb`` with nodes ``obj_<n>``, numbered as the masks are, the poses that
``evaluate.py`` reads in ``scene_test/<photo>.json``, ``scene_test_render/<photo>.png``, and the cameras in
``scene_test_render/render_cfg.json``. Safe to run again: what is there already is not made again. Several
processes share the photos by ``--gpu-num``, ``--gpu-id``, ``--num-workers`` and ``--worker-id``; after them
``--merge-only`` brings their cameras together, as ``build_scene.sh`` does.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from dataset_toolkits.photos.failures import write_failures
from dataset_toolkits.photos.set_paths import DATASETS, SetPaths
from dataset_toolkits.photos.truth_builder import TruthBuilder, TruthSettings
from dataset_toolkits.photos.truth_render import CYCLES, ENGINES, merge_parts, write_part
from dataset_toolkits.steps import add_output_dir, run_step
from scenegen.blender.program import default_blender
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.datasets.annotations import AnnotatedPhoto, AnnotationError, Fault, read_annotations
from scenegen.demo.viewer import ViewerUnavailable, launch_viewer
from scenegen.evaluation.loading import EvaluationError

logger = logging.getLogger("build_scene")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("dataset", choices=DATASETS, help="data set with annotated photos")
    add_output_dir(parser)
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
    parser.add_argument("--engine", choices=ENGINES, default=CYCLES, help="EMBREE needs no Blender")
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
    parser.add_argument(
        "--max-failures", type=whole_number, metavar="N", help="stop when more photos or annotations failed"
    )
    options = parser.parse_args(arguments)
    if options.worker_id >= options.num_workers or options.gpu_id >= max(options.gpu_num, 1):
        parser.error("--gpu-id and --worker-id: expected numbers below --gpu-num and --num-workers")
    return options


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
        OSError: the disk refuses.
    """
    faults: list[Fault] = []
    photos = read_annotations(paths.annotations, faults.append)
    settings = TruthSettings(
        options.engine,
        options.samples,
        options.timeout,
        blender_executable(options.blender_path),
        options.keep_hidden,
        options.legacy_normalize,
        options.no_render,
    )
    builder = TruthBuilder(paths, settings)
    for fault in faults:
        builder.fail(fault.item, fault.reason)
    worker = f"{options.gpu_id}_{options.worker_id}"
    is_alone = options.gpu_num <= 1 and options.num_workers == 1
    with logging_redirect_tqdm():
        for photo in tqdm(share_of(photos, options), desc="scenes", unit="scene", disable=None):
            builder.add(photo)
            if options.max_failures is not None and len(builder.failed) > options.max_failures:
                logger.error("more than %d failed (--max-failures); stopped", options.max_failures)
                break
    write_part(paths.truth_renders, worker, builder.entries)
    if is_alone:
        merge_parts(paths.truth_renders)
    print(f"{len(builder.entries)} scenes in {paths.truth}")
    name = "0" if is_alone else worker
    return write_failures(paths.root, f"scene_{options.set}", name, paths.annotations, builder.failed)


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
    return run_step(lambda: run(options), AnnotationError, EvaluationError, ViewerUnavailable)


if __name__ == "__main__":
    sys.exit(main())
