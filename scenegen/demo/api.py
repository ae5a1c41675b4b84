"""The demo as an HTTP interface: segment, generate, cancel and download, without the page.

The functions are end points of gradio's interface (``/gradio_api``), so that its Python and JavaScript
clients, and plain HTTP, can call them; the page's footer has their description. One client is one session.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from scenegen.demo.controls import OWN_PRESET, PRESETS, SceneControls
from scenegen.demo.generation import scene_file
from scenegen.demo.handlers import SHOWN_ERRORS, as_warning, handler, session_of
from scenegen.demo.jobs import Job
from scenegen.demo.prompts import object_title
from scenegen.demo.scene_events import POLL_SECONDS
from scenegen.demo.service import DemoService, current_picture
from scenegen.demo.session import Session
from scenegen.export.names import POSES_FILE
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import write_labels
from scenegen.segmentation.prompts import parse_prompt

Objects = list[dict[str, Any]]


class DemoApi:
    """The functions; see `add_to` for how they are called."""

    def __init__(self, service: DemoService) -> None:
        """Serve what ``service`` can do."""
        self._service = service

    def add_to(self, page: Any) -> None:
        """Give a page the end points /segment, /add, /generate, /cancel and /download.

        Args:
            page: gradio's Blocks; this is called inside its ``with`` block.
        """
        import gradio as gr
        from gradio import FileData

        file = {"picture": FileData}
        self._offer(self.segment, file | {"objects": list[dict], "polygons": bool, "return": dict})
        self._offer(self.add, file | {"labels": FileData, "return": dict})
        self._offer(self.cancel, {"return": dict})
        self._offer(self.download, {"formats": list[str], "return": list[FileData]})

        async def generate(request: Any, settings: Any) -> AsyncIterator[dict[str, Any]]:
            session = session_of(self._service, request)
            try:
                async for answer in self.generate(session, settings):
                    yield answer
            except SHOWN_ERRORS as error:
                raise as_warning(error) from error

        generate.__annotations__ = {"request": gr.Request, "settings": dict, "return": dict}
        description = inspect.getdoc(self.generate)
        gr.api(generate, api_name="generate", api_description=description, concurrency_limit=None)

    def segment(
        self, session: Session, picture: dict[str, Any], objects: Objects, polygons: bool = False
    ) -> dict[str, Any]:
        """Find objects in a picture, which becomes the current one of the session.

        Boxes, points and the label image are in pixels of the picture as it was sent, upright.

        Raises:
            SceneInputError: the picture or an object cannot be used.
        """
        if not isinstance(objects, list):
            raise SceneInputError(
                'objects: expected a list of objects such as {"box": [x0, y0, x1, y1]}, got '
                f"{objects!r:.60}; correct it"
            )
        with session.lock:
            note = self._service.set_photo(session, *self._uploaded(picture))
            current = current_picture(session)
            for index, raw in enumerate(objects):
                prompt = parse_prompt(raw, current.sent_size, f"object {index}")
                current.add(current.in_photo(prompt), self._service.options.max_objects)
            self._service.segment(session, polygons=polygons)
            labels = current.labels_as_sent()
            path = session.new_file("api_labels", ".png", keep_last=4)
            write_labels(labels, path)
            found = [
                {"number": number, "name": name, "pixels": int((labels == number).sum())}
                for number, name in enumerate(current.names, start=1)
            ]
        return {"labels": _file(path), "objects": found, "note": note}

    def add(self, session: Session, picture: dict[str, Any], labels: dict[str, Any]) -> dict[str, Any]:
        """Put a picture with its label image into the cache.

        Raises:
            SceneInputError: one of them cannot be used.
        """
        with session.lock:
            self._service.set_photo(session, *self._uploaded(picture))
            note = self._service.set_labels(session, *self._uploaded(labels))
            pair = self._service.add_to_cache(session)
            return {"pictures": len(session.pairs), "objects": len(pair.names), "note": note}

    async def generate(self, session: Session, settings: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Make a scene of the cache and tell where it is.

        Raises:
            SceneInputError: settings or cache do not allow it, or the scene failed.
            Busy: too many scenes wait.
        """
        job = await self._service.in_thread(self._service.generate, session, self._controls(settings))
        try:
            while not job.is_finished:
                yield self._state(job)
                await asyncio.sleep(POLL_SECONDS)
        finally:
            if not job.is_finished:
                self._service.queue.cancel(job)
        if job.state == "failed":
            raise SceneInputError(str(job.error))
        answer = self._state(job)
        if job.state == "done" and session.scene is not None:
            scene = session.scene
            with session.lock:  # the next scene begins with its own pictures, some may be there already
                session.pairs[:] = [pair for pair in session.pairs if pair not in scene.pairs]
            answer |= {
                "glb": _file(scene_file(scene)),
                "poses": _file(scene.folder / POSES_FILE),
                "objects": [object_title(item.object_id + 1, item.name) for item in scene.result.objects],
            }
        yield answer

    def cancel(self, session: Session) -> dict[str, Any]:
        """Stop the scene that is on its way: {"cancelled": whether there was one}."""
        return {"cancelled": self._service.cancel(session)}

    def download(self, session: Session, formats: list[str]) -> list[dict[str, Any]]:
        """The files of the last scene; see `DemoService.download`."""
        return [_file(path) for path in self._service.download(session, formats)]

    def _controls(self, settings: dict[str, Any]) -> SceneControls:
        if not isinstance(settings, Mapping):
            raise SceneInputError(
                f'settings: expected an object such as {{"preset": "fast"}}, got {settings!r:.60}; correct it'
            )
        given = dict(settings)
        name = given.pop("preset", OWN_PRESET)
        if name not in PRESETS:
            raise SceneInputError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}; choose one")
        return SceneControls.parse(given, self._service.preset(name))

    def _state(self, job: Job) -> dict[str, Any]:
        progress = job.progress
        return {
            "state": job.state,
            "before": self._service.queue.place(job),
            "stage": None if progress is None else progress.stage,
            "done": 0 if progress is None else progress.done,
            "total": 0 if progress is None else progress.total,
            "seconds": round(job.seconds, 2),
        }

    def _offer(self, work: Callable[..., Any], hints: dict[str, Any]) -> None:
        """Make an end point of a method, whose first argument is the session of whoever calls."""
        import gradio as gr

        found = handler(self._service, work)
        session, *parameters = inspect.signature(work).parameters.values()
        request = session.replace(name="request")
        found.__signature__ = inspect.Signature([request, *parameters], return_annotation=hints["return"])
        found.__annotations__ = {"request": gr.Request} | hints
        gr.api(found, api_name=work.__name__, api_description=inspect.getdoc(work), concurrency_limit=None)

    def _uploaded(self, file: Any) -> tuple[Path, str]:
        """The path of a file that the caller uploaded, and what the caller calls it.

        Raises:
            SceneInputError: it is something else than an uploaded file.
        """
        path = file.get("path") if isinstance(file, dict) else None
        if not isinstance(path, str) or not self._service.is_uploaded(Path(path)):
            raise SceneInputError(
                "expected a file that was uploaded to this server, got something else; upload it"
            )
        return Path(path), Path(file.get("orig_name") or path).name


def _file(path: Path) -> dict[str, Any]:
    """A file as gradio sends it."""
    from gradio import FileData

    return FileData(path=str(path), orig_name=path.name).model_dump()
