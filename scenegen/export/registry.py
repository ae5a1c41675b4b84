"""Extra output formats by name; a format's file, and the packages it needs, are imported when it is used."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import trimesh

from scenegen.pipelines.result import SceneResult


class FormatUnavailable(RuntimeError):
    """A format needs a package that is not installed."""


@dataclass(frozen=True)
class ExtraFormat:
    """One format.

    Attributes:
        module: file that defines ``write(result, scene, folder) -> list[str]``.
        packages: what it imports besides the core dependencies.
        extra: the extra of this project that installs them.
        patterns: globs of the files it writes.
    """

    module: str
    patterns: tuple[str, ...]
    packages: tuple[str, ...] = ()
    extra: str = ""


_FORMATS = {
    "ply": ExtraFormat("gaussian_ply", ("scene.ply", "obj_*.ply")),
    "obj": ExtraFormat("wavefront_obj", ("scene.obj", "scene.mtl", "obj_*_colour.png")),
    "usd": ExtraFormat("usd_layer", ("scene.usda", "obj_*_usd.png")),
    "mp4": ExtraFormat("turntable", ("turntable.mp4",), ("imageio", "imageio_ffmpeg"), "video"),
}

EXTRA_FORMATS = tuple(_FORMATS)
"""Names as the command line takes them."""


def check_format(name: str) -> None:
    """Make sure that a format can be written here, before anything is generated.

    Raises:
        ValueError: unknown format.
        FormatUnavailable: a package is missing; the message says how to install it.
    """
    found = _lookup(name)
    for package in found.packages:
        if importlib.util.find_spec(package) is None:
            raise FormatUnavailable(
                f"format {name!r}: expected the package {package!r}, which is not installed; "
                f"pip install 'scenegen[{found.extra}]', or leave {name!r} out of --formats"
            )


def write_format(name: str, result: SceneResult, scene: trimesh.Scene, folder: Path) -> list[str]:
    """Write a generated scene in one of `EXTRA_FORMATS`.

    Args:
        name: of the format.
        result: at least one object has a mesh.
        scene: the same scene put together by `scenegen.export.scene_files.build_scene`.
        folder: exists.

    Returns:
        Names of the files written in the folder.

    Raises:
        ValueError, FormatUnavailable: see `check_format`.
    """
    check_format(name)
    return importlib.import_module(f"{__package__}.{_lookup(name).module}").write(result, scene, folder)


def file_patterns() -> tuple[str, ...]:
    """Globs of the files of all extra formats: what an earlier run of a scene may have left."""
    return tuple(pattern for each in _FORMATS.values() for pattern in each.patterns)


def _lookup(name: str) -> ExtraFormat:
    if name not in _FORMATS:
        raise ValueError(f"format {name!r}: expected one of {', '.join(EXTRA_FORMATS)}; check the spelling")
    return _FORMATS[name]
