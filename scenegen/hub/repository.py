"""Checkpoints by path or by repository name, through huggingface_hub, which is optional.

Only what a checkpoint's ``pipeline.json`` names is fetched, and of that JSON and safetensors alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scenegen.checkpoints.roles import PIPELINE_FILE, network_stems
from scenegen.hub.releases import SMALL_MODEL, HubError, is_inside, load_releases, missing_checkpoint
from trellis_modules.checkpoint import WEIGHTS_SUFFIX
from trellis_modules.config import ConfigError, load_json

FOLDER_FILES = ("config.json", "model.safetensors")
"""Files of a repository that holds one network."""

_PART = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Repository:
    """A hub repository and how to reach it.

    Attributes:
        name: ``owner/name``.
        revision: branch, tag or commit; None is the newest.
        cache_dir: where files are kept; None is huggingface_hub's own cache.
        local_files_only: use what is in the cache, never the network.
        endpoint: None is the public hub, or HF_ENDPOINT.
        repo_type: ``model`` or ``dataset``.
    """

    name: str
    revision: str | None = None
    cache_dir: Path | str | None = None
    local_files_only: bool = False
    endpoint: str | None = None
    repo_type: str = "model"

    def get(self, file: str) -> Path:
        """A file, fetched unless it is in the cache.

        Raises:
            MissingFile: the repository has none.
            HubError: huggingface_hub is not installed, or the hub cannot be reached or refuses.
        """
        with hub_faults(self, file):
            from huggingface_hub import hf_hub_download

            return Path(
                hf_hub_download(
                    self.name,
                    file,
                    revision=self.revision,
                    cache_dir=self.cache_dir,
                    local_files_only=self.local_files_only,
                    endpoint=self.endpoint,
                    repo_type=self.repo_type,
                )
            )

    def get_network(self, stem: str) -> Path:
        """``STEM.json`` and ``STEM.safetensors``.

        Returns:
            The stem in the cache.

        Raises:
            MissingFile: the repository lacks one of the two.
            HubError: see `get`.
        """
        description = self.get(f"{stem}.json")
        self.get(stem + WEIGHTS_SUFFIX)
        return description.with_name(PurePosixPath(stem).name)


class MissingFile(HubError):
    """A repository without the file that was asked for."""


def resolve_checkpoint(
    path_or_repo: Path | str,
    revision: str | None = None,
    cache_dir: Path | str | None = None,
    local_files_only: bool = False,
    *,
    endpoint: str | None = None,
) -> Path:
    """The folder of a checkpoint: a local one as it is, else one fetched from the hub.

    A text that could be both is a folder where there is one; for a folder the network is never touched.

    Args:
        path_or_repo: a folder, or a repository as ``owner/name`` or ``owner/name/folder``.
        revision, cache_dir, local_files_only, endpoint: see `Repository`; without effect on a folder.

    Returns:
        The folder with ``pipeline.json``.

    Raises:
        HubError: there is no such folder or repository, a file is missing, or the hub cannot be reached.
    """
    path = Path(path_or_repo).expanduser()
    if os.path.isdir(path):  # False too for names that no folder can have
        return path
    if os.path.exists(path):
        raise HubError(f"{path}: expected a checkpoint folder, got a file; pass the folder that holds it")
    parts = split_repository(str(path_or_repo))
    if parts is None:
        raise missing_checkpoint(path)
    name, folder = parts
    repository = Repository(name, revision, cache_dir, local_files_only, endpoint)
    prefix = f"{folder}/" if folder else ""
    description = repository.get(prefix + PIPELINE_FILE)
    for stem in _own_stems(description):
        try:
            repository.get_network(prefix + stem)
        except MissingFile:
            continue  # another repository's, or the name of a published network; loading tells
    return description.parent


def fetch_reference(
    reference: str,
    cache_dir: Path | str | None = None,
    local_files_only: bool = False,
    *,
    endpoint: str | None = None,
) -> Path | None:
    """A network of another repository that a ``pipeline.json`` names.

    Args:
        reference: ``owner/name/ckpts/stem``; or ``owner/name``, or a local path such as
            ``checkpoints/VGGT-1B``, of a release that is one network.
        cache_dir, local_files_only, endpoint: see `Repository`.

    Returns:
        The stem; or the folder with ``config.json`` and ``model.safetensors``, which may be the one that
        ``scenegen download`` made; None where the text names no repository.

    Raises:
        HubError: the repository, or the network in it, could not be had.
    """
    text = PurePosixPath(reference)
    for release in load_releases().values():
        if text.name != release.folder or release.pipelines:
            continue
        downloaded = PurePosixPath(SMALL_MODEL).parent / release.folder
        if Path(downloaded).is_dir():
            return Path(downloaded)
        if release.repo and release.files.keys() >= set(FOLDER_FILES):
            repository = Repository(release.repo, release.revision, cache_dir, local_files_only, endpoint)
            files = [repository.get(file) for file in FOLDER_FILES]
            return files[0].parent
    parts = split_repository(reference)
    if parts is None or not parts[1]:
        return None
    return Repository(parts[0], None, cache_dir, local_files_only, endpoint).get_network(parts[1])


def split_repository(text: str) -> tuple[str, str] | None:
    """Repository and folder in it, of ``owner/name`` or ``owner/name/folder``.

    Returns:
        None for what is or looks like a local path: below a folder that exists, absolute, with ``.`` or
        ``..``, or where the releases go.
    """
    parts = text.split("/")
    if len(parts) < 2 or not all(_PART.fullmatch(part) for part in parts) or not is_inside(text):
        return None
    if os.path.isdir(parts[0]) or parts[0] == PurePosixPath(SMALL_MODEL).parts[0]:
        return None
    return "/".join(parts[:2]), "/".join(parts[2:])


def _own_stems(description: Path) -> list[str]:
    """What a description names that may lie beside it."""
    try:
        stems = network_stems(load_json(description))
    except ConfigError as error:
        raise HubError(f"{error}; check the repository and its revision") from error
    except ValueError as error:
        raise HubError(f"{description}: {error}; check the repository and its revision") from error
    return list(dict.fromkeys(filter(is_inside, stems.values())))


@contextmanager
def hub_faults(repository: Repository, file: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line."""
    try:
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise HubError(
            f"{repository.name}: {file}: expected the package huggingface_hub, found none; "
            "run bash setup.sh --hub, or download by hand and pass the folder"
        ) from error
    kind = "datasets/" if repository.repo_type == "dataset" else ""
    url = f"{repository.endpoint or constants.ENDPOINT}/{kind}{repository.name}"
    where = f"{url}: {file}"
    small = f". The bundled small model, {SMALL_MODEL}, needs no download"
    try:
        yield
    except errors.LocalEntryNotFoundError as error:
        error_class = MissingFile if repository.local_files_only else HubError
        raise error_class(
            f"{where}: expected it in the cache or a hub that answers, found neither; check the network or "
            f"the endpoint{f', or pass a local folder{small}' if repository.repo_type == 'model' else ''}"
        ) from error
    except errors.GatedRepoError as error:
        raise HubError(f"{where}: needs permission; accept the terms on {url}, then hf auth login") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"{where}: expected a public repository or permission to read it, the hub knows none; check the "
            f"name, or hf auth login{small if repository.repo_type == 'model' else ''}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{where}: no such revision {repository.revision!r}; check the revision") from error
    except errors.EntryNotFoundError as error:
        raise MissingFile(
            f"{where}: expected the file in the repository, found none; check the name and the revision"
        ) from error
    except errors.HFValidationError as error:
        raise HubError(f"{where}: {_first_line(error)}; check the name") from error
    except (errors.HTTPError, OSError) as error:  # of the transport that huggingface_hub uses, and the disk
        raise HubError(f"{where}: {_first_line(error)}; check the network and the endpoint") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
