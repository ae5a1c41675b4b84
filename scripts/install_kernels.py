"""Install optional GPU kernels into the running Python, each checked against its PyTorch, CUDA and Python.

    python scripts/install_kernels.py [--dry-run] KERNEL...

A kernel without a build for this machine is reported and the others go on. Exit status 3: some are missing.
"""

from __future__ import annotations

import logging
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata

from scenegen.cli.parser import CommandParser

logger = logging.getLogger("install_kernels")

EXIT_MISSING = 3
BINARY_ONLY = "--only-binary=:all:"
PYTORCH_WHEELS = "https://download.pytorch.org/whl"
KAOLIN_WHEELS = "https://nvidia-kaolin.s3.us-east-2.amazonaws.com"
SPCONV_CUDA_12_BUILDS = (0, 1, 4, 6)  # minor versions of CUDA 12 that spconv has wheels for


class NoBuild(Exception):
    """There is no build of a kernel for this machine; the message says why and what to do."""


@dataclass(frozen=True)
class Machine:
    """What decides whether a kernel can be installed.

    Attributes:
        torch: installed version of PyTorch without its local tag, e.g. "2.13.0".
        cuda: CUDA version of that PyTorch, (major, minor), or None for a CPU build.
        nvcc: version of the CUDA compiler on the PATH, (major, minor), or None.
    """

    torch: str
    cuda: tuple[int, int] | None
    nvcc: tuple[int, int] | None

    @property
    def cuda_tag(self) -> str:
        """CUDA version as wheel indexes write it, e.g. "cu126"."""
        return "cu" + "".join(map(str, self.require_cuda()))

    def require_cuda(self) -> tuple[int, int]:
        """CUDA version of PyTorch; raises NoBuild for a CPU build."""
        if self.cuda is None:
            raise NoBuild(
                f"needs PyTorch with CUDA, got a CPU build of torch {self.torch}; it is not needed on a CPU"
            )
        return self.cuda

    def require_compiler(self) -> None:
        """Raise NoBuild unless nvcc has the CUDA major version of PyTorch."""
        cuda = self.require_cuda()
        if self.nvcc is None or self.nvcc[0] != cuda[0]:
            found = "none" if self.nvcc is None else "{}.{}".format(*self.nvcc)
            raise NoBuild(
                f"is compiled here and needs nvcc of CUDA {cuda[0]}.x, got {found}; "
                "install that CUDA toolkit and put nvcc on the PATH"
            )


def xformers_arguments(machine: Machine) -> list[str]:
    """Wheel built for exactly this PyTorch, from PyTorch's own index."""
    index = f"{PYTORCH_WHEELS}/{machine.cuda_tag}"
    return [BINARY_ONLY, "--extra-index-url", index, "xformers", f"torch=={machine.torch}"]


def flash_attn_arguments(machine: Machine) -> list[str]:
    """Source build against the installed PyTorch."""
    machine.require_compiler()
    return ["--no-build-isolation", "flash-attn"]


def spconv_arguments(machine: Machine) -> list[str]:
    """Wheel of the newest CUDA minor version that is not newer than PyTorch's."""
    major, minor = machine.require_cuda()
    if (major, minor) == (11, 8):
        return [BINARY_ONLY, "spconv-cu118"]
    if major != 12:
        raise NoBuild(
            f"has builds for CUDA 11.8 and 12.x, got {major}.{minor}; "
            f"remove .venv and run setup.sh with --torch-index {PYTORCH_WHEELS}/cu126"
        )
    build = max(m for m in SPCONV_CUDA_12_BUILDS if m <= minor)
    return [BINARY_ONLY, f"spconv-cu12{build}"]


def gsplat_arguments(machine: Machine) -> list[str]:
    """Wheel of sources, which the package compiles when its kernels are first used."""
    machine.require_compiler()
    return [BINARY_ONLY, "gsplat>=1.5"]


