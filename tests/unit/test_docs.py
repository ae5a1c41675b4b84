"""What the documentation names is there, and its tables agree with the code."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Mapping

import pytest

from scenegen.export.registry import ALL_FORMATS
from scenegen.trainers.registry import TRAINERS
from tests.doc_pages import PAGES, ROOT, prose, read
from trellis_modules.attention.backends import REGISTRY as ATTENTION
from trellis_modules.backends import BackendRegistry
from trellis_modules.norms.backends import REGISTRY as NORMS
from trellis_modules.renderers import backends as renderers
from trellis_modules.sparse.conv.backends import REGISTRY as SPARSE_CONV

PACKAGES = ("scenegen", "trellis_modules", "vggt", "safe_files", "dataset_toolkits")

# Paths in the text that a command makes.
MADE_BY_COMMANDS = re.compile(
    r"(outputs|data)/|checkpoints/(scenegen|(lpips_alex|image_features)\.safetensors|downloads\.lock\.json|"
    r"VGGT-1B|sam2\S*)$"
)

# Pages that are linked to before they are here; to be taken out when they are.
COMING: tuple[str, ...] = ()


def test_pages_that_are_coming_are_not_here():
    here = [page for page in COMING if (ROOT / page).exists()]
    assert not here, f"take {here} out of COMING"


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_lead_somewhere(page):
    text, folder = prose(page), (ROOT / page).parent
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    coming = {ROOT / name for name in COMING}
    lost = [
        target
        for target in targets
        if not target.startswith(("http://", "https://"))
        and not (place := (folder / target.partition("#")[0]).resolve()).exists()
        and place not in coming
    ]
    tops = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    for quoted in re.findall(rf"`((?:{tops})/[\w./-]*)`", text):
        if not (ROOT / quoted).exists() and not MADE_BY_COMMANDS.match(quoted):
            lost.append(quoted)
    assert not lost, f"{page} names what is not there: {lost}"


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])  # names old flags, too
def test_flags_in_the_text_exist(page):
    """Every flag in quotes is one that some command declares."""
    places = [*ROOT.glob("*.py"), ROOT / "setup.sh", ROOT / "tests/parity/conftest.py"]
    for folder in (*PACKAGES, "scripts", "benchmarks"):
        places += [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).glob("*.sh")]
    known = set()
    for path in places:
        code = path.read_text(encoding="utf-8")
        found = re.findall(r"--([a-z0-9][a-z0-9_-]*)", code)
        two_ways = re.findall(r'"--([a-z0-9_-]+)",\s+action=argparse\.BooleanOptionalAction', code)
        found += [f"no-{flag}" for flag in two_ways]
        known |= {flag.replace("_", "-") for flag in found}
    quoted = [
        flag.replace("_", "-")
        for code in re.findall(r"`([^`]+)`", prose(page))
        for flag in re.findall(r"--([a-z0-9_-]+)", code)
    ]
    unknown = sorted(set(quoted) - known - {"line-length"})  # of ruff
    assert not unknown, f"{page}: no command has {unknown}"


def table(page: str, columns: int) -> list[list[str]]:
    """Rows of the tables of a page that have so many columns, without heads."""
    rows = [line.strip("|").split(" | ") for line in read(page).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if len(row) == columns]


def test_outputs_lists_every_format():
    named = {row[0].strip("`") for row in table("docs/outputs.md", 3)}
    assert set(ALL_FORMATS) <= named, f"docs/outputs.md lacks {sorted(set(ALL_FORMATS) - named)}"


def test_kernels_lists_every_backend():
    registries = [
        ATTENTION,
        SPARSE_CONV,
        NORMS,
        *(v for v in vars(renderers).values() if isinstance(v, BackendRegistry)),
    ]
    rows = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in table("docs/kernels.md", 3)}
    assert {registry.variable: set(registry.backends) for registry in registries} == {
        variable: names for variable, names in rows.items() if variable.startswith("SCENEGEN_")
    }


def test_kernels_lists_every_flag_of_setup():
    usage = subprocess.run(["bash", "setup.sh", "--help"], cwd=ROOT, capture_output=True, text=True).stdout
    flags = set(re.findall(r"^  (--[\w-]+)", usage, re.MULTILINE)) - {"--help"}
    assert flags, usage
    named = set(re.findall(r"--[\w-]+", prose("docs/kernels.md")))
    assert flags <= named, f"docs/kernels.md lacks {sorted(flags - named)}"


def test_training_lists_every_trainer():
    named = prose("docs/training.md") + prose("docs/flow-training.md")
    missing = [name for name in TRAINERS if f"`{name}`" not in named]
    assert not missing, f"docs/training.md and docs/flow-training.md lack {missing}"


def test_house_has_the_sentence_of_every_folder():
    expected = {}
    for package in PACKAGES:
        for init in (ROOT / package).rglob("__init__.py"):
            sentence = (ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
            folder = init.parent.relative_to(ROOT).as_posix() + "/"
            expected[folder] = sentence.replace("\n", " ").replace("``", "`")
    page = read("docs/house.md")
    tables = page[page.index("\n## scenegen") : page.index("\n## Import directions")]
    rows = dict(re.findall(r"^\| `([\w/]+/)` \| (.*) \|$", tables, re.MULTILINE))
    changed = [f"| `{folder}` | {text} |" for folder, text in expected.items() if rows.get(folder) != text]
    assert not changed, "docs/house.md: these rows should be\n" + "\n".join(sorted(changed))
    assert rows.keys() == expected.keys(), f"these folders are gone: {sorted(rows.keys() - expected.keys())}"


def _layer(module: str, layers: Mapping[str, int]) -> int | None:
    """The number of the longest prefix of a module that the page names."""
    prefixes = [name for name in layers if module == name or module.startswith(name + ".")]
    return layers[max(prefixes, key=len)] if prefixes else None


def test_imports_go_up_the_list_of_the_house():
    numbered = re.findall(r"^(\d)\. (.*)$", read("docs/house.md"), re.MULTILINE)
    layers = {name: int(number) for number, line in numbered for name in re.findall(r"`([\w.]+)`", line)}
    folders = {f"scenegen.{init.parent.name}" for init in (ROOT / "scenegen").glob("*/__init__.py")}
    assert folders <= layers.keys(), (
        f"docs/house.md: no import direction for {sorted(folders - layers.keys())}"
    )
    wrong = []
    for path in (ROOT / "scenegen").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("scenegen"):
                continue
            here, there = _layer(module, layers), _layer(node.module, layers)
            own = module.split(".")[:2] == node.module.split(".")[:2]
            if not own and None not in (here, there) and there >= here:
                wrong.append(f"{module} imports {node.module}")
    assert not wrong, "against docs/house.md: " + ", ".join(wrong)
