"""Output formats by name; a format's file, and the packages it needs, are imported when it is used.

A new format is a file of this folder that defines ``write(result, scene, folder, options) -> list[str]``,
with its entry here.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trimesh

from scenegen.export.options import ExportOptions
from scenegen.physics.packages import EXTRA as PHYSICS_EXTRA
from scenegen.physics.packages import PACKAGES as PHYSICS_PACKAGES
from scenegen.pipelines.result import Representation, SceneResult


class FormatUnavailable(RuntimeError):
    """A format needs a package that is not installed."""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        module: file of this folder that writes it.
        files: regular expression of the names of the files that it writes.
        function: name of the function in it: (result, scene, folder, options) -> names of the files written.
        has_textures: whether `ExportOptions.texture_format` changes its files.
        representation: what it draws objects from; they have to be generated as that for it.
        has_stand_in: whether it also takes objects that were generated without.
        packages: what it imports besides the core dependencies.
        extra: the extra of this project that installs them.
        in_all: whether ``all`` on the command line stands for it, too.
        replaces: the format whose files it writes with more in them; only by its own name is it asked for.
    """

    module: str
    files: str
    function: str = "write"
    has_textures: bool = False
    representation: Representation | None = None
    has_stand_in: bool = False
    packages: tuple[str, ...] = ()
    extra: str = ""
    in_all: bool = True
    replaces: str = ""


@dataclass(frozen=True)
class RepresentationRequest:
    """Something that objects have to be generated as, for a file.

    Attributes:
        flag: what asks for it, as on the command line.
        representation: what it is.
        is_needed: whether nothing stands in for it.
    """

    flag: str
    representation: Representation
    is_needed: bool


_FORMATS = {
    "glb": Format("glb", r"scene\.glb", has_textures=True),
    "glb+splats": Format(
        "glb",
        r"scene\.glb",
        "write_with_splats",
        has_textures=True,
        representation="gaussian",
        has_stand_in=True,
        replaces="glb",
    ),
    "objects": Format("glb", r"obj_\d+\.glb", "write_objects", has_textures=True),
    "preview": Format("preview", r"preview\.png"),
    "ply": Format("gaussian_ply", r"(scene|obj_\d+)\.ply", representation="gaussian", has_stand_in=True),
    "obj": Format(
        "wavefront_obj", r"(scene|obj_\d+)\.(obj|mtl)|obj_\d+_colour\.(png|jpg)", has_textures=True
    ),
    "usd": Format("usd_layer", r"scene\.usd[ac]|obj_\d+_usd\.(png|jpg)", has_textures=True),
    "usdz": Format("usd_layer", r"scene\.usdz", "write_archive", has_textures=True),
    "mjcf": Format(
        "mjcf",
        r"scene\.xml|obj_\d+_visual(\.(obj|mtl)|_colour\.png)",
        packages=PHYSICS_PACKAGES,
        extra=PHYSICS_EXTRA,
        in_all=False,
    ),
    "mp4": Format("turntable", r"turntable\.mp4", packages=("imageio", "imageio_ffmpeg"), extra="video"),
    "structure": Format("structure", r"(obj_\d+_)?structure\.png"),
    "state": Format("state", r"scene\.safetensors|state\.json", in_all=False),
    "radiance_field": Format(
        "radiance_field", r"obj_\d+_radiance_field\.png", representation="radiance_field"
    ),
}
_PHYSICS_ON_REQUEST = ("usd", "usdz")
_RECORD_FILE = r"poses\.json"

RECORD = "poses"
"""Name of the record ``poses.json``, which is written whether it is asked for or not."""

STATE = "state"
"""Name of the format that keeps what later changes of a scene start from."""

DEFAULT_FORMATS = ("glb", "objects", RECORD, "preview")
ALL_FORMATS = (*DEFAULT_FORMATS, *(name for name in _FORMATS if name not in DEFAULT_FORMATS))
"""Names as the command line takes them."""

