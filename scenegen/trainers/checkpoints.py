"""Saved states of a run as files: written whole or not at all, checked when they are read, the last kept.

A state of step 10 is, in the folder ``ckpts`` of a run::

    <network>_step0000010.safetensors, .json              a network as it is trained
    <network>_ema0.999_step0000010.safetensors, .json     its average
    shards_step0000010/                                   instead of both: networks spread over processes
    misc_step0000010.safetensors                          moments of the optimiser and the like
    misc_step0000010.json                                 numbers, and the digests of all files; written last

``latest.json`` names the state that was written last, ``best.json`` that of the best validation.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from safe_files.json_reader import read_json
from safe_files.regular import UnreadableFile, shown
from safe_files.weights import read_weights
from scenegen.hub.digest import file_sha256
from trellis_modules.checkpoint import WEIGHTS_SUFFIX, CheckpointError, write_state
from trellis_modules.config import NamedConfig
from trellis_modules.files import atomic_write, atomic_write_text

logger = logging.getLogger(__name__)

CHECKPOINTS = "ckpts"
LATEST_FILE, BEST_FILE = "latest.json", "best.json"
FORMAT = "scenegen-training-state-2"

_MISC = "misc"
_STEP = re.compile(r"_step(\d{7,})(\.safetensors|\.json)?$")
_UNFINISHED = ".*.part"  # what a kill leaves of a file, see `atomic_write`
_OLDER_STATE = "state.safetensors"  # of the first version of the loop
_REMEDY = "choose another --output_dir, or --ckpt none to start anew"


class StateError(CheckpointError):
    """A saved state that training cannot go on from; the message is one line that names the file."""


@dataclass(frozen=True)
class NetworkFile:
    """What is written of a network: its tensors, and how it is built, where that is known."""

    tensors: Mapping[str, Tensor]
    config: NamedConfig | None = None


@dataclass(frozen=True)
class SavedState:
    """A state as it is read.

    Attributes:
        path: of the file that was written last.
        step: optimiser steps that are done.
        notes: numbers and settings.
        tensors: those that belong to no network.
        networks: tensors of each network and average, by the names of their files without the step.
        shards: folder of what was spread over processes; None where nothing was.
    """

    path: Path
    step: int
    notes: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    networks: Mapping[str, Mapping[str, Tensor]]
    shards: Path | None = None


def step_name(step: int) -> str:
    """How file names say a step."""
    return f"step{step:07d}"


class StateStore:
    """The saved states of a run in its folder ``ckpts``. One process writes; any may read."""

    def __init__(self, folder: Path, keep_last: int | None = None) -> None:
        """Take a folder, which is made when something is written.

        Args:
            folder: ``ckpts`` of a run.
            keep_last: states that are kept, beside the best; None keeps all.
        """
        self.folder, self._keep_last = folder, keep_last

    def shards(self, step: int) -> Path:
        """Folder of what is spread over processes in the state of a step."""
        return self.folder / f"shards_{step_name(step)}"

    def _path(self, stem: str, step: int, suffix: str) -> Path:
        return self.folder / f"{stem}_{step_name(step)}{suffix}"

    # ---- writing

    def write(
        self,
        step: int,
        networks: Mapping[str, NetworkFile],
        tensors: Mapping[str, Tensor],
        notes: Mapping[str, Any],
    ) -> None:
        """Write the state of a step and name it the latest; older ones than the last few are removed.

        A state that could not be written whole leaves nothing behind, and the ones before it as they are.

        Args:
            step: optimiser steps that are done.
            networks: by name.
            tensors: what belongs to no network.
            notes: JSON types.

        Raises:
            OSError: the disk refuses.
        """
        last = self._path(_MISC, step, ".json")
        last.unlink(missing_ok=True)
        for left in self.folder.glob(_UNFINISHED):
            left.unlink(missing_ok=True)
        try:
            for name, network in networks.items():
                _write_tensors(network.tensors, self._path(name, step, WEIGHTS_SUFFIX))
                if network.config is not None:
                    description = {"name": network.config.name, "args": network.config.args}
                    atomic_write_text(
                        self._path(name, step, ".json"), json.dumps(description, indent=2) + "\n"
                    )
            _write_tensors(tensors, self._path(_MISC, step, WEIGHTS_SUFFIX))
            digests = {
                path.relative_to(self.folder).as_posix(): file_sha256(path)
                for path in self._files(step)
                if path.suffix == WEIGHTS_SUFFIX
            }
            content = {"format": FORMAT, "step": step, "sha256": digests, "notes": notes}
            atomic_write_text(last, json.dumps(content, indent=1, allow_nan=False) + "\n")
            self.point_to(step)
        except OSError:
            self.remove(step)
            raise
        self._prune(step)

    def point_to(self, step: int) -> None:
        """Name a state the latest."""
        atomic_write_text(self.folder / LATEST_FILE, json.dumps({"step": step}) + "\n")

    def mark_best(self, step: int, value: float) -> None:
        """Remember a saved state as the best, so that it is kept; the best one before may go.

        Args:
            step: of the state, the one that was written last.
            value: what was measured; lower is better.
        """
        atomic_write_text(self.folder / BEST_FILE, json.dumps({"step": step, "validation": value}) + "\n")
        self._prune(step)

    def best(self) -> tuple[int, float] | None:
        """Step and measured value of the best state; None where none is known."""
        try:
            content = read_json(self.folder / BEST_FILE)
            return int(content["step"]), float(content["validation"])
        except (OSError, UnreadableFile, LookupError, TypeError, ValueError):
            return None

    def remove(self, step: int) -> None:
        """Remove what there is of the state of a step, what makes it whole first."""
        self._path(_MISC, step, ".json").unlink(missing_ok=True)
        for path in self._files(step):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.shards(step), ignore_errors=True)

    def _files(self, step: int) -> list[Path]:
        name = step_name(step)
        found = [*self.folder.glob(f"*_{name}.*"), *self.shards(step).glob("*")]
        return sorted(path for path in found if path.is_file() and not path.name.startswith("."))

    def _prune(self, step: int) -> None:
        if self._keep_last is None:
            return
        best = self.best()
        older = [other for other in self.steps() if other <= step]
        for other in older[self._keep_last :]:
            if best is None or other != best[0]:
                self.remove(other)

    # ---- reading

    def steps(self) -> list[int]:
        """Steps of the states that were written to the end, the largest first."""
        found = (_STEP.search(path.name) for path in self.folder.glob(f"{_MISC}_step*.json"))
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def candidates(self) -> list[int]:
        """Steps to go on from, the one to try first first: the latest, then those before it."""
        steps = self.steps()
        try:
            latest = read_json(self.folder / LATEST_FILE)["step"]
        except (OSError, UnreadableFile, LookupError, TypeError):
            return steps
        return [step for step in steps if step <= latest] if latest in steps else steps

    def read(self, step: int, verify: bool = True) -> SavedState:
        """The state of a step.

        Args:
            step: of a saved state.
            verify: compare the digests of all files; False: another process just did.

        Raises:
            StateError: a file is missing or damaged, or it is of another version.
        """
        path = self._path(_MISC, step, ".json")
        if not path.exists():
            known = ", ".join(map(str, reversed(self.steps()))) or "none"
            raise StateError(f"{path}: expected the saved state of step {step}, found none; saved: {known}")
        try:
            content = read_json(path)
            if content["format"] != FORMAT or content["step"] != step:
                raise UnreadableFile(f"expected {FORMAT} of step {step}, got {shown(content['format'])}")
            digests, notes = dict(content["sha256"]), dict(content["notes"])
            for name, digest in digests.items():
                if verify and file_sha256(self._inside(name)) != digest:
                    raise UnreadableFile(f"{name} has changed since it was written")
            ending = f"_{step_name(step)}{WEIGHTS_SUFFIX}"
            files = {name.removesuffix(ending): name for name in digests if name.endswith(ending)}
            tensors = {stem: read_weights(self._inside(name)) for stem, name in files.items()}
            misc = tensors.pop(_MISC)
        except (OSError, UnreadableFile, LookupError, TypeError, ValueError, AttributeError) as error:
            raise StateError(
                f"{path}: expected the state of an earlier run, got another or a damaged file "
                f"({_told(error)}); choose an earlier one with --ckpt STEP, or --ckpt none to start anew"
            ) from error
        shards = self.shards(step)
        return SavedState(path, step, notes, misc, tensors, shards if shards.is_dir() else None)

    def _inside(self, name: str) -> Path:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UnreadableFile(f"expected files of this folder, got {shown(name)}")
        return self.folder / name

    def read_latest(self) -> SavedState | None:
        """The latest state that is whole; None where none was ever saved.

        Raises:
            StateError: there are states, and none of them is whole, or they are of an earlier version.
        """
        errors = []
        for step in self.candidates():
            try:
                state = self.read(step)
            except StateError as error:
                errors.append(error)
                logger.warning("%s", error)
                continue
            if errors:
                logger.warning("the state before it is taken: step %d", step)
            return state
        if errors:
            raise errors[0]
        self._refuse_others()
        return None

    def _refuse_others(self) -> None:
        """States that are not read, where they are all there is."""
        older = self.folder.parent / _OLDER_STATE
        pickles = [*self.folder.glob(f"{_MISC}_step*.pt"), *self.folder.parent.glob("state.pt")]
        if pickles:
            raise StateError(
                f"{pickles[0]}: expected a state of safetensors and JSON, got a pickle, which can run code "
                "when it is opened and is not read; convert the networks beside it with "
                f"scripts/convert_checkpoint.py and name them in trainer.finetune_ckpt, and {_REMEDY}"
            )
        if older.exists():
            raise StateError(
                f"{older}: expected states in {CHECKPOINTS}/, got one of an earlier version; {_REMEDY}"
            )


def _write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    with atomic_write(path) as temporary:
        write_state(_independent(tensors), temporary)


def _independent(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU that share no memory, as safetensors needs them."""
    seen: set[int] = set()
    stored = {}
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        if value.untyped_storage().data_ptr() in seen:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        stored[name] = value
    return stored


def _told(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
