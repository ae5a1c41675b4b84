"""The import directions and bans that keep the packages apart, read from the source files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("scenegen", "trellis_modules", "vggt")
PACKAGES = (*LIBRARIES, "dataset_toolkits")
SCRIPT_FOLDERS = ("scripts", "benchmarks")
PROJECT_MODULES = {*PACKAGES, *SCRIPT_FOLDERS, "tests", *(path.stem for path in ROOT.glob("*.py"))}

TESTED_EXTRAS = ("data", "train", "eval", "hub", "segment", "usd", "video", "dev")
EXTRAS = (*TESTED_EXTRAS, "cuda", "demo")
# Import names that are not their distribution's name.
DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image", "pxr": "usd-core"}
# GPU kernels that setup.sh installs by flag; only the backend file that uses one imports it.
KERNEL_MODULES = {
    "xformers",
    "flash_attn",
    "spconv",
    "cumm",
    "kaolin",
    "nvdiffrast",
    "diffoctreerast",
    "gsplat",
    "triton",
}
# Scripts that Blender's own Python runs by path: no package, and Blender brings these modules.
BLENDER_FOLDER = "blender_script"
BLENDER_MODULES = {"bpy", "mathutils", "bmesh"}

# Prefix of the importing module -> prefixes of project modules that it may import. The longest match counts.
ALLOWED = {
    "vggt": {"vggt"},
    "trellis_modules": {"trellis_modules"},
    "trellis_modules.attention": {
        "trellis_modules.attention",
        "trellis_modules.backends",
        "trellis_modules.config",
    },
    "trellis_modules.sparse": {
        "trellis_modules.sparse",
        "trellis_modules.backends",
        "trellis_modules.config",
    },
    "trellis_modules.transformer": {
        "trellis_modules.transformer",
        "trellis_modules.attention",
        "trellis_modules.sparse",
        "trellis_modules.config",
    },
    "scenegen": set(),
    "scenegen.geometry": set(),
    "scenegen.models": {"scenegen.models", "scenegen.geometry", "trellis_modules"},
    "scenegen.models.registry": {"scenegen.models", "trellis_modules", "vggt"},  # lists every network by name
    "scenegen.inputs": {"scenegen.inputs", "trellis_modules.config"},
    "scenegen.segmentation": {
        "scenegen.segmentation",
        "scenegen.inputs",
        "scenegen.hub",
        "trellis_modules",
    },
    "scenegen.conditioning": {"scenegen.conditioning", "scenegen.inputs", "trellis_modules", "vggt"},
    "scenegen.hub": {"scenegen.hub", "scenegen.models", "trellis_modules", "vggt"},
    "scenegen.checkpoints": {
        "scenegen.checkpoints",
        "scenegen.conditioning",
        "scenegen.hub",
        "scenegen.models",
        "trellis_modules",
        "vggt",
    },
    "scenegen.photo": {"scenegen.photo", "scenegen.geometry"},
    "scenegen.pipelines": {
        "scenegen.pipelines",
        "scenegen.checkpoints",
        "scenegen.conditioning",
        "scenegen.geometry",
        "scenegen.hub",
        "scenegen.inputs",
        "scenegen.photo",
        "trellis_modules",
    },
    "scenegen.refinement": {
        "scenegen.refinement",
        "scenegen.geometry",
        "scenegen.photo",
        "scenegen.pipelines.result",
        "trellis_modules",
    },
    "scenegen.export": {
        "scenegen.export",
        "scenegen.geometry",
        "scenegen.photo",
        "scenegen.pipelines.assembly",
        "scenegen.pipelines.result",
        "trellis_modules",
    },
    "scenegen.synthesis": {
        "scenegen.synthesis",
        "scenegen.conditioning",
        "scenegen.geometry",
        "scenegen.models",
        "trellis_modules",
    },
    "scenegen.trainers": {
        "scenegen.trainers",
        "scenegen.synthesis",
        "scenegen.conditioning",
        "scenegen.geometry",
        "scenegen.models",
        "trellis_modules",
        "vggt",
    },
    "scenegen.evaluation": {
        "scenegen.evaluation",
        "scenegen.geometry",
        "scenegen.inputs",
        "trellis_modules",
    },
    "scenegen.batch": {"scenegen", "trellis_modules"},
    "scenegen.demo": {"scenegen", "trellis_modules"},
    "scenegen.cli": {"scenegen", "trellis_modules"},
    "scenegen.__main__": {"scenegen.cli"},
    "dataset_toolkits": set(PACKAGES),
}


@dataclass(frozen=True)
class Import:
    """One imported name: where it stands, what it names, and whether loading the module runs it."""

    where: str
    name: str
    at_load: bool


def module_name(path: Path) -> str:
    """Dotted name of a source file of the project."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))


def type_checking_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_below(path: Path, node: ast.AST, at_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(where(path, child), alias.name, at_load) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                package = module_name(path).split(".")
                keep = len(package) - child.level + (path.name == "__init__.py")
                base = ".".join([*package[:keep], *([base] if base else [])])
            yield from (Import(where(path, child), f"{base}.{alias.name}", at_load) for alias in child.names)
        else:
            deferred = isinstance(
                child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Try)
            ) or type_checking_only(child)
            yield from imports_below(path, child, at_load and not deferred)


def imports(path: Path) -> list[Import]:
    return list(imports_below(path, ast.parse(path.read_text(encoding="utf-8"), str(path)), at_load=True))