def kaolin_arguments(machine: Machine) -> list[str]:
    """Wheel from NVIDIA's page for this PyTorch and CUDA; version 0.1 elsewhere is a placeholder."""
    page = f"{KAOLIN_WHEELS}/torch-{machine.torch}_{machine.cuda_tag}.html"
    return [BINARY_ONLY, "--find-links", page, "kaolin>=0.15", f"torch=={machine.torch}"]


def nvdiffrast_arguments(machine: Machine) -> list[str]:
    """Source build. Its licence allows research and evaluation only."""
    machine.require_compiler()
    return ["--no-build-isolation", "git+https://github.com/NVlabs/nvdiffrast@v0.3.3"]


def diffoctreerast_arguments(machine: Machine) -> list[str]:
    """Source build of the head, as there is no tagged release; checked with commit b09c20b.

    Its licence allows research and evaluation only. Pip fetches the headers that it needs as a submodule.
    """
    machine.require_compiler()
    return ["--no-build-isolation", "git+https://github.com/JeffreyXiang/diffoctreerast"]


@dataclass(frozen=True)
class Kernel:
    """How to install one kernel and which module proves that it loads."""

    module: str
    pip_arguments: Callable[[Machine], list[str]]


KERNELS = {
    "xformers": Kernel("xformers.ops", xformers_arguments),
    "flash-attn": Kernel("flash_attn", flash_attn_arguments),
    "spconv": Kernel("spconv.pytorch", spconv_arguments),
    "gsplat": Kernel("gsplat", gsplat_arguments),
    "kaolin": Kernel("kaolin", kaolin_arguments),
    "nvdiffrast": Kernel("nvdiffrast.torch", nvdiffrast_arguments),
    "diffoctreerast": Kernel("diffoctreerast", diffoctreerast_arguments),
}


def parse_version(text: str) -> tuple[int, int] | None:
    """First "major.minor" in a text, or None."""
    match = re.search(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def inspect_machine() -> Machine:
    """Read the versions of the installed PyTorch and of nvcc."""
    import torch

    nvcc = None
    if shutil.which("nvcc"):
        report = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
        nvcc = parse_version(report.partition("release")[2])
    version = metadata.version("torch").partition("+")[0]
    return Machine(torch=version, cuda=parse_version(torch.version.cuda or ""), nvcc=nvcc)


def install(name: str, machine: Machine, dry_run: bool) -> None:
    """Install one kernel and import it once.

    Raises:
        NoBuild: no build fits this machine, pip found none, or the installed one does not load.
    """
    kernel = KERNELS[name]
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command = pip + kernel.pip_arguments(machine)
    if dry_run:
        print("+", shlex.join(command))
        return
    if "--no-build-isolation" in command:
        subprocess.run([*pip, "--quiet", "ninja", "packaging", "psutil", "setuptools", "wheel"], check=True)
    stack = f"torch {machine.torch}, {machine.cuda_tag}, Python {platform.python_version()}"
    if subprocess.run(command, check=False).returncode != 0:
        raise NoBuild(f"pip found or made no build for {stack}; its messages are above")
    loaded = subprocess.run([sys.executable, "-c", f"import {kernel.module}"], capture_output=True, text=True)
    if loaded.returncode != 0:
        raise NoBuild(
            f"was installed but does not load with {stack}: {loaded.stderr.strip().splitlines()[-1]}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Install the named kernels; returns the exit status."""
    parser = CommandParser(__doc__)
    parser.add_argument("kernels", nargs="+", choices=KERNELS, metavar="KERNEL", help=", ".join(KERNELS))
    parser.add_argument("--dry-run", action="store_true", help="print the pip commands, change nothing")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    machine = inspect_machine()
    missing = 0
    for name in args.kernels:
        try:
            install(name, machine, args.dry_run)
        except NoBuild as reason:
            logger.warning("%s: %s", name, reason)
            missing += 1
    return EXIT_MISSING if missing else 0


if __name__ == "__main__":
    sys.exit(main())
