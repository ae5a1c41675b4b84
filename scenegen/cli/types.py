"""Types of arguments that several commands share.

Each takes the text of the command line and raises `argparse.ArgumentTypeError` with what was expected and
what came; the parser adds which argument it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from safe_files.regular import shown
from scenegen.export.registry import (
    ALL_FORMATS,
    FORMATS_OF_ANY_CHECKPOINT,
    FormatUnavailable,
    check_formats,
)
from scenegen.inputs.label_image import MAX_LABELS
from scenegen.pipelines.settings import SEEDS
from trellis_modules.devices import best_device

_DIGITS = 18  # Python refuses to read numbers of thousands of them


def positive_int(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or len(text) > _DIGITS or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {shown(text)}")
    return int(text)


def up_to(highest: int) -> Callable[[str], int]:
    """A type for whole numbers from 1 to ``highest``."""

    def number(text: str) -> int:
        if not text.isdecimal() or len(text) > _DIGITS or not 1 <= int(text) <= highest:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from 1 to {highest}, got {shown(text)}"
            )
        return int(text)

    return number


def whole_number(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal() or len(text) > _DIGITS:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {shown(text)}")
    return int(text)


def object_count(text: str) -> int:
    """How many objects one photo may have: no more than a label image has labels."""
    if not text.isdecimal() or not 1 <= int(text) <= MAX_LABELS:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {MAX_LABELS}, got {text!r}")
    return int(text)


def non_negative(text: str) -> float:
    """A finite number of at least 0."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from error
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def positive_float(text: str) -> float:
    """A finite number above 0."""
    value = non_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def seed(text: str) -> int:
    """A seed of PyTorch's generators."""
    try:
        value = int(text)
    except ValueError as error:  # also of thousands of digits
        raise argparse.ArgumentTypeError(f"expected a whole number, got {shown(text)}") from error
    if value not in SEEDS:
        raise argparse.ArgumentTypeError(f"expected a number from -2^63 to 2^64 - 1, got {shown(text)}")
    return value


def formats(text: str) -> tuple[str, ...]:
    """Names of output formats, separated by commas; ``all`` stands for those of any checkpoint."""
    parts = [part.strip() for part in text.split(",")]
    names = tuple(
        name for part in parts for name in (FORMATS_OF_ANY_CHECKPOINT if part == "all" else (part,))
    )
    if unknown := sorted(set(names) - set(ALL_FORMATS)):
        raise argparse.ArgumentTypeError(
            f"unknown format {unknown[0]!r}; known: {', '.join(ALL_FORMATS)}, all"
        )
    try:
        check_formats(names)
    except FormatUnavailable as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return names


def port(text: str) -> int:
    """A TCP port."""
    return up_to(65535)(text)


def device(text: str) -> torch.device:
    """A device that this machine has."""
    try:
        found = torch.device(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"expected cpu, cuda, cuda:<n> or mps, got {text!r}") from error
    available = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }.get(found.type, 0)
    if (found.index or 0) >= available:
        raise argparse.ArgumentTypeError(f"expected a device of this machine, got {text!r}; use cpu")
    return found


def default_device() -> str:
    """The NVIDIA GPU where there is one, else Apple's, else the CPU."""
    return str(best_device())
