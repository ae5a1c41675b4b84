"""Folders of networks in the layout of the package transformers, on the disk or fetched from the hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

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


def load_with_tokenizer(
    kind: type, folder: Path, refused: Callable[[Path, str], CheckpointError]
) -> tuple[Any, Any]:
    """A network with every weight from its checkpoint, in float32 on the CPU, and the tokenizer of its texts.

    Args:
        kind: class of transformers.
        folder: as `find_folder` returns it; nothing is fetched and no pickle is opened.
        refused: makes the error for a folder that does not hold such a network, with the reason.

    Raises:
        CheckpointError: that of ``refused``.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    try:
        network, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (
        OSError, ValueError, KeyError, TypeError, RuntimeError, StrictDataclassError, SafetensorError
    ) as error:  # fmt: skip
        raise refused(folder, " ".join(str(error).split())[:200]) from error
    if faults := sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]])):
        raise refused(folder, f"it lacks {faults[0]} and {len(faults) - 1} more")
    return network, tokenizer
