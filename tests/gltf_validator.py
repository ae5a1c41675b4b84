"""The validator of the Khronos Group (Node package ``gltf-validator``), for tests of GLB files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = (
    "const content = new Uint8Array(require('fs').readFileSync(process.argv[1]));"
    "require('gltf-validator').validateBytes(content)"
    ".then(report => console.log(JSON.stringify(report.issues)))"
)


def modules() -> Path:
    """Where Node finds the package; skips the test where it does not."""
    places = [Path(each) for each in (os.environ.get("NODE_PATH", ""), ROOT / "node_modules") if each]
    found = next((path for path in places if (path / "gltf-validator").is_dir()), None)
    if shutil.which("node") is None or found is None:
        pytest.skip(
            "node and gltf-validator are not installed (npm install gltf-validator, NODE_PATH=node_modules)"
        )
    return found


def issues_of(path: Path) -> dict[str, Any]:
    """What the validator finds in a file: numErrors, numWarnings, messages, ..."""
    environment = {**os.environ, "NODE_PATH": str(modules())}
    process = subprocess.run(
        ["node", "-e", SCRIPT, path], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(process.stdout)


def errors_of(path: Path) -> list[dict[str, Any]]:
    """Errors in a file that may hold 3D Gaussians.

    The released validator does not know KHR_gaussian_splatting, and calls its attributes, which have names
    that only an extension may give, invalid; these are left out.
    """
    return [
        message
        for message in issues_of(path)["messages"]
        if message["severity"] == 0
        and not (
            message["code"] == "MESH_PRIMITIVE_INVALID_ATTRIBUTE"
            and "/attributes/KHR_gaussian_splatting:" in message["pointer"]
        )
    ]
