"""Every GLB of the example scenes, as the small model makes it, is valid to the Khronos validator."""

from pathlib import Path

import pytest

import inference
from scenegen.cli.bundled import bundled
from scenegen.hub.releases import SMALL_MODEL
from tests.gltf_validator import issues_of, modules

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.weights]


def check(paths):
    assert paths, "no GLB was written"
    faults = {path.name: found["messages"] for path in paths if (found := issues_of(path))["numErrors"]}
    assert not faults, faults


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--no-appearance"], id="plain"),
        pytest.param([], id="textured"),
        pytest.param(["--compress", "--texture-format", "jpeg", "--limit", "1"], id="compressed"),
    ],
)
def test_generated_scenes_and_objects(tmp_path, options):
    modules()
    if not Path(bundled(SMALL_MODEL)).is_dir():
        pytest.skip(f"{SMALL_MODEL} is not here")
    photos = str(ROOT / "assets" / "masked_images_test")
    arguments = ["--input", photos, "--output", str(tmp_path), "--formats", "glb,objects", *options]
    assert inference.main(arguments) == 0
    check(sorted(tmp_path.glob("*/*.glb")))


def test_true_scenes():
    check(sorted((ROOT / "assets" / "scene_test").glob("*.glb")))
