"""One file over HTTP: what the server says about it, and a transfer that continues where it stopped."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from safe_files.limits import MAX_DOWNLOAD_BYTES
from safe_files.regular import shown
from scenegen.hub.body import Progress, TransferBroken, write_body
from scenegen.hub.digest import file_sha256
from scenegen.hub.releases import HubError

ATTEMPTS = 5
TIMEOUT_S = 30.0
FIRST_PAUSE_S = 1.0

_LINKED_SIZE = "X-Linked-Size"
_DIGITS = 18  # of a size in bytes
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEAD_REFUSED = {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}
_RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Announcement:
    """What a server says about a file before it is fetched.

    Attributes:
        size: bytes; None where the server does not tell.
        etag: changes with the content.
        sha256: digest, which hubs announce for large files.
        commit: revision of the repository that has this content.
    """

    size: int | None = None
    etag: str | None = None
    sha256: str | None = None
    commit: str | None = None


class NotPublished(HubError):
    """The server has no such file."""


def announce(url: str, token: str | None = None, timeout_s: float = TIMEOUT_S) -> Announcement:
    """Ask for the size and identity of a file, through redirections.

    Raises:
        NotPublished: there is none.
        HubError: the server cannot be reached or refuses.
    """
    redirects = _Redirects()
    try:
        with build_opener(redirects).open(_request(url, token, "HEAD"), timeout=timeout_s) as response:
            headers = response.headers
    except HTTPError as error:
        if error.code in _HEAD_REFUSED:
            return Announcement()
        if not 300 <= error.code < 400 or _LINKED_SIZE not in error.headers:
            raise _fault(url, error) from error
        headers = error.headers
    except (OSError, HTTPException, ValueError) as error:  # ValueError: an address that is none
        raise _fault(url, error) from error
    first = redirects.headers or headers
    linked = _unquoted(first.get("X-Linked-Etag"))
    return Announcement(
        size=_length(first.get(_LINKED_SIZE)) or _length(headers.get("Content-Length")),
        etag=linked or _unquoted(headers.get("ETag")),
        sha256=linked if linked and _SHA256.fullmatch(linked) else None,
        commit=first.get("X-Repo-Commit"),
    )


def fetch(
    url: str,
    target: Path,
    announced: Announcement,
    *,
    sha256: str | None = None,
    token: str | None = None,
    max_bytes: int = MAX_DOWNLOAD_BYTES,
    on_progress: Progress | None = None,
    attempts: int = ATTEMPTS,
    pause_s: float = FIRST_PAUSE_S,
    timeout_s: float = TIMEOUT_S,
) -> str:
    """Bring a file to the disk, continuing what an earlier attempt left in a ``.part`` file.

    Args:
        url: the file.
        target: where it goes, under its name only when it is whole.
        announced: see `announce`; a part is continued only while the server's file is still the same.
        sha256: expected digest; None takes the announced one, if any.
        token: sent to the host of ``url``, not to where it redirects.
        max_bytes: what the file may have where its size was not announced.
        on_progress: see `Progress`.
        attempts: connections that may break before giving up.
        pause_s: wait after the first break; doubled after each.
        timeout_s: of a silent connection.

    Returns:
        The digest of the file.

    Raises:
        HubError: the server refuses, the connection keeps breaking or is too slow, the file is another or
            larger than expected, or the disk is nearly full.
        OSError: the disk cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(target, announced)
    highest = max_bytes if announced.size is None else announced.size
    if announced.etag is None and announced.commit is None:
        part.unlink(missing_ok=True)  # nothing tells whether it is the same file
    for attempt in range(1, attempts + 1):
        try:
            _continue(url, part, announced, highest, token, on_progress or (lambda done: None), timeout_s)
            break
        except TransferBroken as error:
            if attempt == attempts:
                done = part.stat().st_size if part.is_file() else 0
                raise HubError(
                    f"{url}: the transfer broke {attempts} times ({error}); run the command again, it "
                    f"continues at {done} bytes"
                ) from error
            logger.info("%s: interrupted (%s), continuing", url, error)
            time.sleep(pause_s * 2 ** (attempt - 1))
    digest = _checked(url, part, sha256 or announced.sha256)
    os.replace(part, target)
    for stale in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        stale.unlink()
    return digest


