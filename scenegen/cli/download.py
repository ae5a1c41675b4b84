"""Fetch published weights into checkpoints/: SceneGen, VGGT-1B, DINOv2, SAM 2, TRELLIS.

    scenegen download --dry-run                        # what there is and what it needs, without network
    scenegen download --only scenegen vggt dinov2      # all that inference needs

A download that broke continues where it stopped. Where scenegen/hub/releases.json has no digest for a file,
its first download is trusted and recorded in checkpoints/downloads.lock.json; later ones must give the same.

Exit status: 0 everything is there, 1 something could not be had, 2 nothing was started.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from scenegen.cli.parser import CommandParser
from scenegen.hub.catalogue import ListedFile, free_space, list_files
from scenegen.hub.conversion import convert, find_network
from scenegen.hub.downloads import Download, Source, check_space, choose, get, plan_release
from scenegen.hub.lock import LOCK_FILE, LockEntry, load_lock, update_manifest
from scenegen.hub.releases import (
    DEFAULT_ENDPOINT,
    RELEASES_FILE,
    HubError,
    Release,
    load_releases,
    size_text,
)

logger = logging.getLogger("download")


def parse_arguments(arguments: Sequence[str] | None, prog: str | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__, prog)
    parser.add_argument("--output", type=Path, default=Path("checkpoints"), help="folder (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="NAME", help="some of scenegen, vggt, dinov2, ..."
    )
    parser.add_argument(
        "--endpoint",
        default=os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT),
        help="the hub or a mirror of it (%(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list names, sizes and sources, ask nobody")
    parser.add_argument("--no-convert", action="store_true", help="leave pickles as they are")
    parser.add_argument("--manifest", type=Path, default=RELEASES_FILE, help="list of what is published")
    parser.add_argument(
        "--update-manifest", action="store_true", help="write revisions and digests into the manifest"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(arguments, prog)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        source = Source(options.output, options.endpoint, os.environ.get("HF_TOKEN"))
        releases = choose(load_releases(options.manifest), options.only)
        lock = load_lock(options.output)
        if options.dry_run:
            list_offline(list(list_files(releases, lock, source.output, source.endpoint)), source.output)
            return 0
        downloads, faults = plan(releases, lock, source)
        space = check_space(downloads, options.output)
    except HubError as error:
        logger.error("%s", error)
        return 2
    if downloads:
        report(downloads, *space)
        faults += fetch_all(downloads, releases, lock, source, with_conversion=not options.no_convert)
        if options.update_manifest:
            update_manifest(options.manifest, {name: lock[name] for name in releases if name in lock})
    return 1 if faults else 0


def list_offline(files: list[ListedFile], output: Path) -> None:
    """Print what is known of every file without asking anybody."""
    for item in files:
        about = "" if item.is_exact else "about "
        size = "size unknown" if item.size is None else f"{about}{size_text(item.size)}"
        networks = " and the networks that it names" if item.with_networks else ""
        state = "there" if item.is_there else "to fetch"
        print(f"{item.release:12} {item.target}{networks}  {size}, {state}, from {item.url}")
    needed = sum(item.size or 0 for item in files if not item.is_there)
    print(f"needed: about {size_text(needed)}, free: {size_text(free_space(output))}")


def plan(
    releases: dict[str, Release], lock: dict[str, LockEntry], source: Source
) -> tuple[list[Download], int]:
    """Ask for every release, and note its revision in the lock.

    Returns:
        The files of all releases that answered, and the number of those that did not.
    """
    downloads, faults = [], 0
    for name, release in releases.items():
        try:
            found, lock[name] = plan_release(name, release, lock.get(name, LockEntry()), source)
        except HubError as error:
            logger.error("%s: %s", name, error)
            faults += 1
        else:
            downloads += found
    return downloads, faults


def report(downloads: list[Download], needed: int, free: int) -> None:
    """Print every file, and the space."""
    for item in downloads:
        size = "size unknown" if item.expected is None else size_text(item.expected)
        if item.expected is not None and item.size is None:
            size = f"about {size}"
        state = "there" if item.is_complete else "to fetch"
        digest = "" if item.known.sha256 else ", digest not known yet: trusted and recorded"
        print(f"{item.release:12} {item.target}  {size}, {state}{digest if not item.is_complete else ''}")
    print(f"needed: {size_text(needed)}, free: {size_text(free)}")


def fetch_all(
    downloads: list[Download],
    releases: dict[str, Release],
    lock: dict[str, LockEntry],
    source: Source,
    with_conversion: bool,
) -> int:
    """Have every file, each under a progress bar; a fault does not stop the others.

    Returns:
        The number of files that could not be had.
    """
    faults = 0
    for item in downloads:
        with (
            logging_redirect_tqdm(),
            tqdm(
                desc=item.name,
                total=item.size,
                unit="B",
                unit_scale=True,
                leave=False,
                disable=True if item.is_complete else None,
            ) as bar,
        ):
            try:
                get(
                    item,
                    lock,
                    source.token_for(releases[item.release]),
                    source.output,
                    partial(show, bar),
                    convert_download if with_conversion else None,
                )
            except (HubError, OSError) as error:
                logger.error("%s", error)
                faults += 1
    print(f"{len(downloads) - faults} of {len(downloads)} files in {source.output}, recorded in {LOCK_FILE}")
    return faults


def show(bar: tqdm, done: int) -> None:
    """Move a bar to the bytes that are there."""
    bar.update(done - bar.n)


def convert_download(item: Download) -> None:
    """Turn a pickle into safetensors beside it, checked against the network that it should be."""
    like = find_network(item.known.network) if item.known.network else None
    convert(item.target, item.converted, like=like)
