"""The command line of ``scenegen infer``: its options, and what they mean for a batch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from safe_files.limits import HIGHEST_MAX_PIXELS, MAX_PIXELS
from scenegen.batch.options import BatchOptions
from scenegen.checkpoints.identity import made_by
from scenegen.checkpoints.schema import TextureSource
from scenegen.cli.bundled import EXAMPLE_SCENES, bundled
from scenegen.cli.candidate_options import add_candidate_arguments, candidates_of
from scenegen.cli.checkpoint_needs import appearance_flags, texture_mode_problem
from scenegen.cli.demo import add_address_arguments
from scenegen.cli.engine_options import add_engine_arguments, engine_of
from scenegen.cli.export_options import add_export_arguments, export_options
from scenegen.cli.parser import CommandParser
from scenegen.cli.root_options import add_root_arguments, apply_root
from scenegen.cli.sampling_options import add_sampling_arguments, given, sampling_settings
from scenegen.cli.segmenter_options import (
    add_segmenter_arguments,
    check_segmenter_arguments,
    given_segmenter_flags,
    segmenter_settings,
)
from scenegen.cli.store_options import path_or_url, use_mirrors
from scenegen.cli.types import (
    formats,
    object_count,
    positive_int,
    seed,
    up_to,
    whole_number,
)
from scenegen.demo.viewer import ViewerUnavailable, check_viewer
from scenegen.export.registry import (
    ALL_FORMATS,
    DEFAULT_FORMATS,
    STATE,
    FormatUnavailable,
    check_options,
    representation_requests,
)
from scenegen.hub.releases import SMALL_MODEL
from scenegen.inputs.read_options import InvertedMasks, ReadOptions
from scenegen.physics.packages import SIMULATION_PACKAGES, PhysicsUnavailable, check_packages
from scenegen.pipelines.settings import DECODER_ROLES, RunSettings
from scenegen.pipelines.texturing import TEXTURE_MODES, SolidMode, TextureMode, TextureSettings
from scenegen.stores.urls import StoreError


def parse_arguments(
    description: str, arguments: Sequence[str] | None, prog: str | None = None
) -> argparse.Namespace:
    """Parse and check the command line; exits with status 2 on a bad argument.

    Args:
        description: first lines of the help.
        arguments: None takes those of the process.
        prog: how the command is called; None takes the name of the running script.

    Returns:
        The options, with `BatchOptions` as ``batch`` and the engine as ``runs_on``.
    """
    parser = CommandParser(description, prog)
    add_input_arguments(parser)
    add_model_arguments(parser)
    add_result_arguments(parser)
    add_viewer_arguments(parser)
    add_root_arguments(parser)
    add_engine_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        apply_root(options)
        use_mirrors(options)
        options.runs_on = engine_of(options)
        options.batch = batch_options(options)
        if options.viewer:
            check_viewer()
    except (ValueError, StoreError, FormatUnavailable, ViewerUnavailable) as error:
        parser.error(str(error))
    return options


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """What is read."""
    parser.add_argument(
        "--input",
        type=path_or_url,
        default=bundled(EXAMPLE_SCENES),
        help="a photo, a scene folder or a folder of them, also by the URL of an object store; default: the "
        "example scenes of a checkout",
    )
    masks = parser.add_mutually_exclusive_group()
    masks.add_argument(
        "--masks", type=Path, help="label image, array, COCO JSON or folder of masks, when --input is a photo"
    )
    masks.add_argument(
        "--boxes",
        type=Path,
        help="JSON list of [x0, y0, x1, y1] in pixels, also with points, when --input is a photo",
    )
    masks.add_argument("--auto-masks", action="store_true", help="find the objects of photos without masks")
    parser.add_argument(
        "--max-objects",
        type=object_count,
        default=ReadOptions().max_objects,
        help="of one photo, above which it is refused (%(default)s)",
    )
    parser.add_argument(
        "--min-area",
        type=whole_number,
        metavar="PIXELS",
        help="of label images, smaller specks are left out; default: a 10,000th of the photo",
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse a scene with a mask that cannot be used"
    )
    parser.add_argument(
        "--inverted-masks",
        choices=get_args(InvertedMasks),
        default=ReadOptions().inverted,
        help="masks that cover most of the photo and its border: invert them, keep them, or leave their "
        "objects out and say so (%(default)s)",
    )
    parser.add_argument("--limit", type=positive_int, help="only the first N scenes")
    add_pixel_argument(parser)


def add_pixel_argument(parser: argparse.ArgumentParser) -> None:
    """What keeps a picture from filling the memory."""
    parser.add_argument(
        "--max-pixels",
        type=up_to(HIGHEST_MAX_PIXELS),
        default=MAX_PIXELS,
        metavar="N",
        help="refuse pictures of more pixels before they are decoded (%(default)s)",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """What makes the scenes, and how."""
    parser.add_argument(
        "--checkpoint",
        default=bundled(SMALL_MODEL),
        help="folder, or owner/name on the model hub; default: the small model of a checkout",
    )
    parser.add_argument("--revision", help="of a checkpoint on the hub")
    add_segmenter_arguments(parser)
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="default: float32 on a CPU, else float16"
    )
    parser.add_argument("--low-vram", action="store_true", help="load each network for its stage alone")
    parser.add_argument("--seed", type=seed, default=42, help="of all noise (%(default)s)")
    add_candidate_arguments(parser)
    add_sampling_arguments(parser)
    parser.add_argument(
        "--group",
        type=positive_int,
        metavar="N",
        help="objects that see each other whole, in scenes of many: the largest and its neighbours in size",
    )
    parser.add_argument(
        "--no-scene-attention", action="store_true", help="every object by itself, for comparisons"
    )
    parser.add_argument(
        "--no-appearance",
        action="store_true",
        help="only structures and poses: plain surfaces in the photo's colours, in less time",
    )


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """What is written."""
    texture = TextureSettings()
    parser.add_argument(
        "--output", type=path_or_url, default="outputs", help="folder or URL for the results (%(default)s)"
    )
    parser.add_argument(
        "--formats",
        type=formats,
        default=DEFAULT_FORMATS,
        help=f"some of {','.join(ALL_FORMATS)}, or all that need no decoder which checkpoints may lack; "
        f"default {','.join(DEFAULT_FORMATS)}",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="make finished scenes again, also those whose photo, masks and settings are as they were",
    )
    parser.add_argument(
        "--texture", choices=get_args(TextureSource), help="source of the colours; default: the checkpoint's"
    )
    parser.add_argument(
        "--texture-mode",
        choices=get_args(TextureMode),
        help="how colours are taken; default "
        + ", ".join(f"{TEXTURE_MODES[source][0]} of a {source}" for source in DECODER_ROLES),
    )
    parser.add_argument("--texture-size", type=positive_int, help=f"texels per edge; default {texture.size}")
    add_export_arguments(parser)
    add_shape_arguments(parser)
    parser.add_argument(
        "--keep-state",
        action="store_true",
        help="also write what 'scenegen reroll' starts from, to change single objects later",
    )
    parser.add_argument(
        "--refine",
        action="store_true",
        help="complete what stands, and push objects out of each other and onto the floor",
    )
    parser.add_argument(
        "--settle",
        action="store_true",
        help="with --refine: let the objects come to rest under gravity last; needs bash setup.sh --sim",
    )
    parser.add_argument(
        "--room",
        action="store_true",
        help="add the floor and the walls that the photo shows to the scene's GLB",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def add_shape_arguments(parser: argparse.ArgumentParser) -> None:
    """What meshes are like."""
    texture = TextureSettings()
    faces = parser.add_mutually_exclusive_group()
    faces.add_argument("--faces", type=positive_int, metavar="N", help="triangles of each object")
    faces.add_argument(
        "--scene-faces", type=positive_int, metavar="N", help="of the scene, shared by the objects' areas"
    )
    faces.add_argument(
        "--simplify",
        type=float,
        metavar="SHARE",
        help=f"of the triangles to remove; default {texture.simplify}, of plain surfaces what exceeds 20,000",
    )
    parser.add_argument(
        "--surface",
        choices=get_args(SolidMode),
        help="textured objects as solids, or as the released decoder's meshes are post-processed; "
        f"default {texture.surface}",
    )
    parser.add_argument(
        "--solid", action="store_true", help="insist on watertight objects; what nothing closes is remeshed"
    )
    parser.add_argument(
        "--keep-holes",
        action="store_true",
        help="leave tears open, and holes where the photo shows a closed surface",
    )


def add_viewer_arguments(parser: argparse.ArgumentParser) -> None:
    """The page that shows the results."""
    parser.add_argument(
        "--viewer", "--gradio", action="store_true", help="afterwards, show generated and true scenes"
    )
    parser.add_argument(
        "--truth", type=Path, help="true scenes; default: scene_<set> beside masked_images_<set>"
    )
    add_address_arguments(parser)


def batch_options(options: argparse.Namespace) -> BatchOptions:
    """The part of the command line that concerns every scene.

    Raises:
        ValueError: a texture setting is out of range, or something is asked of an appearance stage that is
            left out.
    """
    export = export_options(options)
    check_options(options.formats, export)
    if options.settle:
        if not options.refine:
            raise ValueError("--settle: is the last step of --refine; add it, or leave --settle out")
        try:
            check_packages(SIMULATION_PACKAGES)
        except PhysicsUnavailable as error:
            raise ValueError(f"--settle: {error}") from error
    if options.room and not set(options.formats) & {"glb", "glb+splats"}:
        raise ValueError("--room: is in the files of glb and glb+splats alone; add one of them to --formats")
    drawn = [request.flag for request in representation_requests(options.formats, export)]
    if options.no_appearance and (wanted := [*appearance_flags(options), *drawn]):
        raise ValueError(f"{', '.join(wanted)}: needs the appearance stage; leave --no-appearance out")
    page = {"--truth": options.truth, "--host": options.host, "--port": options.port}
    if wanted := [flag for flag, value in page.items() if value is not None and not options.viewer]:
        raise ValueError(
            f"{', '.join(wanted)}: of the page that --viewer opens; add --viewer or leave it out"
        )
    if options.solid and options.surface == "released":
        raise ValueError("--solid: surfaces as released are open; leave one of --solid and --surface out")
    if options.keep_holes and options.surface == "released":
        raise ValueError("--keep-holes: surfaces as released keep theirs; leave it or --surface out")
    if options.masks and (wanted := given_segmenter_flags(options)):
        raise ValueError(f"{', '.join(wanted)}: finds masks, which --masks gives; leave one of them out")
    check_segmenter_arguments(options)
    if options.revision and Path(options.checkpoint).expanduser().is_dir():
        raise ValueError("--revision: of a repository on the hub, but --checkpoint is a folder; leave it out")
    if problem := texture_mode_problem(options.texture, options.texture_mode):
        raise ValueError(problem)
    kept = (STATE,) if options.keep_state and STATE not in options.formats else ()
    if options.is_root and kept:
        raise ValueError("--keep-state: needs a folder for each scene, which --set has not; leave it out")
    return BatchOptions(
        options.output,
        (*options.formats, *kept),
        run_settings(options),
        overwrite=options.overwrite,
        export=export,
        refine=options.refine,
        settle=options.settle,
        room=options.room,
        auto_masks=options.auto_masks,
        frame=options.frame,
        is_root=options.is_root,
        reading=ReadOptions(options.max_objects, options.min_area, options.strict, options.inverted_masks),
        model=made_by(options.checkpoint, options.revision, options.dtype),
        segmenter=segmenter_settings(options),
    )


def run_settings(options: argparse.Namespace) -> RunSettings:
    """How each scene is made.

    Raises:
        ValueError: a texture setting is out of range, or an interval is none.
    """
    return RunSettings(
        seed=options.seed,
        **sampling_settings(options),
        texture=TextureSettings(
            **given(
                source=options.texture,
                mode=options.texture_mode,
                size=options.texture_size,
                surface=options.surface,
            )
        ),
        faces=options.faces,
        scene_faces=options.scene_faces,
        simplify=options.simplify,
        solid=options.solid,
        close_holes=not options.keep_holes,
        scene_attention=not options.no_scene_attention,
        group=options.group,
        appearance=not options.no_appearance,
        candidates=candidates_of(options),
    )
