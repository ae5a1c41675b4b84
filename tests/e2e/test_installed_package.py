"""The package as a wheel installs it: commands, data files and bundled things outside of a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("scenegen", "trellis_modules", "vggt", "safe_files", "dataset_toolkits")
FILES = ("pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the content of the wheel."""
    pytest.importorskip("setuptools", minversion="77", reason="setuptools 77 is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build writes beside its sources
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder))
    command = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def scenegen(site, tmp_path):
    """Run the installed command in an empty folder; (status, output, last line of the errors)."""

    def run(*arguments):
        program = "import sys; from scenegen.cli.main import main; sys.exit(main())"
        result = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
        )
        return result.returncode, result.stdout, (result.stderr.splitlines() or [""])[-1]

    return run


def test_the_wheel_holds_the_command_the_data_and_the_marks_of_types(site):
    (metadata,) = site.glob("*.dist-info")
    assert "scenegen = scenegen.cli.main:main" in (metadata / "entry_points.txt").read_text()
    for package in ("scenegen", "trellis_modules", "vggt"):
        assert (site / package / "py.typed").is_file()
    assert (site / "scenegen" / "hub" / "releases.json").is_file()
    assert (site / "scenegen" / "blender" / "blender_script" / "render_scene.py").is_file()


def test_photos_become_scenes(scenegen, site, tmp_path, shared_checkpoint, write_scene):
    assert str(site) in scenegen("version")[1]
    photos = write_scene(tmp_path / "photos" / "room", 2).parent
    paths = ("--input", photos, "--checkpoint", shared_checkpoint, "--formats", "glb")
    status, output, _ = scenegen("infer", *paths)
    assert status == 0 and output.startswith("1 done, 0 skipped, 0 failed in outputs")
    assert (tmp_path / "outputs" / "room" / "scene.glb").is_file()


def test_what_only_a_checkout_has_is_one_line(scenegen, tmp_path, write_scene):
    status, _, line = scenegen("infer")
    assert status == 2
    assert line.startswith("ERROR: assets/masked_images_test: expected the example scenes, found none")
    status, _, line = scenegen("infer", "--input", write_scene(tmp_path / "room", 1))
    assert status == 2 and line.startswith("ERROR: checkpoints/scenegen-small/pipeline.json: expected a")
    assert "the small model comes with the source code" in line and "--checkpoint" in line
