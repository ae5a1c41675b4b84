"""Good inputs for a test to spoil, and the one line that must come of it."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from scenegen.evaluation.loading import EvaluationError, load_poses
from scenegen.hub import HubError, resolve_checkpoint
from scenegen.hub.conversion import convert
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_folder import read_scene
from scenegen.pipelines.pipeline import SceneGenPipeline
from tests.glb_files import glb_bytes, triangle_document
from tests.hub_server import Hub
from trellis_modules.checkpoint import CheckpointError

SECONDS, MEGABYTES = 20.0, 400
"""What a refusal may take, on a machine that is busy."""


class CommandFault(Exception):
    """A command that ended with status 2; the message is the last line it wrote."""


@dataclass
class Inputs:
    """Good inputs for a case to spoil, and the ways in.

    Attributes:
        root: empty folder.
        checkpoint: toy checkpoint.
        scene: scene folder with two objects.
        hub: server with the checkpoint as ``owner/toy``.
        run: command (module with ``main``) and arguments -> raises `CommandFault`.
    """

    root: Path
    checkpoint: Path
    scene: Path
    hub: Hub
    run: Callable[..., None]

    def describe(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the args of ``pipeline.json``, and load the checkpoint."""
        path = self.checkpoint / "pipeline.json"
        raw = json.loads(path.read_text())
        change(raw["args"])
        path.write_text(json.dumps(raw))
        self.load()

    def describe_as(self, text: str) -> None:
        """Replace ``pipeline.json``, and load the checkpoint."""
        (self.checkpoint / "pipeline.json").write_text(text)
        self.load()

    def load(self) -> None:
        """Load the checkpoint."""
        SceneGenPipeline.from_pretrained(self.checkpoint)

    def describe_without_digests(self) -> None:
        """Let files be replaced without a word about their digests."""
        path = self.checkpoint / "pipeline.json"
        raw = json.loads(path.read_text())
        raw["args"]["sha256"] = {}
        path.write_text(json.dumps(raw))

    def pipe(self, path: Path) -> Path:
        """Put a named pipe in the place of a file."""
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        return path

    def network(self, change: Callable[[dict[str, Any]], Any], stem: str = "flow") -> None:
        """Change a network's description, and load the checkpoint."""
        path = self.checkpoint / "ckpts" / f"{stem}.json"
        raw = json.loads(path.read_text())
        change(raw)
        path.write_text(json.dumps(raw))
        self.load()

    def weights(self, content: bytes, suffix: str) -> None:
        """Replace the flow's weights by a file of another kind, and load the checkpoint."""
        (self.checkpoint / "ckpts" / "flow.safetensors").unlink()
        (self.checkpoint / "ckpts" / f"flow{suffix}").write_bytes(content)
        self.load()

    def poses(self, value: Any) -> None:
        """Read a pose file."""
        path = self.root / "poses.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        load_poses(path)

    def glb(
        self,
        change: Callable[[dict[str, Any]], Any],
        binary: Callable[[bytes], bytes] = bytes,
        cut: int = 0,
    ) -> Path:
        """Write a scene of one triangle, its JSON and buffer changed, without its last ``cut`` bytes."""
        document, content = triangle_document()
        change(document)
        path = self.root / "scene.glb"
        whole = glb_bytes(document, binary(content))
        path.write_bytes(whole[: len(whole) - cut])
        return path

    def pickle(self, content: Any, **keywords: Any) -> None:
        """Convert a pickle."""
        torch.save(content, self.root / "net.pt")
        convert(self.root / "net.pt", **keywords)

    def image(self, name: str, image: Image.Image | bytes) -> None:
        """Replace a file of the scene, and read it."""
        if isinstance(image, bytes):
            (self.scene / name).write_bytes(image)
        else:
            image.save(self.scene / name)
        read_scene(self.scene, ReadOptions(strict=True))

    def labels(self, image: Image.Image | bytes) -> None:
        """Make a label image the only description of the objects, and read the scene."""
        for path in self.scene.glob("[0-9]*.png"):
            path.unlink()
        self.image("labels.png", image)

    def fetch(self, name: str, revision: str | None = None, change: Mapping[str, bytes | None] | None = None):
        """Resolve a repository, after a change of its files (None removes)."""
        pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra hub)")
        for file, content in (change or {}).items():
            if content is None:
                del self.hub.files[file]
            else:
                self.hub.files[file] = content
        resolve_checkpoint(name, revision, self.root / "cache", endpoint=self.hub.endpoint)


@dataclass(frozen=True)
class Case:
    """What is done with good inputs, and what the one line must say."""

    spoil: Callable[[Inputs], Any]
    says: str
    error: type[Exception]


def assert_one_line(case: Case, inputs: Inputs) -> None:
    """Spoil the inputs: the fault is told in one line, soon, and without much memory."""
    with frugal(), pytest.raises(case.error) as error:
        case.spoil(inputs)
    message = str(error.value)
    assert case.says in message and "\n" not in message


@contextmanager
def frugal() -> Iterator[None]:
    """Check what a ``with`` block takes: it may not wait, nor may the peak of the process rise by much."""

    def give_up(*_: object) -> None:
        raise AssertionError(f"waited for more than {SECONDS} s")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, kept)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES


def checkpoint_case(says: str, spoil: Callable[[Inputs], Any]) -> Case:
    """Of a checkpoint."""
    return Case(spoil, says, CheckpointError)


def description_case(says: str, change: Callable[[dict[str, Any]], Any]) -> Case:
    """Of the args of ``pipeline.json``."""
    return checkpoint_case(says, lambda i: i.describe(change))


def hub_case(says: str, spoil: Callable[[Inputs], Any]) -> Case:
    """Of what is fetched or converted."""
    return Case(spoil, says, HubError)


def scene_case(says: str, spoil: Callable[[Inputs], Any]) -> Case:
    """Of photos and masks."""
    return Case(spoil, says, SceneInputError)


def evaluation_case(says: str, spoil: Callable[[Inputs], Any]) -> Case:
    """Of what is evaluated."""
    return Case(spoil, says, EvaluationError)


def command_case(says: str, spoil: Callable[[Inputs], Any]) -> Case:
    """Of a command line."""
    return Case(spoil, says, CommandFault)
