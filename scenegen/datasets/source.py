"""What a batch source is, and how sources are asked for by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from scenegen.datasets.batch import Batch

B_co = TypeVar("B_co", bound=Batch, covariant=True)


class BatchSource(Protocol[B_co]):
    """Batches as a function of the step: a resumed run sees what an uninterrupted one would have seen.

    A step of training consists of one or more slots, each a batch of its own: processes and the passes over
    which gradients are accumulated share them out, so that what a step learns from does not depend on how
    many processes there are.
    """

    def batch(self, step: int, slot: int = 0, slots: int = 1) -> B_co:
        """The batch of a slot, on the device of the source.

        Args:
            step: 0 or more.
            slot: 0 to ``slots`` - 1.
            slots: batches of every step: processes times accumulated passes.
        """
        ...


def batch_number(step: int, slot: int, slots: int) -> int:
    """Place of a batch among all of a run: what is random in it comes from this number alone."""
    return step * slots + slot


@dataclass(frozen=True)
class SourceOptions:
    """What a run chooses for its source: files, processes and the device, and what a step consists of."""

    device: torch.device
    packs: tuple[Path, ...] = ()  # mesh packs of the train split
    latent_encoder: Path | None = None  # checkpoint stem of the encoder that makes latents
    workers: int = 0  # processes that compose scenes, or read samples, ahead
    data_dirs: tuple[Path, ...] = ()  # roots of prepared data sets
    batch_size: int | None = None  # samples of a slot; of scenes: the most objects that one may have
    slots: int = 1  # batches of every step, see `BatchSource`
    validation: bool = False  # the samples that are held out, rather than those to learn from
    validation_packs: tuple[Path, ...] = ()  # mesh packs that samples are held out in
    structure_decoder: Path | None = None  # checkpoint stem of what decodes structures that are measured


@dataclass(frozen=True)
class SourceKind:
    """A source that can be asked for by name.

    Attributes:
        makes: kind of its batches.
        config: class of its arguments.
        make: (configuration, options) -> source.
        takes_packs: it is made of mesh packs.
        takes_latent_encoder: it makes latents with an encoder.
        takes_data: it reads the roots of prepared data sets.
    """

    makes: type[Batch]
    config: type
    make: Callable[..., BatchSource]
    takes_packs: bool = True
    takes_latent_encoder: bool = False
    takes_data: bool = False
