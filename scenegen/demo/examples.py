"""Examples that come with the demo: a photo and its label image in each numbered folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

EXAMPLES_FOLDER = "assets/gradio_demos"
PHOTO_FILE, LABELS_FILE = "scene.jpg", "rgb_mask.png"

_FOLDER = re.compile(r"\d{5}")


@dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        name: of its folder, five digits.
        photo, labels: its files.
    """

    name: str
    photo: Path
    labels: Path


def find_examples(root: Path) -> list[Example]:
    """The examples in a folder, by their names; folders that lack a file are left out."""
    if not root.is_dir():
        return []
    found = [
        Example(folder.name, folder / PHOTO_FILE, folder / LABELS_FILE)
        for folder in sorted(root.iterdir())
        if _FOLDER.fullmatch(folder.name)
    ]
    return [example for example in found if example.photo.is_file() and example.labels.is_file()]
