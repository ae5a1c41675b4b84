"""The examples for clusters: their syntax, and that the commands in them are commands of this project."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from dataset_toolkits import voxelize
from scenegen.cli.inference_options import parse_arguments

ROOT = Path(__file__).resolve().parents[3]
SHELL = [
    "scripts/train.sh",
    *(f"scripts/slurm/{name}.sbatch" for name in ("train", "infer")),
    "scripts/docker/build.sh",
]
INSTRUCTIONS = {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "VOLUME", "CMD"}


@pytest.mark.parametrize("name", SHELL)
def test_shell_files_are_valid(name):
    result = subprocess.run(["bash", "-n", ROOT / name], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--nnodes", "none", "--rendezvous", "a:1"],
            "--nnodes: expected a number of hosts, or MIN:MAX, got 'none'",
        ),
        (["--nnodes", "2"], "--rendezvous: expected HOST:PORT of one of the hosts, got ''"),
        (["--rendezvous", "a:1"], "--nnodes: expected a number of hosts"),
        (["--nnodes"], "--nnodes needs a value"),
    ],
)
def test_hosts_that_cannot_be_meant_are_refused(arguments, expected):
    result = subprocess.run(["bash", ROOT / "scripts/train.sh", *arguments], capture_output=True, text=True)
    assert result.returncode == 2 and expected in result.stderr


@pytest.mark.parametrize(
    ("gpus", "processes"), [("8", ["8"]), ("0,2,3", ["3"]), ("0", ["1"])], ids=["number", "list", "cpu"]
)
def test_each_host_starts_its_processes(gpus, processes):
    given = [
        "--gpus",
        gpus,
        "--nnodes",
        "1:2",
        "--rendezvous",
        "host:29500",
        "--output",
        "out/run",
        "--tryrun",
    ]
    result = subprocess.run(
        ["bash", ROOT / "scripts/train.sh", *given],
        capture_output=True,
        text=True,
        env={"PYTHON": "echo", "PATH": "/usr/bin:/bin"},
    )
    words = result.stdout.split()
    assert words[:2] == ["-m", "torch.distributed.run"], result.stderr
    assert words[words.index("--nproc-per-node") + 1 :][:1] == processes
    assert words[words.index("--rdzv-endpoint") + 1] == "host:29500" and words[-1] == "--tryrun"
    assert ("--device" in words) is (gpus == "0")


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_images_are_pinned_run_as_nobody_special_and_hold_no_weights(kind):
    text = (ROOT / f"scripts/docker/{kind}.Dockerfile").read_text()
    lines = [line for line in re.sub(r"\\\n", " ", text).splitlines() if line and not line.startswith("#")]
    words = [line.split(maxsplit=1) for line in lines]
    assert {name for name, _ in words} <= INSTRUCTIONS
    order = [name for name, _ in words]
    assert order[:2] == ["ARG", "FROM"] and words[1][1].endswith("@${BASE_DIGEST}")
    assert order.index("USER") < max(index for index, name in enumerate(order) if name == "RUN")
    flags = re.findall(
        r"--[a-z-]+", next(line for name, line in words if name == "RUN" and "setup.sh" in line)
    )
    assert all(f"  {flag} " in (ROOT / "setup.sh").read_text() for flag in flags)
    assert "weights" not in " ".join(line for name, line in words if name == "COPY")


@pytest.fixture
def images(tmp_path):
    """Function (answer of the registry) -> how build.sh ended, and what Docker was told to build last."""
    folder, programs = tmp_path / "scripts" / "docker", tmp_path / "bin"
    shutil.copytree(ROOT / "scripts" / "docker", folder)
    programs.mkdir()
    told = tmp_path / "told"

    def build(answer: str | None):
        found = "exit 1" if answer is None else f"echo {answer}"
        program = programs / "docker"
        program.write_text(f'#!/bin/sh\nif [ "$1" = buildx ]; then {found}; else echo "$@" > {told}; fi\n')
        program.chmod(0o755)
        path = f"{programs}:{os.environ['PATH']}"
        command = ["bash", folder / "build.sh", "cpu"]
        result = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True)
        return result, told.read_text() if told.exists() else ""

    return build


def test_the_digest_of_the_base_is_looked_up_once_and_kept(images, tmp_path):
    digest = "sha256:" + "0a" * 32
    assert images(None)[0].returncode != 0  # no registry: nothing is kept, nothing is built
    result, told = images(digest)
    assert result.returncode == 0 and f"--build-arg BASE_DIGEST={digest} " in told
    result, told = images(None)
    assert result.returncode == 0 and f"--build-arg BASE_DIGEST={digest} " in told
    (tmp_path / "scripts" / "docker" / "base.digest").write_text("latest\n")
    result, _ = images(digest)
    assert result.returncode == 1
    assert "expected sha256: and 64 digits, got 'latest'; remove the file" in result.stderr


def test_the_digest_can_be_looked_up_by_hand_as_the_build_does():
    (base,) = re.findall(r"^BASE=(\S+)$", (ROOT / "scripts/docker/build.sh").read_text(), re.MULTILINE)
    command = f"docker buildx imagetools inspect {base} --format '{{{{.Manifest.Digest}}}}'"
    assert command in (ROOT / "scripts/docker/README.md").read_text()


def _documents(name: str):
    yaml = pytest.importorskip("yaml", reason="needs the package pyyaml: bash setup.sh --eval")
    return yaml.safe_load((ROOT / "scripts/kubernetes" / name).read_text())


def _pods(node):
    """Every pod that a description starts."""
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        for value in node.values():
            yield from _pods(value)


def test_kubernetes_examples_call_commands_of_this_project():
    job, batch = _documents("toolkits.yaml"), _documents("batch.yaml")
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    (script,) = job["spec"]["template"]["spec"]["containers"][0]["args"]
    shown = script.replace("$ROOT", "s3://bucket/root").replace("$JOB_COMPLETION_INDEX", "3")
    python, path, *arguments = shlex.split(shown)
    assert (python, path) == ("python", "dataset_toolkits/voxelize.py")
    options = voxelize.parse_arguments(arguments)
    assert (options.rank, options.world_size) == (3, job["spec"]["completions"]) and str(
        options.root_url
    ) == "s3://bucket/root"
    assert batch["kind"] == "RayJob"
    _, path, *arguments = shlex.split(batch["spec"]["entrypoint"])
    options = parse_arguments("", arguments)
    assert (path, options.engine, str(options.output_url)) == ("inference.py", "ray", "s3://bucket/scenes")
    for pod in (pod for document in (job, batch) for pod in _pods(document)):
        assert (
            pod["securityContext"]["runAsNonRoot"] and pod["containers"][0]["resources"]["limits"]["memory"]
        )