def part_path(target: Path, announced: Announcement) -> Path:
    """Where an unfinished transfer is kept; another content at the source gets another name."""
    identity = f"{announced.etag or announced.commit} {announced.size}"
    return target.with_name(f".{target.name}.{hashlib.sha256(identity.encode()).hexdigest()[:12]}.part")


def _checked(url: str, part: Path, expected: str | None) -> str:
    """The digest of what was fetched; content that is not as expected is removed."""
    digest = file_sha256(part)
    if expected is not None and digest != expected:
        part.unlink()
        raise HubError(
            f"{url}: expected sha256 {expected[:12]}..., got {digest[:12]}...; the file was changed at its "
            "source or on the way, nothing was kept; try again or another --endpoint"
        )
    return digest


def _continue(
    url: str,
    part: Path,
    announced: Announcement,
    highest: int,
    token: str | None,
    on_progress: Progress,
    timeout_s: float,
) -> None:
    """Append what is missing to a part file; start again where the server sends all or has another size."""
    done = part.stat().st_size if part.is_file() else 0
    if done and done == announced.size:
        return
    if done > highest:
        part.unlink()
        done = 0
    with _open(url, token, part, done, timeout_s) as response:
        continues = response.status == HTTPStatus.PARTIAL_CONTENT and _range_start(response.headers) == done
        expected = _length(response.headers.get("Content-Length"))
        received = write_body(response, part, done if continues else 0, highest, on_progress)
    if expected is not None and received < expected:
        raise TransferBroken(f"got {received} of {expected} bytes")
    size = part.stat().st_size
    if announced.size is not None and size != announced.size:
        part.unlink()
        raise TransferBroken(f"expected {announced.size} bytes, got {size}")


def _open(url: str, token: str | None, part: Path, done: int, timeout_s: float) -> HTTPResponse:
    request = _request(url, token)
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        return build_opener(_Redirects()).open(request, timeout=timeout_s)
    except HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            raise TransferBroken("the server has fewer bytes than were fetched") from error
        if error.code in _RETRIED_STATUS:
            raise TransferBroken(f"status {error.code}") from error
        raise _fault(url, error) from error
    except ValueError as error:  # an address that is none; http.client's InvalidURL is one of these
        raise _fault(url, error) from error
    except (OSError, HTTPException) as error:
        raise TransferBroken(str(error) or type(error).__name__) from error


class _Redirects(HTTPRedirectHandler):
    """Follows redirections with the same method, remembers the first answer, keeps tokens on their host.

    Where a hub describes a file and then redirects to its storage, the description is all that is asked for:
    addresses in the storage may be good for one method only.
    """

    def __init__(self) -> None:
        self.headers: HTTPMessage | None = None

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        self.headers = self.headers or headers
        redirected = super().redirect_request(req, fp, code, msg, headers, newurl)
        if redirected is None or (req.get_method() == "HEAD" and _LINKED_SIZE in headers):
            return None
        redirected.method = req.get_method()
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise HubError(
                f"{req.full_url}: expected a redirection to a web address, and none from https to http, got "
                f"{shown(newurl)}; name another mirror with --endpoint"
            )
        if (new.scheme, new.netloc) != (old.scheme, old.netloc):
            redirected.remove_header("Authorization")
        return redirected


def _request(url: str, token: str | None, method: str = "GET") -> Request:
    headers = {"User-Agent": "scenegen", "Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return Request(url, headers=headers, method=method)


def _fault(url: str, error: Exception) -> HubError:
    """One line for what went wrong between us and a server."""
    if isinstance(error, HTTPError):
        if error.code == HTTPStatus.NOT_FOUND:
            return NotPublished(
                f"{url}: expected a published file, the server has none (404); check the revision"
            )
        if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return HubError(
                f"{url}: the server refuses ({error.code}); accept the terms on the page of the repository, "
                "then set HF_TOKEN to an access token"
            )
        return HubError(
            f"{url}: the server answers {error.code} {' '.join(str(error.reason).split())}; try again later"
        )
    reason = " ".join(str(error.reason if isinstance(error, URLError) else error).split())
    return HubError(
        f"{url}: cannot be reached ({reason}); check the network, or name a mirror with --endpoint"
    )


def _length(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) <= _DIGITS else None


def _range_start(headers: HTTPMessage) -> int | None:
    match = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _unquoted(etag: str | None) -> str | None:
    return etag.removeprefix("W/").strip('"') if etag else None