FORMATS_OF_ANY_CHECKPOINT = tuple(
    name
    for name in ALL_FORMATS
    if name == RECORD
    or _FORMATS[name].in_all
    and not _FORMATS[name].replaces
    and (_FORMATS[name].representation is None or _FORMATS[name].has_stand_in)
)
"""Those that need no network which some checkpoints lack, each file in one form, without the state."""


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
            _check_package(package, _FORMATS[name].extra, f"format {name!r}", f"{name!r} out of --formats")


def _check_package(package: str, extra: str, what: str, way_out: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise FormatUnavailable(
            f"{what}: expected the package {package!r}, which is not installed; run bash setup.sh --{extra}, "
            f"or leave {way_out}"
        )


def write_format(
    name: str, result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions
) -> list[str]:
    """Write a generated scene in one format; see `check_formats` for what can be written.

    Args:
        name: of the format, not that of the record.
        result: at least one object has a mesh.
        scene: the same scene put together by `scenegen.export.meshes.build_scene`.
        folder: exists.
        options: how files are written.

    Returns:
        Names of the files written in the folder.
    """
    found = _FORMATS[name]
    module = importlib.import_module(f"{__package__}.{found.module}")
    return getattr(module, found.function)(result, scene, folder, options)


def representation_requests(names: Sequence[str], options: ExportOptions) -> list[RepresentationRequest]:
    """What objects have to be generated as for some formats."""
    requests = [
        RepresentationRequest(f"--formats {name}", found.representation, not found.has_stand_in)
        for name, found in _FORMATS.items()
        if name in names and found.representation is not None
    ]
    if "mp4" in names and options.turntable != "mesh":
        requests.append(RepresentationRequest(f"--turntable {options.turntable}", options.turntable, True))
    return requests


def in_order(names: Sequence[str]) -> list[str]:
    """The formats among ``names`` that are written, in this order: no record, and no replaced format."""
    replaced = {_FORMATS[name].replaces for name in names if name != RECORD}
    return [name for name in _FORMATS if name in names and name not in replaced]


def can_have_written(file: str) -> bool:
    """Whether a format, or the record, can have given a file this name."""
    patterns = (_RECORD_FILE, *(each.files for each in _FORMATS.values()))
    return any(re.fullmatch(pattern, file) for pattern in patterns)


def check_options(names: Sequence[str], options: ExportOptions) -> None:
    """Make sure that options have an effect on some format.

    Raises:
        FormatUnavailable: physics needs a package that is not installed.
        ValueError: none of the formats heeds an option that is not the default.
    """
    default = ExportOptions()
    if options.physics:
        _need_some(names, _PHYSICS_ON_REQUEST, "physics")
        for package in (*PHYSICS_PACKAGES, "pxr"):
            _check_package(package, PHYSICS_EXTRA, "physics", "--physics out")
    with_physics = ["mjcf", *(_PHYSICS_ON_REQUEST if options.physics else ())]
    for name in ("metres", "density"):
        if getattr(options, name) != getattr(default, name) and not set(names) & set(with_physics):
            raise ValueError(
                f"{name}: of the format mjcf, and of usd and usdz with physics; ask for one of them "
                "or leave it out"
            )
    if options.texture_format != default.texture_format:
        wanted = [name for name, each in _FORMATS.items() if each.has_textures]
        if options.texture_format == "webp":
            wanted = [name for name in wanted if _FORMATS[name].module == "glb"]
        _need_some(names, wanted, f"texture format {options.texture_format!r}")
    if options.compress:
        _need_some(names, [name for name, each in _FORMATS.items() if each.module == "glb"], "compress")
    if options.turntable != default.turntable:
        _need_some(names, ["mp4"], f"turntable {options.turntable!r}")


def _need_some(names: Sequence[str], wanted: Sequence[str], what: str) -> None:
    if not set(names) & set(wanted):
        raise ValueError(
            f"{what}: changes only the formats {', '.join(wanted)}, got {', '.join(names)}; add one of them "
            "or leave it out"
        )
