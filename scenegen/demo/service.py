"""What the demo can do, without any page: the page and the HTTP interface call the same functions."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from scenegen.demo.controls import SceneControls, preset
from scenegen.demo.generation import (
    RerollRequest,
    SceneRequest,
    check_pairs,
    write_downloads,
    write_made,
)
from scenegen.demo.jobs import Busy, Job, JobQueue
from scenegen.demo.looks import SceneLook
from scenegen.demo.models import DemoModels
from scenegen.demo.object_list import objects_made_of
from scenegen.demo.options import DemoOptions
from scenegen.demo.pictures import draw_pair, read_photo, read_uploaded_labels, write_shown
from scenegen.demo.prompts import CurrentPicture, PageView, check_count
from scenegen.demo.session import Pair, Session, SessionStore
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.limits import MAX_VIEWS
from scenegen.segmentation.prompts import ObjectPrompt

logger = logging.getLogger(__name__)

T = TypeVar("T")

THREADS = 40
"""Things that visitors do at once; scenes, which each device makes one by one, are not among them."""

_SWEEP_SECONDS = 60.0
_MAX_STEM_LENGTH = 60
_DOWNLOADS_KEPT = 3  # of each session; somebody may still be fetching the ones before


class DemoService:
    """Sessions, networks and the queue of a demo server.

    Attributes:
        options: of whoever started it.
        models, queue, sessions: its parts.
    """

    def __init__(self, options: DemoOptions, root: Path) -> None:
        """Start without loading a network.

        Args:
            options: limits, models and devices.
            root: folder of all sessions; exists.
        """
        self.options = options
        self.models = DemoModels(options)
        self.queue = JobQueue(options.devices, options.queue_size)
        self.sessions = SessionStore(root, options.session_hours, self.queue.cancel)
        self._threads = ThreadPoolExecutor(THREADS, "page")
        self._closed = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="old sessions", daemon=True)
        self._sweeper.start()

    def close(self) -> None:
        """End all jobs and sessions."""
        self._closed.set()
        self.sessions.close()
        self.queue.close()
        self._threads.shutdown()
        self.models.close()
        self._sweeper.join()

    async def in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """What a function returns that would hold up all visitors if it did not run in another thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def is_uploaded(self, path: Path) -> bool:
        """Whether a file lies where uploads arrive, and nowhere else on the disk."""
        return path.resolve().is_relative_to(self.sessions.root.resolve())

    @property
    def segmenter_words(self) -> str:
        """What finds masks, without loading it where it is a network."""
        options = self.options
        if options.sam2 is not None:
            return f"SAM 2 ({options.sam2})"
        return self.models.segmenter(options.devices[0]).description

    @property
    def has_few_steps(self) -> bool:
        """Whether the demo's checkpoint has a flow of structures that needs few steps, as far as is known."""
        config = self.models.config()
        return config is not None and config.few_step_sampler is not None

    def preset(self, name: str) -> SceneControls:
        """The controls of a preset for the demo's checkpoint."""
        return preset(name, self.models.config())

    def set_photo(self, session: Session, path: Path, name: str) -> str:
        """Begin a new picture; objects of the one before are gone with it.

        Args:
            path: of the uploaded file.
            name: what the visitor calls it.

        Returns:
            A line about what was done to the photo; empty where nothing was.

        Raises:
            SceneInputError: see `read_photo`; the picture before stays.
        """
        photo, sent_size = read_photo(path, name, self.options.max_side)
        self.models.begin_to_load()
        with session.lock:
            session.current = CurrentPicture(photo, sent_size, file_stem(name))
        if sent_size == photo.size:
            return ""
        (width, height), (was_width, was_height) = photo.size, sent_size
        return f"The picture was made smaller, from {was_width} x {was_height} to {width} x {height} pixels."

    def set_labels(self, session: Session, path: Path, name: str, min_area: int | None = None) -> str:
        """Take the objects of the current picture from an uploaded label image.

        Args:
            path, name: see `set_photo`.
            min_area: pixels below which an area is left out; None takes one of 10,000.

        Returns:
            How many objects there are, and what was left out, in words.

        Raises:
            SceneInputError: there is no picture, or see `read_uploaded_labels`; the objects stay.
        """
        with session.lock:
            picture = current_picture(session)
            limit = self.options.max_objects
            image = read_uploaded_labels(path, name, picture, limit, min_area)
            picture.use_labels(image, limit)
            self._name_as_before(session, picture)
        return image.summary

    def segment(self, session: Session, view: PageView | None = None, *, polygons: bool = False) -> None:
        """Find the masks of the current picture's objects.

        Args:
            view: what the page shows; None keeps the objects that the server knows.
            polygons: keep the largest outline of each mask, filled.

        Raises:
            SceneInputError: there is no picture or no object, or nothing is found for one.
            CheckpointError: the segmenter cannot be had.
            Busy: too many jobs wait for the device.
        """
        with session.lock:
            picture = current_picture(session)
            if view is not None:
                picture.take_boxes(view, self.options.max_objects)
            self._name_as_before(session, picture)
            self._on_device(lambda device: picture.segment(self.models.segmenter(device), polygons))

    def click(self, session: Session, number: int, point: tuple[float, float], positive: bool) -> None:
        """Correct an object of the current picture by a point; see `CurrentPicture.click`.

        Raises:
            SceneInputError, CheckpointError, Busy: see `segment`.
        """
        with session.lock:
            picture = current_picture(session)
            self._on_device(
                lambda device: picture.click(self.models.segmenter(device), number, point, positive)
            )

    def find_by_names(self, session: Session, names: str) -> int:
        """Add a box for each object of the current picture that words name.

        Args:
            names: separated by commas.

        Returns:
            How many were found.

        Raises:
            SceneInputError: there is no picture, no name, nothing is found, or too much.
            CheckpointError, Busy: see `segment`.
        """
        wanted = [name.strip() for name in names.split(",") if name.strip()]
        with session.lock:
            picture = current_picture(session)
            found: list[ObjectPrompt] = []
            self._on_device(
                lambda device: found.extend(self.models.find_by_names(picture.photo, wanted, device)),
                has_network=True,
            )
            if not found:
                raise SceneInputError(
                    f"expected objects called {names!r}, found none; try other words or draw boxes"
                )
            check_count(len(picture.objects) + len(found), self.options.max_objects)
            for prompt in found:
                picture.add(prompt, self.options.max_objects)
        return len(found)

    def add_to_cache(self, session: Session) -> Pair:
        """Put the current picture with its objects into the cache.

        Raises:
            SceneInputError: there is no picture, an object has no mask of its own, or the cache is full.
        """
        with session.lock:
            picture = current_picture(session)
            labels = picture.complete_labels()
            if len(session.pairs) >= MAX_VIEWS:
                raise SceneInputError(
                    f"expected at most {MAX_VIEWS} pictures in the cache, got one more; delete some first"
                )
            count = len(picture.objects)
            shown = draw_pair(picture.photo, labels, count)
            path = session.new_file("pair", ".jpg", keep_last=2 * MAX_VIEWS)
            query = None if picture.query is None else picture.objects.index(picture.query)
            keys = tuple(item.key for item in picture.objects)
            file = write_shown(shown, path)
            pair = Pair(picture.photo, labels, picture.name, picture.names, query, file, keys)
            session.pairs.append(pair)
            return pair

    def delete_pair(self, session: Session, index: int | None) -> None:
        """Take a pair out of the cache.

        Raises:
            SceneInputError: there is no such pair.
        """
        with session.lock:
            if index is None or not 0 <= index < len(session.pairs):
                raise SceneInputError(
                    "expected a picture of the cache, none is selected; click on one in the gallery first"
                )
            session.pairs.pop(index)  # its picture stays: a scene may still show what went in

    def generate(self, session: Session, controls: SceneControls, look: SceneLook | None = None) -> Job:
        """Let a scene be made of the cache.

        Args:
            controls: how.
            look: shows the scene while it is made; None saves the time that this takes.

        Raises:
            SceneInputError: the cache or a control does not allow it, or the session has a scene on its way.
            Busy: too many scenes wait.
        """
        with session.lock:
            check_idle(session)
            check_pairs(session.pairs)
            controls.check(len(session.pairs))
            request = SceneRequest(session, tuple(session.pairs), controls, self.options.debug_dumps)
            session.job = self.queue.submit(Job(partial(request.make, self.models, look)))
            return session.job

    def reroll(self, session: Session, key: int, look: SceneLook | None = None) -> Job:
        """Let an object of the last scene be made anew, while the others stay as they are.

        Where its mask in the current picture was changed since, the new one counts.

        Args:
            key: of the object in the current picture.
            look: see `generate`.

        Raises:
            SceneInputError: there is no scene of this picture, the object is not in it or has no mask, or
                the session has a scene on its way.
            Busy: too many scenes wait.
        """
        with session.lock:
            check_idle(session)
            picture = current_picture(session)
            number = picture.number_of(key)
            scene = session.scene
            made = {} if scene is None else objects_made_of(picture, scene)
            if scene is None or number not in made:
                raise SceneInputError(
                    f"object {number}: expected an object of the scene, which it is not; generate it first"
                )
            object_id, pair = made[number].object_id, scene.pairs[0]
            mask = picture.complete_labels() == number
            is_new = not np.array_equal(mask, pair.labels == object_id + 1)
            pairs = (pair.with_mask(object_id, mask), *scene.pairs[1:]) if is_new else scene.pairs
            request = RerollRequest(session, scene, object_id, pairs, is_new)
            session.job = self.queue.submit(Job(partial(request.make, self.models, look)))
            return session.job

    def undo(self, session: Session) -> None:
        """Bring back what the last scene was before an object of it was made anew.

        Raises:
            SceneInputError: it is as it was made, or one is on its way.
        """
        with session.lock:
            check_idle(session)
            if not session.earlier:
                raise SceneInputError("expected a scene that was changed, found none; nothing to undo")
            before = session.earlier.pop()
            name = before.folder.name
            session.scene = write_made(session, before.result, name, before.pairs, before.seconds)

    def cancel(self, session: Session) -> bool:
        """Stop the scene that is on its way; False where there is none."""
        job = session.job
        if job is None or job.is_finished:
            return False
        self.queue.cancel(job)
        return True

    def download(self, session: Session, formats: Sequence[str]) -> list[Path]:
        """Write the last scene of a session in some formats.

        Returns:
            The files, an archive of all of them last.

        Raises:
            SceneInputError: there is no scene, or see `write_downloads`.
            FormatUnavailable, OSError: see `write_downloads`.
        """
        scene = session.scene
        if scene is None:
            raise SceneInputError("expected a scene to download, found none; generate one first")
        with session.making_folder("files", keep_last=_DOWNLOADS_KEPT) as folder:
            return write_downloads(scene, formats, folder)

    def name_by_order(self, session: Session) -> None:
        """Give objects of the current picture the names at the same places of the first one cached."""
        names = session.pairs[0].names if session.pairs else ()
        picture = current_picture(session)
        for number, name in enumerate(names[: len(picture.objects)], start=1):
            picture.rename(number, name)

    def _name_as_before(self, session: Session, picture: CurrentPicture) -> None:
        """Give objects without a name that of their place in the first cached picture, where it is free."""
        names = session.pairs[0].names if session.pairs else ()
        for number, name in enumerate(names[: len(picture.objects)], start=1):
            if not picture.names[number - 1] and picture.names.count(name) < names.count(name):
                picture.rename(number, name)

    def _on_device(self, work: Callable[[torch.device], None], *, has_network: bool | None = None) -> None:
        """Run work when a device is free, or at once where it has no network that runs there.

        Args:
            has_network: None asks whether the segmenter has one.
        """
        if not (self.options.sam2 is not None if has_network is None else has_network):
            work(self.options.devices[0])
            return
        job = self.queue.submit(Job(lambda job, device: work(device)), first=True)
        job.wait()
        if job.state == "failed":
            raise SceneInputError(str(job.error))

    def _sweep(self) -> None:
        while not self._closed.wait(_SWEEP_SECONDS):
            self.sessions.sweep()


def check_idle(session: Session) -> None:
    """Refuse a second scene at the same time.

    Raises:
        SceneInputError: the session has one on its way.
    """
    if session.job is not None and not session.job.is_finished:
        raise SceneInputError(
            "expected one scene at a time, yours is still being made; wait for it or cancel it"
        )


def file_stem(name: str) -> str:
    """What is before the last dot of a visitor's name for a file, as files and folders may be called."""
    return re.sub(r"[^\w ()-]", "_", Path(name).stem).strip()[:_MAX_STEM_LENGTH] or "picture"


def current_picture(session: Session) -> CurrentPicture:
    """The picture that is being marked.

    Raises:
        SceneInputError: there is none.
    """
    if session.current is None:
        raise SceneInputError("expected a picture, found none; choose one or load an example first")
    return session.current


PAGE_ERRORS = (SceneInputError, Busy)
"""What the page shows as a warning, in the words of the error."""