def is_inside(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def allowed_prefixes(module: str) -> set[str]:
    return ALLOWED[max((prefix for prefix in ALLOWED if is_inside(module, prefix)), key=len)]


def declared_distributions(*extras: str) -> set[str]:
    """Names in pyproject.toml: of the core dependencies and of the given extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"]]
    for extra in extras:
        requirements += project["optional-dependencies"][extra]
    names = {canonical(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}
    return names - {project["name"]}


def canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def distribution(name: str) -> str:
    top = name.split(".")[0]
    return canonical(DISTRIBUTIONS.get(top, top))


def is_third_party(name: str) -> bool:
    top = name.split(".")[0]
    return top not in sys.stdlib_module_names and top not in PROJECT_MODULES


def needs_kernel(path: Path) -> bool:
    """Whether the file is a backend, loaded on demand, that imports its kernel at once."""
    return any(found.at_load and found.name.split(".")[0] in KERNEL_MODULES for found in imports(path))


def test_imports_inside_the_project_point_one_way():
    wrong = [
        f"{found.where}: {module_name(path)} imports {found.name}"
        for path in sources(*PACKAGES)
        for found in imports(path)
        if found.name.split(".")[0] in PROJECT_MODULES
        and not any(is_inside(found.name, prefix) for prefix in allowed_prefixes(module_name(path)))
    ]
    assert not wrong, "\n".join(wrong)


def test_scene_samples_do_not_render():
    wrong = [
        found.where
        for path in sources("scenegen/datasets")
        for found in imports(path)
        if is_inside(found.name, "trellis_modules.renderers") or distribution(found.name) == "embreex"
    ]
    assert not wrong, "\n".join(wrong)


def test_every_third_party_import_is_declared():
    core, everything = declared_distributions(), declared_distributions(*EXTRAS)
    wrong = []
    for path in sources(*PACKAGES):
        for found in filter(lambda found: is_third_party(found.name), imports(path)):
            top = found.name.split(".")[0]
            if BLENDER_FOLDER in path.parts and top in BLENDER_MODULES:
                continue
            library = path.relative_to(ROOT).parts[0] in LIBRARIES
            declared = core if found.at_load and library else everything
            if distribution(found.name) not in declared and top not in KERNEL_MODULES:
                wrong.append(f"{found.where}: {found.name} is not declared in pyproject.toml for this use")
    assert not wrong, "\n".join(wrong)


def test_constraints_fix_every_package_that_the_tests_need():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    fixed = {line.partition("==")[0] for line in lines if "==" in line}
    missing = sorted(declared_distributions(*TESTED_EXTRAS) - fixed)
    assert not missing, f"constraints.txt lacks {missing}; run scripts/update_constraints.py"


def test_kernels_are_imported_in_their_backend_only():
    backends = re.compile(r"trellis_modules/(.*/)?backends/|trellis_modules/sparse/conv/")
    wrong = [
        f"{found.where}: {found.name}"
        for path in sources(*PACKAGES)
        for found in imports(path)
        if found.name.split(".")[0] in KERNEL_MODULES
        and not backends.match(path.relative_to(ROOT).as_posix())
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_everything_or_torchvision():
    everything = (*PACKAGES, *SCRIPT_FOLDERS, "tests")
    wrong = [
        f"{found.where}: {found.name}"
        for path in [*sources(*everything), *ROOT.glob("*.py")]
        for found in imports(path)
        if found.name.endswith(".*") or is_inside(found.name, "torchvision")
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_edits_the_import_path():
    wrong = [
        where(path, node)
        for path in [*sources(*PACKAGES, *SCRIPT_FOLDERS, "tests"), *ROOT.glob("*.py")]
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"
    ]
    assert not wrong, f"pip install -e . makes imports work; remove sys.path at {wrong}"


@pytest.mark.parametrize(
    ("banned", "allowed_in"),
    [
        pytest.param(
            lambda call: isinstance(call.func, ast.Name) and call.func.id == "print",
            {"scenegen/cli"},  # a command's result
            id="print",
        ),
        pytest.param(
            lambda call: isinstance(call.func, ast.Attribute) and call.func.attr == "cuda", (), id="cuda"
        ),
        pytest.param(
            lambda call: isinstance(call.func, ast.Name) and call.func.id in ("eval", "exec"), (), id="eval"
        ),
    ],
)
def test_library_code_makes_no_banned_call(banned, allowed_in):
    wrong = [
        where(path, node)
        for path in sources(*LIBRARIES)
        if path.parent.relative_to(ROOT).as_posix() not in allowed_in
        for node in nodes(path)
        if isinstance(node, ast.Call) and banned(node)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_package_folder_is_a_package():
    missing = {
        str(path.parent.relative_to(ROOT))
        for path in sources(*PACKAGES)
        if path.parent.name != BLENDER_FOLDER and not (path.parent / "__init__.py").exists()
    }
    assert not missing, f"folders with modules but without __init__.py: {sorted(missing)}"


def test_every_library_module_loads_without_optional_packages():
    extras = declared_distributions(*EXTRAS) - declared_distributions()
    optional = sorted(KERNEL_MODULES | {name.replace("-", "_") for name in extras})
    modules = [module_name(path) for path in sources(*LIBRARIES) if not needs_kernel(path)]
    program = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({optional!r}))\n"  # None makes an import fail as if not installed
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
