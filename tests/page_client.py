"""A visitor of a gradio page without a browser: sends what a browser sends, and keeps what it would show."""

from __future__ import annotations

import importlib.util
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_SECONDS = 240  # for a scene on a machine that does much else


needs_demo = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gradio", "gradio_image_annotation")),
    reason="gradio and gradio_image_annotation are not installed (extra demo)",
)


class PageError(RuntimeError):
    """The page showed a warning; the message has its words."""


class PageClient:
    """One open tab.

    Attributes:
        session_hash: the word by which the server knows the tab.
        shown: the latest value of each component, by its ``elem_id``, or by its number where it has none.
    """

    def __init__(self, url: str, login: tuple[str, str] | None = None) -> None:
        """Open the page.

        Args:
            url: of the page.
            login: name and password, where the page asks for them.
        """
        import httpx  # comes with gradio

        self.session_hash = uuid.uuid4().hex[:11]
        self.shown: dict[str | int, Any] = {}
        self.http = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS)
        if login is not None:
            name, password = login
            self.http.post("/login", data={"username": name, "password": password}).raise_for_status()
        self.config = self.http.get("/config").raise_for_status().json()
        self._ids = {
            item["id"]: item["props"].get("elem_id") or item["id"] for item in self.config["components"]
        }
        self._events = {item["api_name"]: item for item in self.config["dependencies"] if item["api_name"]}

    def upload(self, path: Path) -> dict[str, Any]:
        """Send a file to the server and return what stands for it in events."""
        with path.open("rb") as file:
            answer = self.http.post("/gradio_api/upload", files={"files": (path.name, file)})
        (place,) = answer.raise_for_status().json()
        return {"path": place, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    def call(self, name: str, *data: Any, event: Any = None) -> list[Any]:
        """Do something on the page and return the values of its outputs at the end.

        Raises:
            PageError: the page showed a warning.
        """
        return list(self.stream(name, *data, event=event))[-1]

    def stream(self, name: str, *data: Any, event: Any = None) -> Iterator[list[Any]]:
        """As `call`; yields the values of the outputs whenever some change.

        Args:
            name: of the event.
            data: values of its inputs.
            event: what a browser tells beside them, for clicks.
        """
        from gradio_client.utils import apply_diff

        dependency = self._events[name]
        if dependency["queue"] is False:
            answer = self.http.post("/gradio_api/run/predict", json=self._body(name, data, event))
            if answer.is_error:
                raise PageError(answer.json().get("error") or "the event failed without words")
            yield self._keep(dependency, answer.json()["data"])
            return
        event_id = self._join(name, data, event)
        last: list[Any] | None = None
        for message in self._messages({event_id}):
            output = message.get("output") or {}
            if message["msg"] == "process_generating":
                changed = output["data"]
                last = changed if last is None else [apply_diff(old, new) for old, new in zip(last, changed)]
                yield self._keep(dependency, last)
            elif message["msg"] == "process_completed":
                if not message["success"]:
                    raise PageError(output.get("error") or "the event failed without words")
                if last is None or output.get("data"):
                    last = output["data"]
                yield self._keep(dependency, last)

    def at_once(self, *calls: tuple[str, Sequence[Any], Any]) -> None:
        """Do several things before the first answer comes, each a name, inputs and what happened.

        Only the answer to the last one is kept.

        Raises:
            PageError: one of them ended with a warning.
        """
        names = {self._join(*call): call[0] for call in calls}
        *_, last = names
        for message in self._messages(set(names)):
            if message["msg"] == "process_completed":
                output = message.get("output") or {}
                if not message["success"]:
                    raise PageError(output.get("error") or "the event failed without words")
                if message["event_id"] == last:
                    self._keep(self._events[names[last]], output["data"])

    def fetch(self, file: dict[str, Any]) -> bytes:
        """The content of a file that the page shows."""
        return self.http.get(f"/gradio_api/file={file['path']}").raise_for_status().content

    def close(self) -> None:
        """Close the tab."""
        self.http.close()

    def _body(self, name: str, data: Sequence[Any], event: Any) -> dict[str, Any]:
        return {
            "data": list(data), "event_data": None if event is None else {"value": None, **event},
            "fn_index": self._events[name]["id"], "session_hash": self.session_hash, "trigger_id": None,
        }  # fmt: skip

    def _join(self, name: str, data: Sequence[Any], event: Any) -> str:
        answer = self.http.post("/gradio_api/queue/join", json=self._body(name, data, event))
        return answer.raise_for_status().json()["event_id"]

    def _messages(self, event_ids: set[str]) -> Iterator[dict[str, Any]]:
        """The messages about some events, until all of them have ended."""
        url = f"/gradio_api/queue/data?session_hash={self.session_hash}"
        deadline = time.monotonic() + TIMEOUT_SECONDS
        open_ids = set(event_ids)
        with self.http.stream("GET", url) as answer:
            for line in answer.iter_lines():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no end of the event within {TIMEOUT_SECONDS} s")
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    if message.get("event_id") in event_ids:
                        yield message
                        if message["msg"] == "process_completed":
                            open_ids.discard(message["event_id"])
                    if not open_ids:
                        return

    def _keep(self, dependency: dict[str, Any], values: list[Any]) -> list[Any]:
        for number, value in zip(dependency["outputs"], values):
            if isinstance(value, dict) and value.get("__type__") == "update":
                if "value" not in value:
                    continue
                value = value["value"]
            self.shown[self._ids[number]] = value
        return values
