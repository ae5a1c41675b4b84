"""Visitors of the demo: what each of them brings, and how a browser asks for a scene over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from scenegen.inputs.label_image import PALETTE

if TYPE_CHECKING:
    import httpx

SIZE = (96, 72)
_LISTEN_AGAIN_SECONDS = 1.0


class VisitError(RuntimeError):
    """The demo answered with a warning."""


class Visitor:
    """Someone with a page of the demo open, until `leave`."""

    def __init__(self, client: httpx.AsyncClient, config: dict[str, Any], number: int) -> None:
        """Open nothing yet.

        Args:
            client: with the address of the demo; visitors may share it.
            config: answer of ``/config``.
            number: tells the visitor's picture, number of objects and seed from those of others.
        """
        self.number = number
        self._client = client
        self._functions = {item["api_name"]: item["id"] for item in config["dependencies"]}
        self._key = uuid.uuid4().hex
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._messages: defaultdict[str, asyncio.Queue[dict[str, Any]]] = defaultdict(asyncio.Queue)

    async def arrive(self) -> None:
        """Open the page and put the picture with its labels into the cache."""
        self._tasks["heart"] = asyncio.create_task(self._beat())
        files = [
            await self._upload(f"photo {self.number}.png", photo_file(self.number)),
            await self._upload("labels.png", labels_file(self.number)),
        ]
        await self.call("add", *files)

    async def call(self, name: str, *data: Any) -> Any:
        """The last answer of an end point."""
        return [answer async for answer in self.stream(name, *data)][-1]

    async def stream(self, name: str, *data: Any) -> AsyncIterator[Any]:
        """The answers of an end point.

        Raises:
            VisitError: the demo refuses.
        """
        from gradio_client.utils import apply_diff

        body = {"data": list(data), "fn_index": self._functions[name], "session_hash": self._key}
        joined = await self._client.post("/gradio_api/queue/join", json=body)
        event_id = joined.raise_for_status().json()["event_id"]
        last: Any = None
        while True:
            message = await self._next_message(event_id)
            output = message.get("output") or {}
            if message["msg"] == "process_generating":
                (new,) = output["data"]
                last = new if last is None else apply_diff(last, new)
                yield last
            elif message["msg"] == "process_completed":
                if not message["success"]:
                    raise VisitError(output.get("error") or "no words")
                if output.get("data"):
                    yield output["data"][0]
                return

    async def fetch(self, file: dict[str, Any]) -> bytes:
        """The content of a file of an answer."""
        answer = await self._client.get(f"/gradio_api/file={file['path']}")
        return answer.raise_for_status().content

    async def leave(self) -> None:
        """Close the page."""
        for task in self._tasks.values():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _upload(self, name: str, content: bytes) -> dict[str, Any]:
        answer = await self._client.post("/gradio_api/upload", files={"files": (name, content)})
        (path,) = answer.raise_for_status().json()
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    async def _beat(self) -> None:
        async with self._client.stream("GET", f"/gradio_api/heartbeat/{self._key}") as answer:
            async for _ in answer.aiter_raw():
                pass

    async def _next_message(self, event_id: str) -> dict[str, Any]:
        """A message about an event; the server ends the stream of messages whenever it has none."""
        while True:
            if "ears" not in self._tasks or self._tasks["ears"].done():
                self._tasks["ears"] = asyncio.create_task(self._listen())
            with contextlib.suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(self._messages[event_id].get(), _LISTEN_AGAIN_SECONDS)

    async def _listen(self) -> None:
        import httpx

        url = f"/gradio_api/queue/data?session_hash={self._key}"
        # A connection that the server has just closed: `_next_message` listens again.
        with contextlib.suppress(httpx.ReadError):
            async with self._client.stream("GET", url) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data:"):
                        message = json.loads(line[5:])
                        self._messages[message.get("event_id") or ""].put_nowait(message)


def object_count(number: int) -> int:
    """How many objects visitor ``number`` has: 1 to 3."""
    return number % 3 + 1


def photo_file(number: int) -> bytes:
    """The visitor's photo, PNG."""
    return _png(np.full((SIZE[1], SIZE[0], 3), 60 + number % 190, np.uint8))


def labels_file(number: int) -> bytes:
    """The visitor's label image, PNG."""
    labels = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    for index in range(object_count(number)):
        labels[10:60, 30 * index + 4 : 30 * index + 26] = index + 1
    return _png(PALETTE[labels])


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
