"""Sessions: what each visitor has on the server, in memory and in a folder that nobody else can name.

A folder is named by 256 random bits. Who knows the name of a file can fetch it, and nobody else learns it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from scenegen.demo.jobs import Job
from scenegen.demo.prompts import CurrentPicture
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.result import SceneResult

logger = logging.getLogger(__name__)

STRAY_SECONDS = 300.0
"""Uploads that no session took are deleted after this time."""

_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, eq=False)
class Pair:
    """A photo with its objects in the cache of a session.

    Attributes:
        photo: RGB.
        labels: (H, W) uint8, k + 1 on object k.
        name: of the photo, as a file or folder may be called.
        names: one for each object.
        query: the object that was chosen as query; None leaves the choice to the order.
        picture: file of the photo beside its numbered objects.
        keys: of the objects in the picture that was marked, see `CurrentPicture`.
    """

    photo: Image.Image
    labels: np.ndarray
    name: str
    names: tuple[str, ...]
    query: int | None
    picture: Path
    keys: tuple[int, ...] = ()

    def with_mask(self, index: int, mask: np.ndarray) -> Pair:
        """The pair with another mask (H, W) bool of an object; what belongs to others stays theirs."""
        labels = self.labels.copy()
        labels[labels == index + 1] = 0
        labels[mask & (labels == 0)] = index + 1
        return replace(self, labels=labels)

    def scene_images(self) -> SceneImages:
        """The pair as the pipeline takes it."""
        masks = [self.labels == number for number in range(1, len(self.names) + 1)]
        return SceneImages.from_masks(self.photo, masks)


@dataclass(eq=False)
class MadeScene:
    """The scene that a session shows.

    Attributes:
        result: its objects.
        folder: of its files, and of no others.
        files: those of `SCENE_FORMATS`.
        pairs: what it was made of.
        seconds: from its start to its files.
    """

    result: SceneResult
    folder: Path
    files: tuple[Path, ...]
    pairs: tuple[Pair, ...]
    seconds: float


@dataclass(eq=False)
class Session:
    """One visitor.

    Attributes:
        folder: all files of the session.
        user: the name that the visitor logged in with; None without passwords.
        current: the picture that is being marked.
        canvas_file: the current picture as the page shows it.
        example: place of the example that was chosen last, from 0.
        pairs: the cache, the first photo of the scene first.
        selected_pair: place of the pair that is selected in the gallery, from 0.
        job: the scene that is waited for, or the last one.
        scene: the scene that was made last.
        earlier: what it was before single objects were made anew, the latest last.
        lock: held while any of these changes.
        order: held by what somebody does on the page, one after another.
        last_use: seconds of `time.monotonic`.
    """

    folder: Path
    user: str | None = None
    current: CurrentPicture | None = None
    pairs: list[Pair] = field(default_factory=list)
    selected_pair: int | None = None
    canvas_file: Path | None = None
    example: int = 0
    job: Job | None = None
    scene: MadeScene | None = None
    earlier: list[MadeScene] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    order: asyncio.Lock = field(default_factory=asyncio.Lock)
    last_use: float = field(default_factory=time.monotonic)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _folders: dict[str, list[Path]] = field(default_factory=dict)
    _folders_lock: threading.Lock = field(default_factory=threading.Lock)

    def new_file(self, stem: str, suffix: str, *, keep_last: int = 1) -> Path:
        """Name for a file that is shown; browsers never mix it up with an earlier one of the same stem.

        Args:
            stem, suffix: the name is ``<stem>-<number><suffix>``.
            keep_last: of the files of this stem, all but so many are deleted.
        """
        earlier = sorted(self.folder.glob(f"{stem}-*{suffix}"), key=lambda path: path.stat().st_mtime_ns)
        for path in earlier[: max(len(earlier) - keep_last, 0)]:
            path.unlink(missing_ok=True)
        return self.folder / f"{stem}-{next(self._numbers)}{suffix}"

    @contextmanager
    def making_folder(self, stem: str, *, keep_last: int) -> Iterator[Path]:
        """An empty folder for the length of a block that fills it; where that fails, it is deleted.

        Args:
            stem: its name is ``<stem>-<number>``.
            keep_last: of the folders of this stem that were filled, all but so many are deleted then.
        """
        folder = self.folder / f"{stem}-{next(self._numbers)}"
        folder.mkdir()
        try:
            yield folder
        except BaseException:
            _remove(folder)
            raise
        with self._folders_lock:
            filled = self._folders.setdefault(stem, [])
            filled.append(folder)
            while len(filled) > keep_last:
                _remove(filled.pop(0))


class SessionStore:
    """The sessions of a server, by the keys that their pages send."""

    def __init__(self, root: Path, hours: float, cancel: Callable[[Job], None]) -> None:
        """Start without sessions.

        Args:
            root: folder of all their folders; uploads arrive there, too.
            hours: without use, after which a session is deleted.
            cancel: stops the job of a session that ends.
        """
        self.root = root
        self._seconds = hours * _SECONDS_PER_HOUR
        self._cancel = cancel
        self._sessions: dict[tuple[str, str | None], Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._sessions)

    def get(self, key: str, user: str | None = None) -> Session:
        """The session of a page, made where there is none; it counts as used.

        Args:
            key: the random word that the page made for itself.
            user: who is logged in; the same key of somebody else is another session.
        """
        with self._lock:
            session = self._sessions.get((key, user))
            if session is None:
                folder = self.root / secrets.token_hex(32)
                folder.mkdir(parents=True)
                session = self._sessions[key, user] = Session(folder, user)
            session.last_use = time.monotonic()
            return session

    def drop(self, key: str, user: str | None = None) -> None:
        """End a session: cancel its job and delete its files."""
        with self._lock:
            session = self._sessions.pop((key, user), None)
        if session is not None:
            self._end(session)

    def sweep(self, stray_seconds: float = STRAY_SECONDS) -> None:
        """Delete sessions that nobody used for long, and what lies in the root and belongs to none.

        Args:
            stray_seconds: age below which a file without a session may still be on its way to one.
        """
        oldest = time.monotonic() - self._seconds
        with self._lock:
            keys = [
                key
                for key, session in self._sessions.items()
                if session.last_use < oldest and (session.job is None or session.job.is_finished)
            ]
            ended = [self._sessions.pop(key) for key in keys]
            kept = {session.folder.name for session in self._sessions.values()}
        for session in ended:
            logger.info("a session ended after its age")
            self._end(session)
        newest = time.time() - stray_seconds
        for path in self.root.iterdir():
            if path.name not in kept and path.lstat().st_ctime <= newest:
                _remove(path)

    def close(self) -> None:
        """End all sessions."""
        with self._lock:
            ended = list(self._sessions.values())
            self._sessions.clear()
        for session in ended:
            self._end(session)

    def _end(self, session: Session) -> None:
        if session.job is not None:
            self._cancel(session.job)
            session.job.wait(_END_SECONDS)  # it writes into the folder
        with session.lock:
            session.current, session.scene = None, None
            session.pairs.clear()
            session.earlier.clear()
        _remove(session.folder)


_END_SECONDS = 30.0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
