"""The pages of the documentation and their fenced blocks, for the tests that hold them to the code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = tuple(
    path.relative_to(ROOT).as_posix()
    for path in (
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").glob("*.md")),
        ROOT / "checkpoints/scenegen-small/README.md",
    )
    if path.name != "ATTRIBUTION.md"  # written by dataset_toolkits.build_attribution
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its first line, its language, and its text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def begins(self, page: str, head: str) -> bool:
        """Whether it is the block of a page that begins like this, with its commands in one line each."""
        return self.page == page and " ".join(self.text.replace("\\\n", " ").split()).startswith(head)


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = read(page)
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page, text[: m.start(2)].count("\n") + 1, m[1], m[2]) for m in found]


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
