"""Output formats by name; a format's file, and the packages it needs, are imported when it is used.

A new format is a file of this folder that defines ``write(result, scene, folder) -> list[str]``, with its
entry here.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trimesh

from scenegen.pipelines.result import SceneResult


class FormatUnavailable(RuntimeError):
    """A format needs a package that is not installed."""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        module: file of this folder that writes it.
        patterns: globs of the files it writes.
        function: name of the function in it: (result, scene, folder) -> names of the files written.
        packages: what it imports besides the core dependencies.
        extra: the extra of this project that installs them.
    """

    module: str
    patterns: tuple[str, ...]
    function: str = "write"
    packages: tuple[str, ...] = ()
    extra: str = ""


_FORMATS = {
    "glb": Format("glb", ("scene.glb",)),
    "objects": Format("glb", ("obj_*.glb",), "write_objects"),
    "preview": Format("preview", ("preview.png",)),
    "ply": Format("gaussian_ply", ("scene.ply", "obj_*.ply")),
    "obj": Format("wavefront_obj", ("scene.obj", "scene.mtl", "obj_*_colour.png")),
    "usd": Format("usd_layer", ("scene.usda", "obj_*_usd.png")),
    "mp4": Format("turntable", ("turntable.mp4",), packages=("imageio", "imageio_ffmpeg"), extra="video"),
}

RECORD = "poses"
"""Name of the record ``poses.json``, which is written whether it is asked for or not."""

DEFAULT_FORMATS = ("glb", "objects", RECORD, "preview")
ALL_FORMATS = (*DEFAULT_FORMATS, *(name for name in _FORMATS if name not in DEFAULT_FORMATS))
"""Names as the command line takes them."""


def check_formats(names: Sequence[str]) -> None:
    """Make sure that formats can be written here, before anything is generated.

    Raises:
        ValueError: unknown format.
        FormatUnavailable: a package is missing; the message says how to install it.
    """
    for name in names:
        if name not in ALL_FORMATS:
            raise ValueError(f"format {name!r}: expected one of {', '.join(ALL_FORMATS)}; check the spelling")
        for package in _FORMATS[name].packages if name != RECORD else ():
            if importlib.util.find_spec(package) is None:
                raise FormatUnavailable(
                    f"format {name!r}: expected the package {package!r}, which is not installed; "
                    f"pip install 'scenegen[{_FORMATS[name].extra}]', or leave {name!r} out of --formats"
                )


def write_format(name: str, result: SceneResult, scene: trimesh.Scene, folder: Path) -> list[str]:
    """Write a generated scene in one format; see `check_formats` for what can be written.

    Args:
        name: of the format, not that of the record.
        result: at least one object has a mesh.
        scene: the same scene put together by `scenegen.export.meshes.build_scene`.
        folder: exists.

    Returns:
        Names of the files written in the folder.
    """
    found = _FORMATS[name]
    module = importlib.import_module(f"{__package__}.{found.module}")
    return getattr(module, found.function)(result, scene, folder)


def in_order(names: Sequence[str]) -> list[str]:
    """The formats among ``names`` without the record, in the order in which they are written."""
    return [name for name in _FORMATS if name in names]


def file_patterns() -> tuple[str, ...]:
    """Globs of the files of all formats: what an earlier run of a scene may have left."""
    return tuple(pattern for each in _FORMATS.values() for pattern in each.patterns)
