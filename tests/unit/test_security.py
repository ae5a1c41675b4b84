"""What SECURITY.md promises, as far as the source tells: one reader, no code from data, no old packages."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from scripts import audit_dependencies

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).resolve().parents[2]
BLENDER_SCRIPTS = ROOT / "scenegen" / "blender" / "blender_script"
LIBRARIES = ("scenegen", "trellis_modules", "vggt")

# Calls that read what others made -> where they may stand, and why there. Data sets are trusted.
READERS: dict[str, set[str]] = {
    "json.load": set(),
    "json.loads": {
        "scenegen/synthesis/layouts/scene_layout.py",  # of what it has just written
        "trellis_modules/checkpoint.py",  # the same
        *(
            f"scenegen/datasets/{name}.py"
            for name in ("annotations", "metadata", "model_boxes", "shards", "tables")
        ),
    },
    "np.load": {"scenegen/datasets/arrays.py"},
    "numpy.load": set(),
    "torch.load": {"scenegen/hub/conversion.py"},  # the conversion of pickles, with weights_only
    "pickle.load": set(),
    "pickle.loads": {"trellis_modules/workers.py"},  # between a process and those that it started
    "Image.open": set(),
    "safe_open": {"scenegen/datasets/shards.py"},
    "load_file": set(),
}
# Lowest versions without an advisory that is known.
FLOORS = {
    "torch": "2.11",
    "transformers": "5.3",
    "gradio": "6.16",
    "pillow": "12.3",
    "python-multipart": "0.0.27",
    "starlette": "1.10",
}


def calls(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("call", READERS)
def test_what_others_made_is_read_in_one_place(call):
    wrong = [
        path.relative_to(ROOT).as_posix()
        for library in LIBRARIES
        for path in sorted((ROOT / library).rglob("*.py"))
        if call in calls(path)
        and path.relative_to(ROOT).as_posix() not in READERS[call]
        and BLENDER_SCRIPTS not in path.parents  # these read what we wrote for them, inside Blender
    ]
    assert not wrong, f"{call}: use safe_files instead in {wrong}"


def test_pickles_are_opened_without_running_what_they_hold():
    tree = ast.parse((ROOT / "scenegen/hub/conversion.py").read_text(encoding="utf-8"))
    loads = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert loads
    for node in loads:
        assert {"weights_only": "True"}.items() <= {
            k.arg: ast.unparse(k.value) for k in node.keywords
        }.items()


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group]


@pytest.mark.parametrize("name", FLOORS)
def test_no_version_with_a_known_advisory_is_admitted(name):
    lowest = [
        Version(part.version)
        for requirement in declared()
        if requirement.name.lower() == name
        for part in requirement.specifier
        if part.operator in (">=", "==")
    ]
    assert lowest and min(lowest) >= Version(FLOORS[name])


@pytest.mark.parametrize("name", FLOORS)
def test_the_versions_of_continuous_integration_have_no_known_advisory(name):
    pinned = dict(line.split("==") for line in audit_dependencies.versions(audit_dependencies.CONSTRAINTS))
    assert Version(pinned[name]) >= Version(FLOORS[name])


def test_the_report_of_the_audit_has_a_date_and_the_versions_with_floors():
    report = (ROOT / "docs" / "dependency_audit.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^- ([\w.-]+)==(\S+)$", report, re.MULTILINE))
    pinned = dict(line.split("==") for line in audit_dependencies.versions(audit_dependencies.CONSTRAINTS))
    assert re.search(r"^- Date: \d{4}-\d\d-\d\d$", report, re.MULTILINE)
    assert {name: listed.get(name) for name in FLOORS} == {name: pinned[name] for name in FLOORS}, (
        "write it again: python scripts/audit_dependencies.py --report docs/dependency_audit.md"
    )
