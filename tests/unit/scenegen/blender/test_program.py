"""Running a script in a separate program: its end, its time, its log and what it complained of."""

import stat
import sys
import time

import pytest

from scenegen.blender.program import BlenderError, default_blender, run_blender


@pytest.fixture
def script(tmp_path):
    """A script that does what its job says."""
    path = tmp_path / "script.py"
    path.write_text(
        "import json, sys, time\n"
        "job = json.load(open(sys.argv[sys.argv.index('--') + 1]))\n"
        "time.sleep(job['seconds'])\n"
        "open(job['output'], 'w').write(job['text'])\n"
    )
    return path


def test_a_python_gets_script_and_job(script, tmp_path):
    job = {"seconds": 0, "output": str(tmp_path / "out"), "text": 'a "quoted" path\'s text'}
    run_blender(script, job, tmp_path / "logs" / "log", 60, sys.executable)
    assert (tmp_path / "out").read_text() == job["text"]
    assert not (tmp_path / "logs" / "log").exists()


def test_a_program_gets_the_flags_of_blender(script, tmp_path, monkeypatch):
    program = tmp_path / "my blender"
    program.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/arguments"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("SCENEGEN_BLENDER", str(program))
    assert default_blender() == str(program)
    run_blender(script, {}, tmp_path / "log")
    given = (tmp_path / "arguments").read_text()
    assert given.startswith(f"-b --factory-startup --python-exit-code 1 --python {script} -- ")


def test_what_fails_is_named_with_its_last_error_and_its_log(script, tmp_path):
    log = tmp_path / "log"
    with pytest.raises(BlenderError, match=r"ended with status 1: KeyError: 'seconds'; see .*log"):
        run_blender(script, {}, log, 60, sys.executable)
    assert "Traceback" in log.read_text()


def test_time_that_is_over_ends_the_program_and_what_it_started(script, tmp_path):
    wrapper = tmp_path / "blender"
    wrapper.write_text(f'#!/bin/sh\n"{sys.executable}" "{script}" "$7" "$8"\n')
    wrapper.chmod(0o755)
    job = {"seconds": 2, "output": str(tmp_path / "out"), "text": "late"}
    with pytest.raises(BlenderError, match=r"took more than 0\.5 s \(--timeout\)"):
        run_blender(script, job, tmp_path / "log", 0.5, str(wrapper))
    time.sleep(2)
    assert not (tmp_path / "out").exists()


def test_missing_program_is_named(script, tmp_path):
    with pytest.raises(BlenderError, match="no-such-blender: no such program .*give --blender"):
        run_blender(script, {}, tmp_path / "log", executable="no-such-blender")
