"""Write constraints.txt: the exact versions that the running environment holds for scenegen's dependencies.

    .venv/bin/python scripts/update_constraints.py

A release that leaves out an older Python is marked; that Python falls back to the ranges of pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from scenegen.cli.parser import CommandParser

TARGET = Path(__file__).resolve().parent.parent / "constraints.txt"
HEADER = (
    "# Versions that continuous integration ran with. Written by scripts/update_constraints.py; do not edit."
)
SUPPORTED_PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


def installed_closure(root: str) -> set[str]:
    """Canonical names of the installed distributions that root and all its extras lead to, root excluded."""
    pending, seen = [root], set()
    while pending:
        name = pending.pop()
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            wanted = canonicalize_name(requirement.name)
            is_extra = requirement.marker is not None and "extra" in str(requirement.marker)
            if wanted in seen or (is_extra and name != root):
                continue
            try:
                metadata.distribution(wanted)
            except metadata.PackageNotFoundError:
                continue  # an extra that is not installed here, or another platform's dependency
            seen.add(wanted)
            pending.append(wanted)
    return seen - {canonicalize_name(root)}


def constraint(name: str) -> str:
    """One line `name==version`, marked where the release leaves out a Python that the project supports."""
    distribution = metadata.distribution(name)
    line = f"{name}=={distribution.version.partition('+')[0]}"
    allowed = SpecifierSet(distribution.metadata.get("Requires-Python") or "")
    fitting = [python for python in SUPPORTED_PYTHONS if allowed.contains(f"{python}.99")]
    if fitting and fitting[0] != SUPPORTED_PYTHONS[0]:
        line += f"; python_version >= '{fitting[0]}'"
    return line


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file and say how many versions it fixes."""
    parser = CommandParser(__doc__)
    parser.add_argument("--output", type=Path, default=TARGET, help="file to write (%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="print the versions, write nothing")
    options = parser.parse_args(arguments)
    (project,) = set(metadata.packages_distributions()["scenegen"])
    lines = [constraint(name) for name in sorted(installed_closure(project))]
    if options.dry_run:
        print("\n".join(lines))
        return
    options.output.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    print(f"{options.output.name}: {len(lines)} versions")


if __name__ == "__main__":
    main()
