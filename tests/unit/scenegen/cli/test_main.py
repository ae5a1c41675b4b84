"""The command ``scenegen``: its table, what it loads and when, and that the scripts are the same commands."""

import gc
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

import scenegen
from scenegen.cli import bundled
from scenegen.cli import main as entry

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).resolve().parents[4]
SCRIPTS = {
    "inference": "infer",
    "evaluate": "evaluate",
    "train": "train",
    "scripts.download_checkpoints": "download",
}


@pytest.fixture
def loaded(monkeypatch):
    """Replace the modules of commands, and note what is loaded and called with which environment."""
    calls = []

    def load(module):
        environment = {name: os.environ.get(name) for name in entry.NETWORKS_ENVIRONMENT}

        def main(arguments, prog):
            calls.append((module, arguments, prog, environment))
            return 7

        return SimpleNamespace(main=main)

    for variable in entry.NETWORKS_ENVIRONMENT:
        monkeypatch.setenv(variable, "")  # so that the variable is restored afterwards
        monkeypatch.delenv(variable)
    monkeypatch.setattr(entry, "import_module", load)
    return calls


def test_the_installed_command_is_this_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["scenegen"].partition(":")
    assert getattr(import_module(module), function) is entry.main


def test_a_command_gets_the_rest_of_the_line(loaded):
    assert entry.main(["evaluate", "--truth", "a", "--", "b"]) == 7
    ((module, arguments, prog, _),) = loaded
    assert (module, arguments) == ("scenegen.cli.evaluate", ["--truth", "a", "--", "b"])
    assert prog == "scenegen evaluate"


@pytest.mark.parametrize(("script", "command"), SCRIPTS.items())
def test_scripts_are_the_same_commands(loaded, script, command):
    assert import_module(script).main(["--limit", "1"]) == 7
    ((module, arguments, prog, _),) = loaded
    assert (module, arguments, prog) == (f"scenegen.cli.{command}", ["--limit", "1"], None)


@pytest.mark.parametrize("command", ["infer", "segment"])
def test_the_environment_is_set_before_a_command_that_runs_networks_is_loaded(loaded, command):
    entry.main([command])
    assert loaded[0][3] == {"OMP_WAIT_POLICY": "PASSIVE", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def test_the_environment_of_the_user_counts_more(loaded, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    entry.main(["infer"])
    assert loaded[0][3]["OMP_WAIT_POLICY"] == "ACTIVE"


def test_commands_that_run_no_networks_leave_the_environment(loaded):
    entry.main(["evaluate"])
    assert set(loaded[0][3].values()) == {None}


def test_garbage_is_collected_again_once_a_command_is_loaded(monkeypatch):
    def load(module):
        assert not gc.isenabled()
        raise ImportError(module)

    monkeypatch.setattr(entry, "import_module", load)
    try:
        with pytest.raises(ImportError):
            entry.main(["infer"])
        assert gc.isenabled()
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["inferr"], "argument COMMAND: invalid choice: 'inferr'"),
        (["--limit"], "the following arguments are required: COMMAND"),
    ],
)
def test_no_such_command_is_one_line_and_status_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_:
        entry.main(arguments)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"scenegen: error: {message}")


def test_help_lists_every_command_and_loads_no_heavy_package():
    program = (
        "import sys, runpy\n"
        "sys.argv = ['scenegen', '--help']\n"
        "try: runpy.run_module('scenegen', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "import inference, evaluate, train\n"
        "heavy = {'torch', 'numpy', 'PIL', 'trimesh', 'tqdm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for name, command in entry.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.about)}$", result.stdout, re.MULTILINE)


def test_version_names_what_a_report_should_name(capsys):
    assert entry.main(["version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"scenegen {scenegen.__version__} in {Path(scenegen.__file__).parent}"
    assert lines[1].startswith("Python 3.") and any(line.startswith("torch ") for line in lines)


def test_the_citation_names_the_same_version():
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {scenegen.__version__}" in lines


def test_what_a_checkout_bundles_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bundled.bundled("checkpoints/scenegen-small") == str(ROOT / "checkpoints/scenegen-small")
    (tmp_path / "checkpoints/scenegen-small").mkdir(parents=True)
    assert bundled.bundled("checkpoints/scenegen-small") == "checkpoints/scenegen-small"
    assert bundled.bundled("checkpoints/none") == "checkpoints/none"
