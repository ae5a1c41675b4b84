"""3D-FUTURE: furniture whose models are behind a licence, so that their zip file is placed by hand.

Source: Fu et al., 3D-FUTURE, arXiv:2009.09633; the table of assets is that of TRELLIS-500K.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from dataset_toolkits.subsets.instances import Outcome, SubsetError, attempt, model_files
from scenegen.datasets.metadata import AssetRow, read_assets
from scenegen.hub.releases import HubError
from scenegen.hub.repository import Repository
from trellis_modules.files import atomic_write_bytes

__all__ = ["add_args", "download", "get_metadata", "model_files"]

TABLE_REPOSITORY, TABLE_NAME = "JeffreyXiang/TRELLIS-500K", "3D-FUTURE.csv"
ZIP_PATH = Path("raw") / "3D-FUTURE-model.zip"
MODEL_FOLDER = "3D-FUTURE-model"
MODEL_NAME, PICTURE_NAME = "raw_model.obj", "image.jpg"
_MEMBER = re.compile(rf"({MODEL_FOLDER}/[^/]+)/.*[^/]")


def add_args(parser: argparse.ArgumentParser) -> None:
    """Declare where the table of assets is."""
    parser.add_argument(
        "--table",
        type=Path,
        help=f"table of assets (build_metadata); default: {TABLE_NAME} of the hub's {TABLE_REPOSITORY}",
    )


def get_metadata(output_dir: Path, options: argparse.Namespace) -> list[AssetRow]:
    """The published table, fetched or from a file.

    Raises:
        MetadataError: the file is no such table.
        SubsetError: it cannot be fetched; the message says how to give it.
    """
    if options.table is not None:
        return read_assets(options.table)
    try:
        return read_assets(Repository(TABLE_REPOSITORY, repo_type="dataset").get(TABLE_NAME))
    except HubError as error:
        raise SubsetError(f"{error}; or give the table with --table FILE") from error


def download(rows: Sequence[AssetRow], output_dir: Path, options: argparse.Namespace) -> Iterator[Outcome]:
    """Unpack the models of the zip file, and check the picture that comes with each against its key.

    Raises:
        SubsetError: the zip file is not there or is no zip file.
    """
    path = output_dir / ZIP_PATH
    if not path.is_file():
        raise SubsetError(
            f"{path}: expected the models of 3D-FUTURE, found no such file; ask for them at "
            "https://tianchi.aliyun.com/dataset/98063, accept the licence, and put the zip file there"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = defaultdict(list)
            for member in archive.infolist():
                if match := _MEMBER.fullmatch(member.filename):
                    members[match[1]].append(member)
            for row in rows:
                found = members[row.file_identifier]
                unpack = partial(_unpack, archive, found, row, output_dir)
                yield attempt(row.sha256, unpack)
    except zipfile.BadZipFile as error:
        raise SubsetError(f"{path}: not readable as a zip file ({error}); download it again") from error


def _unpack(
    archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], row: AssetRow, output_dir: Path
) -> dict[str, str]:
    """Unpack one model unless it is there; the model file comes last."""
    names = {member.filename.rpartition("/")[2]: member for member in members}
    for needed in (MODEL_NAME, PICTURE_NAME):
        if needed not in names:
            raise ValueError(f"{archive.filename}: expected {row.file_identifier}/{needed}, found none")
    found = hashlib.sha256(_read(archive, names[PICTURE_NAME])).hexdigest()
    if found != row.sha256:
        raise ValueError(
            f"{archive.filename}: {row.file_identifier}/{PICTURE_NAME}: expected sha256 {row.sha256[:12]}... "
            f"as in the table, got {found[:12]}...; the zip file or the table is of another version"
        )
    for member in sorted(members, key=lambda member: member is names[MODEL_NAME]):
        target = output_dir / "raw" / member.filename
        if not target.resolve().is_relative_to((output_dir / "raw").resolve()):
            raise ValueError(f"{archive.filename}: {member.filename} leaves its folder")
        if not (target.is_file() and target.stat().st_size == member.file_size):
            atomic_write_bytes(target, _read(archive, member))
    return {"local_path": (Path("raw") / row.file_identifier / MODEL_NAME).as_posix()}


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:  # of one member: the others may be readable
        raise ValueError(
            f"{archive.filename}: {member.filename}: damaged ({error}); download it again"
        ) from error
