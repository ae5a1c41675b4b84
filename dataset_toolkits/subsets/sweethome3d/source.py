"""Getting the furniture libraries onto this disk, from the Debian package or a folder, and unpacking them."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from dataset_toolkits.subsets.instances import SubsetError
from dataset_toolkits.subsets.sweethome3d.catalogue import CatalogueEntry, CatalogueError, read_catalogue
from scenegen.synthesis.furniture.split import load_split

logger = logging.getLogger(__name__)

PACKAGE = "sweethome3d-furniture"
RAW_FOLDER = Path("raw") / PACKAGE


class SourceError(SubsetError):
    """The furniture libraries cannot be fetched or found."""


def find_libraries(source: Path) -> list[Path]:
    """The .sh3f files below a folder, by name.

    Raises:
        SourceError: there is none.
    """
    libraries = sorted(source.rglob("*.sh3f"))
    if not libraries:
        raise SourceError(
            f"{source}: expected .sh3f furniture libraries in this folder, found none; run python -m "
            f"dataset_toolkits.download or give --source a folder with the unpacked package {PACKAGE}"
        )
    return libraries


def fetch_package(folder: Path) -> Path:
    """Download the Debian package with apt and unpack it below `folder`; no root rights are needed.

    Returns:
        The folder to give to `find_libraries`.

    Raises:
        SourceError: apt or dpkg is missing or fails.
    """
    unpacked = folder / "package"
    if any(unpacked.rglob("*.sh3f")):
        return unpacked
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        _call(["apt-get", "download", PACKAGE], Path(scratch))
        unpack_deb(next(Path(scratch).glob("*.deb")), unpacked)
    return unpacked


def unpack_deb(package: Path, folder: Path) -> None:
    """Unpack a .deb into a folder (`dpkg -x`).

    Raises:
        SourceError: dpkg is missing or the file is not a package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _call(["dpkg", "-x", str(package.resolve()), str(folder.resolve())], folder)


def unpack_models(libraries: list[Path], root: Path) -> dict[str, Path]:
    """Unpack the folder of each model that the split knows, with its licence and textures.

    Args:
        libraries: .sh3f files.
        root: data root; models go to root/raw/sweethome3d-furniture/<library>/.

    Returns:
        OBJ path relative to `root` for each model id.
    """
    paths = {}
    for library in libraries:
        with zipfile.ZipFile(library) as archive:
            target = root / RAW_FOLDER / library.stem
            entries = indoor_entries(library)
            wanted = {PurePosixPath(entry.model_path).parent for entry in entries}
            for member in archive.infolist():
                path = PurePosixPath(member.filename)
                is_wanted = not wanted.isdisjoint(path.parents) or path.name == "LICENSE.TXT"
                if not member.is_dir() and is_wanted and not _is_unpacked(target / path, member.file_size):
                    archive.extract(member, target)
            paths.update({entry.id: RAW_FOLDER / library.stem / entry.model_path for entry in entries})
        logger.info("%s: %d indoor models", library.name, len(entries))
    return paths


def indoor_entries(library: Path) -> list[CatalogueEntry]:
    """Catalogue entries of one library that the split file knows."""
    known = load_split()
    return [entry for entry in read_catalogue(library) if entry.id in known]


def read_entries(libraries: list[Path]) -> dict[str, CatalogueEntry]:
    """All indoor entries of several libraries by id.

    Raises:
        CatalogueError: two models have the same id.
    """
    entries: dict[str, CatalogueEntry] = {}
    for library in libraries:
        for entry in indoor_entries(library):
            if entry.id in entries:
                raise CatalogueError(
                    f"{library}: model id {entry.id} occurs twice; give one copy of each library"
                )
            entries[entry.id] = entry
    return entries


def _is_unpacked(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _call(command: list[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise SourceError(
            f"{command[0]} is not on this machine; fetch the package {PACKAGE} elsewhere, unpack it with "
            "`dpkg -x` (or `ar x` and tar) and give the folder with --source"
        )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SourceError(
            f"{' '.join(command)} failed in {folder}: {done.stderr.strip() or done.stdout.strip()}"
        )
