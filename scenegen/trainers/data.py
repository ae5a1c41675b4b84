"""Data sets by name: those of data roots, and those that are made while training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from scenegen.datasets.batch import SceneCaseBatch
from scenegen.datasets.registry import DATASETS
from scenegen.datasets.source import BatchSource, SourceKind, SourceOptions
from scenegen.synthesis.sources.registry import SOURCES
from scenegen.trainers.loop_config import LoopConfig
from trellis_modules.config import ConfigError, NamedConfig, build, lookup

DATA: Mapping[str, SourceKind] = {**DATASETS, **SOURCES}
"""What ``dataset.name`` of an experiment may be."""


def build_source(named: NamedConfig, options: SourceOptions) -> BatchSource:
    """Make a batch source.

    Args:
        named: a key of `DATA` and its arguments.
        options: what the run chooses.

    Raises:
        ConfigError: the name or an argument is unknown or wrong, the source lacks files, or is given files
            that it does not take.
        ValueError: a file does not hold what it should, say a model of another split.
    """
    kind = lookup(DATA, named.name, "dataset")
    given = {
        "--packs": (kind.takes_packs, bool(options.packs)),
        "--latent-encoder": (kind.takes_latent_encoder, options.latent_encoder is not None),
        "--data_dir": (kind.takes_data, bool(options.data_dirs)),
    }
    for flag, (is_taken, is_given) in given.items():
        where = f"dataset {named.name}"
        if is_taken and not is_given:
            raise ConfigError(f"{where}: expected {flag}, got none; say which files it is made with")
        if is_given and not is_taken:
            raise ConfigError(f"{where}: expected no {flag}, which it does not use; leave it out")
    return kind.make(build(kind.config, named.args, f"dataset {named.name}"), options)


def with_batches(options: SourceOptions, kind: SourceKind, loop: LoopConfig, processes: int) -> SourceOptions:
    """The options of a source, with what a step consists of.

    Args:
        options: files and device.
        kind: of the source.
        loop: sizes, see `LoopConfig`.
        processes: that train together.

    Raises:
        ConfigError: a batch cannot be shared out evenly.
    """
    slots = processes * loop.batch_split
    size = loop.batch_size_per_gpu
    if size is None and loop.batch_size is not None:
        size = _shared_out(loop.batch_size, processes, "batch_size", "processes")
    if size is not None and not issubclass(kind.makes, SceneCaseBatch):  # a scene is never split
        size = _shared_out(size, loop.batch_split, "batch_split", "passes of each process")
    return replace(options, batch_size=size, slots=slots)


def _shared_out(size: int, parts: int, name: str, what: str) -> int:
    if size % parts:
        raise ConfigError(
            f"trainer.{name}: expected a batch that {parts} {what} can share out evenly, got {size} samples; "
            f"change the number of samples to a multiple of {parts}"
        )
    return size // parts
