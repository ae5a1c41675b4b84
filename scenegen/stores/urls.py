"""URLs of object stores: which are known, and what they must not contain."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "file": "fsspec", "memory": "fsspec"}
"""Scheme -> package that reads it."""

_SECRETS = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|CONNECTION_STRING|SAS", re.IGNORECASE)
_SHORTEST = 8  # characters of a secret; shorter values of such variables are no credentials


class StoreError(RuntimeError):
    """A store that cannot be used; the message says why in one line, without credentials."""


def is_url(text: object) -> bool:
    """Whether this names a place in a store rather than a path."""
    return "://" in str(text)


@dataclass(frozen=True)
class StoreUrl:
    """A folder in an object store.

    Attributes:
        text: the URL, without a slash at its end.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Check a URL.

        Raises:
            StoreError: its scheme is unknown, its bucket is missing, or it holds credentials.
        """
        parts = urlsplit(text)
        if parts.scheme not in PACKAGES:
            known = ", ".join(f"{scheme}://" for scheme in PACKAGES)
            raise StoreError(
                f"{parts.scheme}://: expected one of {known}, got another scheme; correct the URL"
            )
        if parts.username is not None or parts.query:
            raise StoreError(
                f"{parts.scheme}://...: expected a URL without credentials, got some in it; give them in the "
                "ways of the store's own library, such as its environment variables"
            )
        if parts.scheme not in ("file", "memory") and not parts.netloc:
            raise StoreError(f"{text}: expected the name of a bucket after {parts.scheme}://, got none")
        return cls(text.rstrip("/"))

    @property
    def scheme(self) -> str:
        """Such as "s3"."""
        return self.text.partition("://")[0]

    @property
    def mirror(self) -> Path:
        """The local folder for files of this one, the same in every process of a machine."""
        base = os.environ.get("SCENEGEN_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:16]
        return Path(base) / "scenegen" / "stores" / digest / self.text.rpartition("/")[2]

    def __truediv__(self, name: str) -> StoreUrl:
        return StoreUrl(f"{self.text}/{name}")

    def __str__(self) -> str:
        return self.text


def place(text: str) -> Path | StoreUrl:
    """A path, or a place in a store.

    Raises:
        StoreError: see `StoreUrl.parse`.
    """
    return StoreUrl.parse(text) if is_url(text) else Path(text)


def without_secrets(text: str) -> str:
    """One line of at most 300 characters, without values of environment variables that hold credentials."""
    for name, value in os.environ.items():
        if _SECRETS.search(name) and len(value) >= _SHORTEST:
            text = text.replace(value, "...")
    return " ".join(text.split())[:300]
