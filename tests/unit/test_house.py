"""What keeps the source readable: files and functions that one can take in, and one name for one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("scenegen", "trellis_modules", "vggt", "safe_files", "dataset_toolkits")
FOLDERS = (*PACKAGES, "scripts", "benchmarks", "examples", "integrations")
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def sources(*folders: str) -> list[Path]:
    """Source files of folders of the project."""
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found, f"no source files in {folders}"
    return found


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def test_no_file_is_too_long():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in [*sources(*FOLDERS), *ROOT.glob("*.py")]
    }
    long = {name: length for name, length in lengths.items() if length > LONGEST_FILE}
    assert not long, f"more than {LONGEST_FILE} lines: {long}"


def test_no_function_is_too_long():
    """Docstring included, decorators not."""
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": length
        for path in [*sources(*FOLDERS), *ROOT.glob("*.py")]
        for node in functions(path)
        if (length := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION
    }
    assert not long, f"more than {LONGEST_FUNCTION} lines: {long}"


def test_no_two_public_classes_share_a_name():
    places = defaultdict(list)
    for path in sources(*PACKAGES):
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    shared = {name: where for name, where in places.items() if len(where) > 1}
    assert not shared, f"one word for one thing: rename all but one of {shared}"
