"""What physics needs beside the core dependencies; nothing is imported here."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

PACKAGES = ("manifold3d",)
"""Of colliders ..."""

SIMULATION_PACKAGES = (*PACKAGES, "mujoco")
"""... of colliders and what becomes of them ..."""

EXTRA = "sim"
"""... and the extra of this project that installs them."""

DENSITY = 400.0
"""Kilograms a cubic metre: wood and upholstery with the air in them."""


class PhysicsUnavailable(RuntimeError):
    """A package that colliders or simulation need is not installed."""


def check_packages(packages: Sequence[str] = PACKAGES) -> None:
    """Make sure that packages are there.

    Raises:
        PhysicsUnavailable: one is not; the message says how to install it.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise PhysicsUnavailable(
                f"physics: expected the package {package!r}, which is not installed; "
                f"run bash setup.sh --{EXTRA}"
            )
