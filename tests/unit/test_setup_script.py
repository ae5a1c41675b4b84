"""setup.sh without installing anything: flags, messages, and the commands that it would run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ("xformers", "flash-attn", "spconv", "gsplat", "kaolin", "nvdiffrast", "diffoctreerast")
EXTRAS = ("demo", "background", "data", "train", "eval", "segment", "cutout", "dev")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what setup.sh reads, with no environment in it."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("setup.sh", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def fake_commands(tmp_path: Path):
    """Write commands that stand before the real ones on the PATH; returns the environment to use."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def write(**scripts: str) -> dict[str, str]:
        for name, body in scripts.items():
            command = folder / name.replace("_", "-")
            command.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
            command.chmod(0o755)
        return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    return write


def run_setup(checkout: Path, *flags: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    env = {"PYTHON": sys.executable, **(env or os.environ)}
    script = str(checkout / "setup.sh")
    return subprocess.run(
        ["bash", script, *flags], capture_output=True, text=True, cwd="/", env=env, timeout=60
    )


def test_help_describes_every_flag(checkout):
    parser = (ROOT / "setup.sh").read_text(encoding="utf-8").split("parse_flags()")[1].split("esac")[0]
    parsed = set(re.findall(r"--[a-z0-9-]+(?=[ )])", parser))
    described = set(re.findall(r"^  (--[a-z0-9-]+)", run_setup(checkout, "--help").stdout, re.MULTILINE))
    assert described == parsed
    assert {f"--{name}" for name in (*KERNELS, *EXTRAS)} <= described


def test_hints_name_flags_of_this_script_and_no_package_of_others():
    """On the package index, scenegen is another project."""
    flags = set(re.findall(r"--[a-z0-9-]+", (ROOT / "setup.sh").read_text(encoding="utf-8")))
    for folder in ("scenegen", "trellis_modules", "vggt", "safe_files", "dataset_toolkits", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"pip install '?scenegen", text), path
            assert set(re.findall(r"bash setup\.sh (--[a-z0-9-]+)", text)) <= flags, path


def test_unknown_flag_is_named_and_fails(checkout):
    result = run_setup(checkout, "--fastest")
    assert result.returncode == 2
    assert "--fastest" in result.stderr and "--help" in result.stderr


def test_flag_that_lacks_its_value_fails(checkout):
    assert run_setup(checkout, "--torch-index").returncode == 2


def test_dry_run_prints_the_commands_and_changes_nothing(checkout):
    before = sorted(checkout.iterdir())
    result = run_setup(checkout, "--dry-run", "--hub", "--xformers", "--spconv", "--run", "--test")
    assert result.returncode == 0, result.stderr
    commands = [line for line in result.stdout.splitlines() if line.startswith("+")]
    kernels = "install_kernels.py xformers spconv"
    expected = ["-m venv --clear", "pip install", r"dev\,hub", kernels, "inference.py", "-m pytest"]
    positions = [next(i for i, command in enumerate(commands) if part in command) for part in expected]
    assert positions == sorted(positions)
    assert sorted(checkout.iterdir()) == before


def test_long_tests_are_left_out_unless_asked_for(checkout):
    printed = [run_setup(checkout, "--dry-run", flag).stdout for flag in ("--test", "--test-all")]
    assert ["slow" in commands for commands in printed] == [False, True]


@pytest.mark.parametrize("name", EXTRAS)
def test_each_package_flag_installs_its_extra(checkout, name):
    assert f"[{name}]" in run_setup(checkout, "--dry-run", f"--{name}").stdout.replace("\\", "")


def test_sourcing_leaves_the_shell_alive_and_its_options_alone(checkout):
    script = f"'{checkout}/setup.sh'"
    program = f"source {script} --no-such-flag; echo status $?; echo options $-; source {script} --help"
    result = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60)
    assert "status 2" in result.stdout and "Usage:" in result.stdout
    options = re.search(r"options (\w+)", result.stdout)[1]
    assert not {"e", "u"} & set(options)


