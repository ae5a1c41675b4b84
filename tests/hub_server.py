"""A hub on this machine: repositories of small files over HTTP, with the faults that networks have."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_ENDLESS = 1 << 30  # bytes after which a test would fail anyway
_SLOW_S = 0.05
_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass
class Hub:
    """What the server has and how it misbehaves.

    Attributes:
        files: "owner/name/path" -> content; paths that start with "plain/" are served without a repository.
        large: files that are redirected to another path, with their digest announced, as hubs do.
        breaks: file -> bytes after which the connection is closed, once for each number.
        statuses: file -> status instead of the content.
        without_length, without_range, without_etag: files that are sent without it.
        redirects: file -> address that is given instead.
        announced_sizes: file -> size that a HEAD request is told.
        endless: files whose body goes on until the client closes the connection.
        slow: files whose body comes byte by byte.
        requests: (method, path, Range header) of every request.
        tokens: Authorization headers, with the path that got them.
        uploads: file -> content, of the last commit.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    breaks: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    without_length: set[str] = field(default_factory=set)
    without_range: set[str] = field(default_factory=set)
    without_etag: set[str] = field(default_factory=set)
    redirects: dict[str, str] = field(default_factory=dict)
    announced_sizes: dict[str, int] = field(default_factory=dict)
    endless: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    tokens: list[tuple[str, str]] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    endpoint: str = ""

    def gets(self, file: str) -> list[str | None]:
        """Range headers of the GET requests for a file, in order."""
        return [given for method, path, given in self.requests if method == "GET" and path.endswith(file)]

    @contextmanager
    def serve(self) -> Iterator[Hub]:
        """Answer on a free port for the length of a ``with`` block."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        """Keep test output clean."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self._body()
        path = urlsplit(self.path).path
        self._note()
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self._json({"url": f"{self.hub.endpoint}/{name}", "name": name})
        elif path == "/api/validate-yaml":  # of a README's header
            self._json({})
        elif "/preupload/" in path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif "/commit/" in path:
            lines = [json.loads(line) for line in body.splitlines() if line]
            self.hub.uploads = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            repo = "/".join(path.split("/")[3:5])
            self._json({"commitUrl": f"{self.hub.endpoint}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self._status(404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _note(self) -> None:
        self.hub.requests.append((self.command, self.path, self.headers.get("Range")))
        if token := self.headers.get("Authorization"):
            self.hub.tokens.append((self.path, token))

    def _answer(self) -> None:
        self._note()
        path = urlsplit(self.path).path
        if match := _RESOLVE.fullmatch(unquote(path)):
            self._resolve(match["repo"], match["revision"], match["file"])
        elif path.startswith("/storage/") and self.command == "HEAD":
            self._status(403)  # addresses in the storage are signed for GET
        elif path.startswith("/storage/"):
            self._send(path.removeprefix("/storage/"), {})
        elif path.startswith("/plain/"):
            self._send(path.removeprefix("/"), {})
        elif path.startswith("/api/models/"):
            repo = "/".join(path.split("/")[3:5])
            names = [name.removeprefix(repo + "/") for name in self.hub.files if name.startswith(repo + "/")]
            self._json({"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]})
        else:
            self._status(404)

    def _resolve(self, repo: str, revision: str, file: str) -> None:
        name = f"{repo}/{file}"
        headers = {"X-Repo-Commit": COMMIT}
        if not any(known.startswith(repo + "/") for known in self.hub.files):
            self._status(404, {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", COMMIT):
            self._status(404, {"X-Error-Code": "RevisionNotFound"})
        elif name in self.hub.statuses:
            self._status(self.hub.statuses[name])
        elif name not in self.hub.files:
            self._status(404, {"X-Error-Code": "EntryNotFound", **headers})
        elif name in self.hub.large:
            content = self.hub.files[name]
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(content))
            # localhost is another host than 127.0.0.1, as storage is another than the hub
            storage = self.hub.endpoint.replace("127.0.0.1", "localhost")
            self._status(302, {**headers, "Location": f"{storage}/storage/{name}"})
        else:
            self._send(name, headers)

    def _send(self, name: str, headers: dict[str, str]) -> None:
        content = self.hub.files.get(name)
        if content is None or name in self.hub.statuses:
            self._status(self.hub.statuses.get(name, 404))
            return
        if name in self.hub.redirects:
            self._status(302, {"Location": self.hub.redirects[name]})
            return
        if name in self.hub.endless and self.command == "GET":
            self._send_for_ever(content)
            return
        if name not in self.hub.without_etag:
            headers = {**headers, "ETag": f'"{hashlib.md5(content).hexdigest()}"'}
        else:
            headers = {key: value for key, value in headers.items() if key != "X-Repo-Commit"}
        start, status = 0, 200
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and name not in self.hub.without_range:
            start, status = int(match[1]), 206
            if start >= len(content):
                self._status(416)
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if name in self.hub.without_length:
            headers["Connection"] = "close"
        else:
            length = len(body)
            if self.command == "HEAD":
                length = self.hub.announced_sizes.get(name, length)
            headers["Content-Length"] = str(length)
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            breaks = self.hub.breaks.get(name)
            if name in self.hub.slow:
                self._send_slowly(body)
            else:
                self.wfile.write(body[: breaks.pop(0)] if breaks else body)
            if breaks is not None or name in self.hub.without_length:
                self.close_connection = True

    def _send_for_ever(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            for _ in range(_ENDLESS // len(content)):
                self.wfile.write(content)

    def _send_slowly(self, body: bytes) -> None:
        with suppress(OSError):
            for index in range(len(body)):
                self.wfile.write(body[index : index + 1])
                time.sleep(_SLOW_S)

    def _status(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
