"""Any folder of OBJ, GLB and PLY models, with the materials and textures that an OBJ names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dataset_toolkits.subsets.instances import Outcome, SubsetError, attempt, keep_unique, model_files
from scenegen.datasets.metadata import AssetRow
from scenegen.hub.digest import file_sha256
from trellis_modules.files import atomic_write_bytes

__all__ = ["add_args", "download", "get_metadata", "model_files"]

SUFFIXES = (".obj", ".glb", ".ply")
RAW_FOLDER = Path("raw") / "folder"
_LIBRARY = re.compile(r"^\s*mtllib\s+(.+?)\s*$", re.MULTILINE)
_TEXTURE = re.compile(r"^\s*(?:map_\w+|bump|norm|disp|decal|refl)\s+(.+?)\s*$", re.MULTILINE | re.IGNORECASE)


def add_args(parser: argparse.ArgumentParser) -> None:
    """Declare where the models are."""
    parser.add_argument("--source", type=Path, help="folder: where the models are (build_metadata, download)")


def get_metadata(output_dir: Path, options: argparse.Namespace) -> list[AssetRow]:
    """One row for each model file; its key is the hash of the file, its name the path without the ending.

    Raises:
        SubsetError: no folder is given, or it has no model.
    """
    source = _source(options)
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise SubsetError(
            f"{source}: expected models ({', '.join(SUFFIXES)}), found none; give another --source"
        )
    return keep_unique(
        AssetRow(
            sha256=file_sha256(path),
            file_identifier=path.relative_to(source).with_suffix("").as_posix(),
            extra={"file_name": path.relative_to(source).as_posix()},
        )
        for path in paths
    )


def download(rows: Sequence[AssetRow], output_dir: Path, options: argparse.Namespace) -> Iterator[Outcome]:
    """Copy the models below the data root, with the files that they name.

    Raises:
        SubsetError: no folder is given.
    """
    source = _source(options)
    for row in rows:
        yield attempt(row.sha256, lambda row=row: {"local_path": _copy(row, source, output_dir).as_posix()})


def _source(options: argparse.Namespace) -> Path:
    if options.source is None or not options.source.is_dir():
        raise SubsetError(f"--source: expected the folder of the models, got {options.source}; give it")
    return options.source


def _copy(row: AssetRow, source: Path, output_dir: Path) -> Path:
    """Copy one model and what it names; returns its path below the data root."""
    name = Path(row.extra.get("file_name", ""))
    model = source / name
    if not name.suffix or not model.is_file():
        raise ValueError(f"{model}: no such file; give the --source that build_metadata got")
    if (found := file_sha256(model)) != row.sha256:
        raise ValueError(
            f"{model}: expected sha256 {row.sha256[:12]}..., got {found[:12]}...; the file was changed, "
            "write metadata.csv again"
        )
    for path in [*_companions(model), model]:  # the model itself comes last: it tells that all is there
        if path.is_file() and path.resolve().is_relative_to(source.resolve()):
            target = output_dir / RAW_FOLDER / path.resolve().relative_to(source.resolve())
            atomic_write_bytes(target, path.read_bytes())
    return RAW_FOLDER / name


def _companions(model: Path) -> list[Path]:
    """Material libraries and textures of an OBJ; another format holds them itself."""
    if model.suffix.lower() != ".obj":
        return []
    libraries = [model.parent / name for name in _LIBRARY.findall(_text(model))]
    textures = [
        library.parent / line.split()[-1].replace("\\", "/")  # options may stand before the name
        for library in libraries
        if library.is_file()
        for line in _TEXTURE.findall(_text(library))
    ]
    return [*textures, *libraries]


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")
