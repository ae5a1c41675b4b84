"""Folders of networks in the layout of the package transformers, on the disk or fetched from the hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

from scenegen.hub.repository import Repository, split_repository
from trellis_modules.checkpoint import CheckpointError


def check_transformers(purpose: str, otherwise: str, error: type[CheckpointError] = CheckpointError) -> None:
    """Make sure that the package transformers is there.

    Args:
        purpose: what it is needed for; begins the message.
        otherwise: what to do without it; ends the message.
        error: what is raised where it is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise error(
            f"{purpose}: expected the package 'transformers', which is not installed; "
            f"run bash setup.sh --segment, {otherwise}"
        )


def find_folder(
    path_or_repo: Path | str,
    names: Sequence[str],
    missing: Callable[[Path], CheckpointError],
    revision: str | None = None,
) -> Path:
    """The folder with some files, fetched where the text names a repository and no folder.

    Args:
        path_or_repo: a folder, or ``owner/name``.
        names: of the files; of several missing ones, the last is named.
        missing: makes the error for a file that is not there.
        revision: of a repository.

    Raises:
        CheckpointError: that of ``missing``, for a folder that lacks a file.
        HubError: the repository cannot be had.
    """
    folder = Path(path_or_repo).expanduser()
    parts = None if folder.exists() else split_repository(str(path_or_repo))
    if parts is not None and not parts[1]:
        repository = Repository(parts[0], revision)
        folder = [repository.get(name) for name in names][0].parent
    for name in reversed(names):
        if not (folder / name).is_file():
            raise missing(folder / name)
    return folder
