"""Data sets by name, and how a batch is shared out between processes and passes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scenegen.datasets.registry import DATASETS
from scenegen.datasets.source import SourceOptions
from scenegen.synthesis.sources.registry import SOURCES
from scenegen.trainers.data import DATA, build_source, with_batches
from scenegen.trainers.loop_config import LoopConfig
from trellis_modules.config import ConfigError, NamedConfig

OPTIONS = SourceOptions(torch.device("cpu"))
SCENES, SHAPES = "ImageConditionedSparseStructureLatentVGGT", "SparseStructure"


def shared_out(name, processes, **loop):
    options = with_batches(OPTIONS, DATA[name], LoopConfig(max_steps=1, **loop), processes)
    return options.batch_size, options.slots


def test_stored_and_composed_data_have_different_names():
    assert len(DATA) == len(DATASETS) + len(SOURCES)


@pytest.mark.parametrize(
    ("name", "processes", "loop", "expected"),
    [
        (SHAPES, 1, {}, (None, 1)),
        (SHAPES, 4, {"batch_size": 32}, (8, 4)),
        (SHAPES, 4, {"batch_size": 32, "batch_size_per_gpu": 6}, (6, 4)),
        (SHAPES, 2, {"batch_size_per_gpu": 8, "batch_split": 4}, (2, 8)),
        (SCENES, 8, {"batch_size": 128}, (16, 8)),
        (SCENES, 2, {"batch_size": 128, "batch_split": 2}, (64, 4)),  # a scene is never split
    ],
)
def test_batches_are_shared_out(name, processes, loop, expected):
    assert shared_out(name, processes, **loop) == expected


@pytest.mark.parametrize(
    ("processes", "loop", "message"),
    [
        (3, {"batch_size": 32}, "trainer.batch_size: expected a batch that 3 processes can share out evenly"),
        (
            1,
            {"batch_size": 9, "batch_split": 2},
            "trainer.batch_split: expected a batch that 2 passes of each process can share out evenly, got 9",
        ),
    ],
)  # fmt: skip
def test_batches_that_cannot_be_shared_out_are_refused(processes, loop, message):
    with pytest.raises(ConfigError, match=message):
        shared_out(SHAPES, processes, **loop)


@pytest.mark.parametrize("name", [SHAPES, "shapes"])
def test_data_take_the_files_that_they_are_made_of_and_no_others(name):
    kind = DATA[name]
    files = {"--packs": {"packs": (Path("p"),)}, "--data_dir": {"data_dirs": (Path("d"),)}}
    own, other = ("--packs", "--data_dir") if kind.takes_packs else ("--data_dir", "--packs")
    for given, says in (
        ({}, f"expected {own}, got none"),
        ({**files[own], **files[other]}, f"expected no {other}"),
    ):
        with pytest.raises(ConfigError, match=f"dataset {name}: {says}"):
            build_source(NamedConfig(name), replace(OPTIONS, **given))
