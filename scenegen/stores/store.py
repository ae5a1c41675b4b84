"""Files of an object store through fsspec: fetched and delivered whole, and tried again where that helps."""

from __future__ import annotations

import errno
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from scenegen.stores.urls import PACKAGES, StoreError, StoreUrl, without_secrets
from trellis_modules.files import atomic_write

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

logger = logging.getLogger(__name__)

_ATTEMPTS = 5
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Of a disk that is full or may not be written to."""

_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0  # seconds between attempts
_WHOLE_AT_ONCE = ("s3", "gs", "az")  # an upload that does not end is not seen there, also in parts
_NO_BUCKET = "bucket does not exist"
_HINTS = {
    "request time": "the clock of this machine is wrong, set it",
    _NO_BUCKET: "make the bucket or correct the URL",
}
_T = TypeVar("_T")


class Store:
    """A folder of an object store."""

    def __init__(self, url: StoreUrl) -> None:
        """Prepare; nothing is asked yet.

        Raises:
            StoreError: the package for this scheme is not installed.
        """
        self.url = url
        package = PACKAGES[url.scheme]
        try:
            import fsspec

            self._system: AbstractFileSystem = fsspec.filesystem(url.scheme, use_listings_cache=False)
        except ImportError as error:
            raise StoreError(
                f"{url.scheme}://: expects the package {package!r}, which is not installed; run "
                f"{'bash setup.sh --stores' if package in ('fsspec', 's3fs') else f'pip install {package}'}"
            ) from error
        self._root = self._system._strip_protocol(url.text)
        self._faults = _faults_of(url.scheme)

    def entries(self) -> Iterator[tuple[str, bool]]:
        """Names directly below, each with whether it is a folder; page by page where the store can.

        Raises:
            StoreError: the store cannot be read, or there is nothing.
        """
        last = None
        is_empty = True
        for name, is_folder in self._listed():
            if name and name != last:  # a marker of a folder and the folder have one name
                is_empty = False
                yield name, is_folder
            last = name
        if is_empty:
            raise StoreError(f"{self.url}: expected files or folders, found nothing; correct the URL")

    def find(self, name: str) -> dict[str, int]:
        """Names of the files that a name stands for, the file itself or all below the folder, with sizes."""
        return {file: size for file, (size, _) in self.states(name).items()}

    def states(self, name: str) -> dict[str, tuple[int, str]]:
        """As `find`, with sizes and texts that are others when the content is: hashes, or times."""
        path = self._path(name)
        try:
            found = self._tried(lambda: self._system.find(path, detail=True), name)
        except FileNotFoundError:
            return {}
        prefix = len(self._root) + 1
        return {file[prefix:]: (int(info["size"] or 0), _mark(info)) for file, info in sorted(found.items())}

    def has_any(self, name: str) -> bool:
        """Whether there is a file of this name, or anything in a folder of it."""
        try:
            return next(Store(self.url / name).entries(), None) is not None
        except StoreError as error:
            if "found nothing" in str(error):
                return bool(self.states(name))
            raise

    def exists(self, name: str) -> bool:
        """Whether there is a file or a folder of this name."""
        return bool(self.find(name))

    def fetch(self, name: str, folder: Path) -> list[str]:
        """Bring the files that a name stands for below a local folder, where each appears whole or never.

        Returns:
            Their names; none where there is nothing of this name.

        Raises:
            StoreError: the store cannot be read.
            OSError: the local disk refuses.
        """
        found = self.find(name)
        for file, size in found.items():
            with atomic_write(folder / file, shared=True) as part:
                self._tried(lambda file=file, size=size, part=part: self._get(file, size, part), file)
        return list(found)

    def deliver(self, folder: Path, name: str) -> None:
        """Put a file from below a local folder into the store, where it appears whole or not at all.

        Raises:
            StoreError: the store cannot be written to.
        """
        try:
            self._put(str(folder / name), self._path(name), name)
        except FileNotFoundError as error:  # there is no such place, and none can be made
            raise self._explained(error, name) from None

    def _put(self, source: str, target: str, name: str) -> None:
        if self.url.scheme in _WHOLE_AT_ONCE:
            self._tried(lambda: self._system.put_file(source, target), name)
            return
        parent, _, last = target.rpartition("/")
        temporary = f"{parent}/.{last}.{os.getpid()}.part"

        def put() -> None:
            self._system.makedirs(parent, exist_ok=True)
            self._system.put_file(source, temporary)
            self._system.mv(temporary, target)

        self._tried(put, name)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            self._tried(lambda: self._system.rm_file(self._path(name)), name)
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        return f"{self._root}/{PurePosixPath(name)}" if name else self._root

    def _get(self, name: str, size: int, path: Path) -> None:
        try:
            self._system.get_file(self._path(name), str(path))
        except FileNotFoundError as error:
            if error.filename != str(path):
                raise
            # another process has just removed its own files, and with them the folder that was empty then
            path.parent.mkdir(parents=True, exist_ok=True)
            raise ConnectionError(f"{path.parent} was removed meanwhile") from error
        if (got := path.stat().st_size) != size:
            raise ConnectionError(f"expected {size} bytes, got {got}")

    def _listed(self) -> Iterator[tuple[str, bool]]:
        if self.url.scheme != "s3":
            try:
                entries = self._tried(lambda: self._system.ls(self._root, detail=True), "")
            except FileNotFoundError:
                return
            for entry in sorted(entries, key=lambda entry: entry["name"]):
                yield PurePosixPath(entry["name"]).name, entry["type"] == "directory"
            return
        bucket, _, prefix = self._root.partition("/")
        prefix = f"{prefix}/" if prefix else ""
        token: dict[str, str] = {}
        while True:
            page = self._tried(
                lambda token=token: self._system.call_s3(
                    "list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter="/", **token
                ),
                "",
            )
            found = [(item["Prefix"], True) for item in page.get("CommonPrefixes", ())]
            found += [(item["Key"], False) for item in page.get("Contents", ())]
            for key, is_folder in sorted(found):
                yield key[len(prefix) :].rstrip("/"), is_folder
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _tried(self, function: Callable[[], _T], name: str) -> _T:
        """Call a function of the store, again where it fails for a reason that may pass.

        Raises:
            FileNotFoundError: there is no file of this name, in a bucket that is there.
            OSError: the local disk refuses, with one of `DISK_ERRORS`.
            StoreError: anything else.
        """
        wait = _FIRST_WAIT
        for left in reversed(range(_ATTEMPTS)):
            try:
                return function()
            except FileNotFoundError as error:
                if _NO_BUCKET not in str(error):
                    raise
                raise self._explained(error, name) from None
            except PermissionError as error:
                raise self._explained(error, name) from None
            except self._faults as error:
                if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                    raise  # of this machine: another attempt would not help, nor would another task
                if not left:
                    raise self._explained(error, name) from None
                logger.debug("%s/%s: %s; tried again", self.url, name, type(error).__name__)
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, _LONGEST_WAIT)
        raise AssertionError("the last attempt returns or raises")

    def _explained(self, error: BaseException, name: str) -> StoreError:
        reason = without_secrets(f"{type(error).__name__}: {error}")
        hint = next((text for word, text in _HINTS.items() if word in reason), None)
        hint = hint or "check the URL, the network and what the account may do there"
        where = f"{self.url}/{name}" if name else f"{self.url}"
        return StoreError(f"{where}: expected a store that can be used, got {reason}; {hint}")


def _mark(info: Mapping[str, Any]) -> str:
    """What tells the content of a file from another: the first that its store knows."""
    known = (info.get(name) for name in ("ETag", "etag", "md5Hash", "content_md5", "mtime", "created"))
    return str(next((value for value in known if value is not None), ""))


def _faults_of(scheme: str) -> tuple[type[BaseException], ...]:
    """What the library of a scheme raises that is no `OSError`, and that."""
    if scheme != "s3":
        return (OSError,)
    from botocore.exceptions import BotoCoreError

    return (OSError, BotoCoreError)


def remove_files(folder: Path, names: list[str]) -> None:
    """Remove local files below a folder, and the folders that this leaves empty."""
    for name in names:
        path = folder / name
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == folder:
                break
            try:
                parent.rmdir()
            except OSError:  # it is not empty, or another process has removed it
                break
