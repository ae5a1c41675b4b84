"""Types of arguments that several commands share.

Each takes the text of the command line and raises `argparse.ArgumentTypeError` with what was expected and
what came; the parser adds which argument it was.
"""

from __future__ import annotations

import argparse

import torch

from scenegen.inputs.label_image import MAX_LABELS
from scenegen.pipelines.settings import SEEDS


def positive_int(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def whole_number(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
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
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from error
    if value not in SEEDS:
        raise argparse.ArgumentTypeError(f"expected a number from -2^63 to 2^64 - 1, got {text!r}")
    return value


def port(text: str) -> int:
    """A TCP port."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 65535, got {text!r}")
    return int(text)


def device(text: str) -> torch.device:
    """A device that this machine has."""
    try:
        found = torch.device(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:<n>, got {text!r}") from error
    available = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(found.type, 0)
    if (found.index or 0) >= available:
        raise argparse.ArgumentTypeError(f"expected a device of this machine, got {text!r}; use cpu")
    return found


def default_device() -> str:
    """The GPU where there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"
