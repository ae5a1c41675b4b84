"""Writing results into a folder in which a person may have changed those of an earlier run."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safe_files.json_reader import read_json

logger = logging.getLogger(__name__)

DIGESTS_FILE = "files.json"


@contextmanager
def results_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write to, and move its files into ``folder`` after the ``with`` block.

    ``files.json`` notes the sha256 of each. A file in the way that is not as noted there, because a person
    changed or made it, is renamed to ``<name>.bak``; all others in the folder stay. A block that fails leaves
    the folder as it was.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as temporary:
        yield Path(temporary)
        written = sorted(path for path in Path(temporary).rglob("*") if path.is_file())
        noted = _read_digests(folder)
        for path in written:
            name = path.relative_to(temporary).as_posix()
            target = folder / name
            if target.exists() and noted.get(name) != _digest(target):
                _keep(target)
            noted[name] = _digest(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
        text = json.dumps({"sha256": noted}, indent=1, sort_keys=True) + "\n"
        (folder / DIGESTS_FILE).write_text(text, encoding="utf-8")


def _read_digests(folder: Path) -> dict[str, str]:
    try:
        noted = read_json(folder / DIGESTS_FILE)["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _keep(path: Path) -> None:
    kept, number = path.with_name(f"{path.name}.bak"), 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.bak{number}")
    os.replace(path, kept)
    logger.warning("%s: not as an earlier run wrote it; kept as %s", path, kept.name)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
