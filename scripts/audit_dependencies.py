"""Look up every version of constraints.txt in the database of known advisories, with pip-audit.

    pip install pip-audit
    python scripts/audit_dependencies.py --report docs/dependency_audit.md

Exit status: 0 no advisory is known, 1 one is, 2 pip-audit is missing or failed, 3 the database could not be
asked about some versions, and knows none for the others.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safe_files.json_reader import parse_json
from safe_files.regular import UnreadableFile
from scenegen.cli.parser import CommandParser
from trellis_modules.files import atomic_write_text

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"

logger = logging.getLogger("audit")


@dataclass(frozen=True)
class Audit:
    """What the database says.

    Attributes:
        clean: ``name version`` of those without an advisory.
        skipped: of those that it could not be asked about.
        found: of those with advisories, each with their ids.
    """

    clean: tuple[str, ...]
    skipped: tuple[str, ...]
    found: tuple[str, ...]

    @property
    def status(self) -> int:
        """Exit status."""
        return 1 if self.found else 3 if self.skipped else 0

    def summary(self) -> str:
        """One line."""
        looked_up = len(self.clean) + len(self.found)
        found = "; ".join(self.found) or ("no advisory is known" if looked_up else "nothing is known")
        return f"{looked_up} of {looked_up + len(self.skipped)} versions could be looked up: {found}"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--constraints", type=Path, default=CONSTRAINTS, help="list of versions")
    parser.add_argument("--report", type=Path, help="Markdown page that keeps the result, with its date")
    return parser.parse_args(arguments)


def versions(constraints: Path) -> list[str]:
    """``name==version`` of every line, without markers."""
    lines = constraints.read_text(encoding="utf-8").splitlines()
    return [line.partition(";")[0].strip() for line in lines if "==" in line]


def ask(pinned: Sequence[str]) -> Audit:
    """Run pip-audit over versions.

    Raises:
        RuntimeError: pip-audit is not installed, or does not answer as it should.
    """
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "versions.txt"
        listed.write_text("\n".join(pinned) + "\n", encoding="utf-8")
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        result = subprocess.run(
            [sys.executable, "-m", "pip_audit", "--requirement", str(listed), *options],
            capture_output=True,
            text=True,
        )
    try:
        return read_answer(result.stdout)
    except (UnreadableFile, LookupError, TypeError, AttributeError) as error:
        said = result.stderr.strip().splitlines() or ["nothing"]
        raise RuntimeError(f"pip-audit: expected its JSON, got {said[-1]}; pip install pip-audit") from error


def read_answer(text: str) -> Audit:
    """The JSON that pip-audit prints."""
    clean, skipped, found = [], [], []
    for entry in parse_json(text)["dependencies"]:
        if "skip_reason" in entry:
            skipped.append(entry["name"])
            continue
        name = f"{entry['name']} {entry['version']}"
        ids = ", ".join(advisory["id"] for advisory in entry["vulns"])
        if ids:
            found.append(f"{name} ({ids})")
        else:
            clean.append(name)
    return Audit(tuple(clean), tuple(skipped), tuple(found))


def report(audit: Audit, pinned: Sequence[str]) -> str:
    """The page."""
    skipped = ", ".join(audit.skipped) or "none"
    return (
        "# Audit of the dependencies\n\n"
        "Written by `scripts/audit_dependencies.py --report docs/dependency_audit.md`; do not edit.\n\n"
        f"- Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}\n"
        f"- Result: {audit.summary()}\n"
        f"- Not looked up: {skipped}\n\n"
        "Versions:\n\n" + "\n".join(f"- {version}" for version in pinned) + "\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        pinned = versions(options.constraints)
        audit = ask(pinned)
        if options.report:
            atomic_write_text(options.report, report(audit, pinned))
    except (RuntimeError, OSError) as error:
        logger.error("%s", error)
        return 2
    print(audit.summary())
    return audit.status


if __name__ == "__main__":
    sys.exit(main())
