"""Training data, packs, networks and states in object stores: copies of them on this machine."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from scenegen.datasets.places import root_places
from scenegen.datasets.registry import DATASETS
from scenegen.stores.kept import kept_copy
from scenegen.stores.urls import StoreError, StoreUrl
from scenegen.trainers.checkpoints import CHECKPOINTS
from scenegen.trainers.experiment import load_experiment

logger = logging.getLogger(__name__)

_NETWORK = (".json", ".safetensors")
"""Endings of the files of a network, whose stem is named."""


def use_copies(options: argparse.Namespace) -> None:
    """Put copies on this machine in the place of URLs; several processes of a machine share them.

    Of data roots comes what the data set reads, of packs and networks their files, and of the folder of
    another run its states. What is there in the same size already is not brought again, so that a copy that
    was interrupted goes on.

    Args:
        options: of training.

    Raises:
        ConfigError: the experiment cannot be read, whose data set decides over what is copied.
        StoreError: nothing is there, it cannot be read, or the disk has too little space.
    """
    if any(isinstance(folder, StoreUrl) for folder in options.data_dir):
        dataset = load_experiment(options.config).dataset
        if dataset.name not in DATASETS:
            raise StoreError(f"dataset {dataset.name}: expected no --data_dir, which it does not use")
        places = root_places(dataset, DATASETS[dataset.name].config)
        options.data_dir = tuple(_folder(each, places) for each in options.data_dir)
    for name in ("packs", "validation_packs"):
        setattr(options, name, [_file(each) for each in getattr(options, name)])
    for name in ("latent_encoder", "structure_decoder"):
        setattr(options, name, _file(getattr(options, name), _NETWORK))
    options.start_from = _folder(options.start_from, ("",))
    if isinstance(options.load_dir, StoreUrl) and options.load_dir == options.output_url:
        options.load_dir = options.output_dir  # which is brought as it is, also where nothing is there yet
    options.load_dir = _folder(options.load_dir, (CHECKPOINTS,))


def _folder(place: Path | StoreUrl | None, parts: Sequence[str]) -> Path | None:
    """A folder, or the copy of some parts of a stored one."""
    if not isinstance(place, StoreUrl):
        return place
    logger.info("%s: copied to this machine, where it is not yet", place)
    return kept_copy(place, parts)


def _file(place: Path | StoreUrl | None, endings: Sequence[str] = ("",)) -> Path | None:
    """A file, or the stem of several, or where their copies are."""
    if not isinstance(place, StoreUrl):
        return place
    folder, _, name = place.text.rpartition("/")
    return _folder(StoreUrl.parse(folder), [f"{name}{ending}" for ending in endings]) / name
