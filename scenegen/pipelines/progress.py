"""How far a run has come, told to the caller, and how the caller stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

Stage = Literal["condition", "structure", "latents", "meshes", "textures", "files"]
"""The stages of a scene in order of work; a scene without appearance has no latents and no textures."""


class Cancelled(RuntimeError):
    """The caller stopped a run; nothing of it was written."""


@dataclass(frozen=True)
class Progress:
    """A stage of which ``done`` of ``total`` parts are finished.

    Attributes:
        stage: what is being done.
        done: parts that are finished; 0 when the stage begins.
        total: photos of "condition", steps of "structure" and "latents", objects of "meshes", three pieces an
            object (cleaned, unwrapped, coloured) of "textures", formats of "files".
    """

    stage: Stage
    done: int
    total: int


OnProgress = Callable[[Progress], Any]
"""Called whenever a part of a stage is finished."""

ShouldStop = Callable[[], bool]
"""Asked between the parts of a stage and the layers of a network; true ends the run with `Cancelled`."""


@dataclass(frozen=True)
class ProgressReporter:
    """What the stages report to.

    Attributes:
        on_progress: the caller's function; None is silent.
        should_stop: the caller's wish to stop; None never stops.
    """

    on_progress: OnProgress | None = None
    should_stop: ShouldStop | None = None

    def report(self, stage: Stage, done: int, total: int) -> None:
        """Tell the caller, who may end the run here.

        Raises:
            Cancelled: the caller wants to stop.
        """
        if self.on_progress is not None:
            self.on_progress(Progress(stage, done, total))
        self.check()

    def check(self) -> None:
        """End the run if the caller wants that.

        Raises:
            Cancelled: the caller wants to stop.
        """
        if self.should_stop is not None and self.should_stop():
            raise Cancelled("the run was stopped")

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """Ask the caller also before each module of a network runs, for the length of a ``with`` block.

        One step of a large network may take minutes on a CPU. Its numbers do not change, and other threads
        that use the network meanwhile are not stopped.

        Raises:
            Cancelled: in the ``with`` block, the caller wants to stop.
        """
        owner = threading.get_ident()

        def ask(*_: Any) -> None:
            if threading.get_ident() == owner:
                self.check()

        with ExitStack() as hooks:
            for module in network.modules() if self.should_stop is not None else ():
                hooks.callback(module.register_forward_pre_hook(ask).remove)
            yield

    def counter(self, stage: Stage, total: int) -> Callable[[], None]:
        """Begin a stage of ``total`` parts; returns what is called after each of them."""
        done = 0
        self.report(stage, done, total)

        def advance() -> None:
            nonlocal done
            done += 1
            self.report(stage, done, total)

        return advance
