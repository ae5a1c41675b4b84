"""The output folder of a run in an object store: brought at its start, delivered with every state."""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import PurePosixPath

from scenegen.stores.synced import SyncedFolder
from scenegen.stores.urls import StoreError
from scenegen.trainers.checkpoints import BEST_FILE, LATEST_FILE
from scenegen.trainers.distributed import World
from scenegen.trainers.loop_config import LoopConfig
from trellis_modules.config import ConfigError

logger = logging.getLogger(__name__)

_WHOLE = re.compile(r"misc_step\d+\.json")  # is written last and makes a state whole


class StoredOutput:
    """What a run writes below its local folder, in a store as well."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Prepare.

        Args:
            options: of training, with ``output_url`` and the local folder as ``output_dir``.

        Raises:
            StoreError: the package for the URL is not installed.
        """
        self._synced = SyncedFolder(options.output_url, options.output_dir, _rank_of)

    def fetch(self) -> None:
        """Bring what an earlier run left in the store; errors as for `SyncedFolder.fetch`."""
        self._synced.fetch()

    def check(self, world: World, loop: LoopConfig, hosts: int) -> None:
        """Refuse what the first process cannot deliver alone.

        Raises:
            ConfigError: networks are spread over processes of several hosts.
        """
        if hosts > 1 and world.size > 1 and loop.parallel == "fsdp2":
            raise ConfigError(
                "--output-dir: expected a folder that all hosts see, as each writes its part with parallel "
                f"fsdp2, got {self._synced.url}; mount one, or use parallel ddp"
            )

    def after_state(self) -> None:
        """Deliver a state that was written; one that cannot be now goes with the next."""
        try:
            self._synced.deliver()
        except StoreError as error:
            logger.warning("%s; the state stays on the disk and is delivered with the next one", error)

    def deliver(self) -> None:
        """Deliver all that is not there yet.

        Raises:
            StoreError: the store cannot be written to.
        """
        try:
            self._synced.deliver()
        except StoreError as error:
            raise StoreError(f"{error}; all is in {self._synced.folder}: run the command again") from error


def _rank_of(name: str) -> int:
    """When a file is delivered: what makes a state whole after its other files, and then what names it."""
    last = PurePosixPath(name).name
    return 2 if last in (LATEST_FILE, BEST_FILE) else 1 if _WHOLE.fullmatch(last) else 0