def test_too_old_python_is_refused(checkout, fake_commands, tmp_path):
    env = fake_commands(oldpython="exit 1") | {"PYTHON": str(tmp_path / "bin" / "oldpython")}
    result = run_setup(checkout, "--dry-run", env=env)
    assert result.returncode == 1
    assert "oldpython" in result.stderr and "3.10" in result.stderr


@pytest.mark.parametrize("user", ["root", "other"])
def test_missing_venv_module_is_installed_by_root_and_explained_to_others(
    checkout, fake_commands, tmp_path, user
):
    lacking_venv = f'case "$*" in *ensurepip*) exit 1;; esac\nexec "{sys.executable}" "$@"'
    env = fake_commands(barepython=lacking_venv, apt_get="exit 0", id=f"echo {0 if user == 'root' else 1000}")
    result = run_setup(checkout, "--dry-run", env=env | {"PYTHON": str(tmp_path / "bin" / "barepython")})
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if user == "root":
        assert result.returncode == 0, result.stderr
        assert re.search(rf"^\+ .*apt-get install .*{re.escape(package)}$", result.stdout, re.MULTILINE)
    else:
        assert result.returncode == 1
        assert f"sudo apt-get install {package}" in result.stderr


@pytest.mark.parametrize("flag", ["--new-env", "--basic", "--mipgaussian", "--vox2seq"])
def test_flags_of_the_published_installer_are_explained(checkout, flag):
    result = run_setup(checkout, "--dry-run", flag)
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("setup.sh: ")]
    assert line.startswith(f"setup.sh: {flag}: ")


def test_everything_is_every_extra_but_the_test_tools(checkout):
    output = run_setup(checkout, "--dry-run", "--all").stdout.replace("\\", "")
    (found,) = re.findall(r"a checkout\[([a-z,]+)\]", output)[:1]
    assert set(found.split(",")) == {*EXTRAS, "hub", "usd", "sim", "video", "heic"} - {"dev"}


def with_environment(checkout: Path, fake_python: str) -> None:
    """Put a Python that answers questions into .venv."""
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n{fake_python}\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)


def test_second_call_keeps_the_installed_pytorch(checkout):
    answers = 'case "$*" in *torch.__version__*) echo 99.1.0+cu128; exit 0;; *"pip install"*) exit 0;; esac'
    with_environment(checkout, answers)
    result = run_setup(checkout, "--dry-run")
    assert "Keeping PyTorch 99.1.0+cu128" in result.stdout, result.stderr
    assert not re.search(r"^\+ .* install .* torch$", result.stdout, re.MULTILINE)
    constraints = checkout / ".venv" / "constraints.txt"
    assert f"--constraint {constraints}" in result.stdout.replace("\\", "") and not constraints.exists()
    run_setup(checkout)
    assert re.search(r"^torch==99\.1\.0$", constraints.read_text(), re.MULTILINE)


def test_pytorch_that_is_too_old_is_replaced(checkout):
    with_environment(checkout, 'case "$*" in *torch.__version__*) echo 1.13.0; exit 0;; esac')
    output = run_setup(checkout, "--dry-run").stdout
    assert "Keeping" not in output and re.search(r"^\+ .* install .* torch$", output, re.MULTILINE)


def test_cuda_build_without_a_gpu_is_explained(checkout, fake_commands):
    answers = """case "$*" in
    *torch.__version__*|*"import torch"*) exit 1;;
    *"pip install"*) exit 0;;
    *"pip index"*) exit 1;;
    "- https"*) exit 1;;
    esac"""
    with_environment(checkout, answers)
    result = run_setup(checkout, env=fake_commands(nvidia_smi="exit 1"))
    assert "no NVIDIA GPU here, yet PyTorch comes as its CUDA build" in result.stdout
    assert "--torch-index URL names a mirror" in result.stdout
