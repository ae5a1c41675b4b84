"""Options that take a path or the URL of an object store."""

from __future__ import annotations

import argparse
from pathlib import Path

from scenegen.stores.kept import kept_copy
from scenegen.stores.urls import StoreError, StoreUrl, is_url, place


def path_or_url(text: str) -> Path | StoreUrl:
    """A type of arguments: a path, or a place in an object store."""
    try:
        return place(text)
    except StoreError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def use_mirror(options: argparse.Namespace, name: str) -> StoreUrl | None:
    """Put the local folder for a URL in the place of the URL.

    Returns:
        The URL; None where the option is a path.
    """
    value = getattr(options, name)
    if not isinstance(value, StoreUrl):
        return None
    setattr(options, name, value.mirror)
    return value


def use_mirrors(options: argparse.Namespace) -> None:
    """Enter the URLs of inputs, results and checkpoint, or None for paths, and use local folders for them.

    A checkpoint is brought here: what it holds decides over finished scenes.

    Raises:
        StoreError: it cannot be had, or results in a store are to be shown.
    """
    options.input_url, options.output_url = (use_mirror(options, name) for name in ("input", "output"))
    if options.output_url is not None and getattr(options, "viewer", False):
        raise StoreError("--viewer: shows scenes on the disk; leave it out where --output is a URL")
    checkpoint = getattr(options, "checkpoint", None)
    options.checkpoint_url = StoreUrl.parse(checkpoint) if is_url(checkpoint) else None
    if options.checkpoint_url is not None:
        options.checkpoint = str(kept_copy(options.checkpoint_url))
