"""Options of files: how they are written, whatever their format."""

from __future__ import annotations

import argparse
from typing import get_args

from scenegen.cli.types import positive_float
from scenegen.export.options import ExportOptions, TextureFormat, Turntable


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """How files are written."""
    parser.add_argument(
        "--texture-format",
        choices=get_args(TextureFormat),
        default=ExportOptions().texture_format,
        help="of the pictures in GLB, OBJ and USD files; webp for GLB alone",
    )
    parser.add_argument(
        "--turntable",
        choices=get_args(Turntable),
        default=ExportOptions().turntable,
        help="what the video of --formats mp4 shows (%(default)s)",
    )
    parser.add_argument("--compress", action="store_true", help="smaller GLB files: quantised normals")
    parser.add_argument(
        "--physics",
        action="store_true",
        help="USD files with mass, inertia and convex colliders, z up, in metres",
    )
    parser.add_argument(
        "--metres",
        type=positive_float,
        metavar="HEIGHT",
        help="of the scene above its floor, for --formats mjcf and --physics; default: estimated from what "
        "furniture measures",
    )
    parser.add_argument(
        "--density",
        type=positive_float,
        default=ExportOptions().density,
        help="kilograms a cubic metre of objects, likewise (%(default)s)",
    )


def export_options(options: argparse.Namespace) -> ExportOptions:
    """How files are written."""
    return ExportOptions(
        texture_format=options.texture_format,
        compress=options.compress,
        turntable=options.turntable,
        device=str(options.device),
        physics=options.physics,
        metres=options.metres,
        density=options.density,
    )
