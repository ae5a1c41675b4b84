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
LIBRARIES = ("scenegen", "trellis_modules", "vggt", "safe_files")
PACKAGES = (*LIBRARIES, "dataset_toolkits")
SCRIPT_FOLDERS = ("scripts", "benchmarks", "examples", "integrations")
PROJECT_MODULES = {*PACKAGES, *SCRIPT_FOLDERS, "tests", *(path.stem for path in ROOT.glob("*.py"))}

TESTED_EXTRAS = (
    "data", "tensorboard", "train", "eval", "hub", "segment", "cutout", "usd", "sim", "video", "demo", "heic",
    "dev",
)  # fmt: skip
EXTRAS = (*TESTED_EXTRAS, "cuda", "background", "lpips", "ray", "stores")
# Import names that are not their distribution's name.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "pxr": "usd-core",
    "yaml": "pyyaml",
    "cv2": "opencv-python-headless",
}
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

# Modules without imports of their own project, for whoever needs them.
TRELLIS_LEAVES = {
    f"trellis_modules.{name}"
    for name in ("backends", "config", "devices", "files", "flow_output", "memory", "quaternions", "ragged")
}

# Reads files for everybody, and knows nobody.
FOR_ALL = "safe_files"

# Importing module or package -> modules and packages of the project that it may import. The longest match
# counts. A top-level package's own rule is for its ``__init__`` alone.
ALLOWED = {
    "safe_files": set(),
    "safe_files.limits": set(),
    **{
        f"safe_files.{name}": {"safe_files.limits", "safe_files.regular"}
        for name in ("arrays", "json_reader", "networks", "pictures", "weights")
    },
    "safe_files.regular": set(),
    "vggt": set(),
    "vggt.__main__": {"vggt"},
    "vggt.checkpoint": {"vggt.models"},
    "vggt.geometry": set(),
    "vggt.heads": {"vggt.heads", "vggt.layers"},
    "vggt.images": set(),
    "vggt.kept_files": set(),
    "vggt.layers": {"vggt.layers"},
    "vggt.models": {"vggt.models", "vggt.heads", "vggt.images", "vggt.layers"},
    "vggt.output_files": {"vggt.images", "vggt.point_cloud", "vggt.reconstruction"},
    "vggt.point_cloud": set(),
    "vggt.pose_encoding": {"vggt.rotation"},
    "vggt.reconstruction": {"vggt.geometry", "vggt.models", "vggt.pose_encoding"},
    "vggt.rotation": set(),
    "trellis_modules": set(),
    "trellis_modules.attention": {"trellis_modules.attention", "trellis_modules.norms", *TRELLIS_LEAVES},
    "trellis_modules.backends": set(),
    "trellis_modules.checkpoint": {"trellis_modules.models", *TRELLIS_LEAVES},
    "trellis_modules.config": set(),
    "trellis_modules.devices": set(),
    "trellis_modules.files": set(),
    "trellis_modules.flow_output": set(),
    "trellis_modules.gltf": set(),
    "trellis_modules.memory": set(),
    "trellis_modules.norms": {"trellis_modules.norms", *TRELLIS_LEAVES},
    "trellis_modules.models": {
        "trellis_modules.models",
        "trellis_modules.attention",
        "trellis_modules.renderers",
        "trellis_modules.representations",
        "trellis_modules.samplers",
        "trellis_modules.sparse",
        "trellis_modules.transformer",
        *TRELLIS_LEAVES,
    },
    "trellis_modules.postprocess": {
        "trellis_modules.postprocess",
        "trellis_modules.renderers",
        "trellis_modules.representations",
        *TRELLIS_LEAVES,
    },
    "trellis_modules.quaternions": set(),
    "trellis_modules.ragged": set(),
    "trellis_modules.renderers": {
        "trellis_modules.renderers",
        "trellis_modules.representations",
        *TRELLIS_LEAVES,
    },
    "trellis_modules.representations": {"trellis_modules.representations", *TRELLIS_LEAVES},
    "trellis_modules.samplers": {"trellis_modules.samplers", *TRELLIS_LEAVES},
    "trellis_modules.sparse": {"trellis_modules.sparse", *TRELLIS_LEAVES},
    "trellis_modules.transformer": {
        "trellis_modules.transformer",
        "trellis_modules.attention",
        "trellis_modules.norms",
        "trellis_modules.sparse",
        *TRELLIS_LEAVES,
    },
    "trellis_modules.workers": set(),
    "scenegen": set(),
    "scenegen.geometry": {"trellis_modules.quaternions"},
    "scenegen.models": {"scenegen.models", "scenegen.geometry", "trellis_modules"},
    "scenegen.models.registry": {"scenegen.models", "trellis_modules", "vggt"},  # lists every network by name
    "scenegen.inputs": {"scenegen.inputs", "trellis_modules.config", "trellis_modules.files"},
    "scenegen.datasets": {
        "scenegen.datasets",
        "scenegen.conditioning.image_preparation",
        "scenegen.conditioning.parts",
        "scenegen.geometry",
        "scenegen.inputs.coco_masks",
        "scenegen.inputs.cutouts",
        "scenegen.synthesis.furniture.split",
        "trellis_modules",
    },
    "scenegen.segmentation": {
        "scenegen.segmentation",
        "scenegen.inputs",
        "scenegen.hub",
        "trellis_modules",
    },
    "scenegen.conditioning": {"scenegen.conditioning", "scenegen.inputs", "trellis_modules", "vggt"},
    "scenegen.conditioning.parts": set(),
    "scenegen.conditioning.image_preparation": {
        "scenegen.inputs.cutouts",
        "trellis_modules.attention",
        "vggt.images",
    },
    "scenegen.checkpoints.roles": set(),
    "scenegen.hub": {
        "scenegen.hub",
        "scenegen.checkpoints.roles",
        "scenegen.models",
        "trellis_modules",
        "vggt",
    },
    "scenegen.checkpoints": {
        "scenegen.checkpoints",
        "scenegen.conditioning",
        "scenegen.confidence",
        "scenegen.hub",
        "scenegen.models",
        "trellis_modules",
        "vggt",
    },
    "scenegen.confidence": {"scenegen.confidence", "scenegen.geometry", "scenegen.photo", "trellis_modules"},
    "scenegen.photo": {
        "scenegen.photo",
        "scenegen.geometry",
        "scenegen.inputs",
        "trellis_modules.renderers",
    },
    "scenegen.pipelines": {
        "scenegen.pipelines",
        "scenegen.checkpoints",
        "scenegen.conditioning",
        "scenegen.confidence",
        "scenegen.geometry",
        "scenegen.hub",
        "scenegen.inputs",
        "scenegen.models.asset_groups",
        "scenegen.photo",
        "trellis_modules",
    },
    "scenegen.physics": {"scenegen.physics", "scenegen.geometry", "trellis_modules"},
    "scenegen.refinement.solid": {"scenegen.geometry", "trellis_modules"},
    "scenegen.refinement": {
        "scenegen.refinement",
        "scenegen.geometry",
        "scenegen.inputs",
        "scenegen.photo",
        "scenegen.physics",
        "scenegen.pipelines.result",
        "trellis_modules",
    },
    "scenegen.export.names": set(),
    "scenegen.export": {
        "scenegen.export",
        "scenegen.geometry",
        "scenegen.photo",
        "scenegen.physics",
        "scenegen.pipelines.assembly",
        "scenegen.pipelines.progress",
        "scenegen.pipelines.result",
        "trellis_modules",
    },
    "scenegen.export.state": {
        "scenegen.confidence",
        "scenegen.export",
        "scenegen.hub",
        "scenegen.inputs",
        "scenegen.photo",
        "scenegen.pipelines",
        "trellis_modules",
    },
    "scenegen.export.state_tensors": {
        "scenegen.confidence",
        "scenegen.export",
        "scenegen.geometry",
        "scenegen.inputs",
        "scenegen.photo",
        "scenegen.pipelines",
        "trellis_modules",
    },
    "scenegen.synthesis.furniture.split": set(),  # the one definition of the split, for all readers
    "scenegen.synthesis": {
        "scenegen.synthesis",
        "scenegen.conditioning",
        "scenegen.datasets",
        "scenegen.geometry",
        "scenegen.inputs",
        "scenegen.models",
        "trellis_modules",
    },
    "scenegen.trainers": {
        "scenegen.trainers",
        "scenegen.checkpoints",
        "scenegen.hub",
        "scenegen.synthesis",
        "scenegen.conditioning",
        "scenegen.datasets",
        "scenegen.geometry",
        "scenegen.models",
        "trellis_modules",
        "vggt",
    },
    "scenegen.blender": {"scenegen.blender"},
    "scenegen.evaluation": {
        "scenegen.evaluation",
        "scenegen.batch.engines.tasks",
        "scenegen.blender.program",
        "scenegen.export.names",
        "scenegen.geometry",
        "scenegen.inputs",
        "scenegen.photo",
        "scenegen.models",
        "scenegen.physics",
        "scenegen.refinement.solid",
        "trellis_modules",
    },
    "scenegen.batch.engines": {"scenegen.batch.engines"},
    "scenegen.stores": {"scenegen.stores", "scenegen.batch.engines.tasks", "trellis_modules.files"},
    "scenegen.batch": {"scenegen", "trellis_modules"},
    "scenegen.demo": {"scenegen", "trellis_modules"},
    "scenegen.cli": {"scenegen", "trellis_modules"},
    "scenegen.__main__": {"scenegen.cli"},
    "dataset_toolkits": set(PACKAGES),
    "scripts": {*PACKAGES, *SCRIPT_FOLDERS},
    "benchmarks": {*PACKAGES, *SCRIPT_FOLDERS, "tests.lookalike_root"},
    "examples": {"scenegen", "trellis_modules", "vggt"},
    "integrations.comfyui": {"scenegen", "integrations.comfyui"},
    "inference": {"scenegen"},
    "interactive_demo": {"scenegen"},
    "train": {"scenegen"},
    "evaluate": {"scenegen"},
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


def rule_of(module: str) -> str:
    """The key of `ALLOWED` that holds for a module."""
    return max((prefix for prefix in ALLOWED if is_inside(module, prefix)), key=len, default="")


def allowed_for(module: str) -> set[str]:
    """Modules and packages of the project that a module may import."""
    allowed = ALLOWED[rule_of(module)]
    return allowed if is_inside(module, FOR_ALL) else {*allowed, FOR_ALL}


def ruled_sources() -> list[Path]:
    """All code but the tests."""
    return [*sources(*PACKAGES, *SCRIPT_FOLDERS), *sorted(ROOT.glob("*.py"))]


def exists(name: str) -> bool:
    """Whether there is a module or a package of this name, with code in it."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or any(path.rglob("*.py"))


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
        for path in ruled_sources()
        for found in imports(path)
        if found.name.split(".")[0] in PROJECT_MODULES
        and not any(is_inside(found.name, prefix) for prefix in allowed_for(module_name(path)))
    ]
    assert not wrong, "\n".join(wrong)


def test_every_rule_names_code_that_exists():
    named = {*ALLOWED, *(prefix for prefixes in ALLOWED.values() for prefix in prefixes)}
    missing = sorted(name for name in named if not exists(name))
    assert not missing, f"rules for modules that do not exist hold nothing: {missing}"


def test_every_module_has_the_rule_of_its_own_package():
    """A library's module needs a rule below the library's name; other code one for its folder or file."""
    wrong = []
    for module in map(module_name, ruled_sources()):
        rule = rule_of(module)
        if not rule or (rule in LIBRARIES and module != rule):
            wrong.append(module)
    assert not wrong, f"no rule in ALLOWED for {wrong}"


@pytest.mark.parametrize(
    ("package", "never"),
    [
        ("scenegen.datasets", ("scenegen.synthesis.pictures", "scenegen.inputs.photos", "vggt")),
        ("scenegen.synthesis", ("scenegen.trainers", "scenegen.pipelines", "scenegen.export")),
        ("scenegen.trainers", ("scenegen.pipelines.texturing", "scenegen.export")),
        ("scenegen.hub", ("scenegen.checkpoints.networks", "scenegen.checkpoints.schema")),
    ],
)
def test_rules_stay_as_strict_as_the_layers_need(package, never):
    allowed = {name for rule, names in ALLOWED.items() if is_inside(rule, package) for name in names}
    loose = sorted(
        name for name in allowed for banned in never if is_inside(banned, name) or is_inside(name, banned)
    )
    assert all(map(exists, (package, *never))), "a module was renamed, and this test with it holds nothing"
    assert allowed and not loose, f"{package} may import {loose}"


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
    own = [path for path in sources(*LIBRARIES) if path.parent.name != BLENDER_FOLDER]
    modules = [module_name(path) for path in own if not needs_kernel(path)]
    program = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({optional!r}))\n"  # None makes an import fail as if not installed
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
