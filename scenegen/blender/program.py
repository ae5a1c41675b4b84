"""Blender as a separate headless program: one script, one job, one log, and an end to its time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXECUTABLE_VARIABLE = "SCENEGEN_BLENDER"
SCRIPTS = Path(__file__).parent / "blender_script"
_COMPLAINT = re.compile(r"\w*(?:Error|Exception)\b.*")


class BlenderError(RuntimeError):
    """Blender is missing, took too long, or did not do what it was asked for."""


def default_blender() -> str:
    """The Blender of the environment variable SCENEGEN_BLENDER, else the one on the search path."""
    return os.environ.get(EXECUTABLE_VARIABLE, "blender")


def run_blender(
    script: Path,
    job: Mapping[str, Any],
    log: Path,
    timeout: float | None = None,
    executable: str | None = None,
) -> None:
    """Run a script inside Blender.

    Args:
        script: Python file; it finds the path of the job as its argument after ``--``.
        job: what to do, written as JSON.
        log: file for Blender's output; kept when it fails, else removed.
        timeout: seconds after which Blender is ended; None waits for ever.
        executable: Blender 3.4 or newer; or a Python (its name begins with ``python``) that has the package
            ``bpy``. None takes `default_blender`.

    Raises:
        BlenderError: no such program, its time was over, or it ended with another status than 0; the message
            has the last error that it printed.
    """
    executable = executable or default_blender()
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        status = _status_of([*_command(executable, script), "--", str(path)], log, timeout)
    if status != 0:
        raise BlenderError(f"{executable} {_ending(status, timeout)}{_last_complaint(log)}; see {log}")
    log.unlink()


def _command(executable: str, script: Path) -> list[str]:
    if Path(executable).name.startswith("python"):
        return [executable, str(script)]
    return [executable, "-b", "--factory-startup", "--python-exit-code", "1", "--python", str(script)]


def _status_of(command: list[str], log: Path, timeout: float | None) -> int | None:
    """The status that a program ends with; None where it was ended because its time was over."""
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise BlenderError(
                f"{command[0]}: no such program ({error.strerror}); "
                "install Blender 3.4 or newer, or give --blender"
            ) from error
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:  # also when the keyboard interrupts
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _ending(status: int | None, timeout: float | None) -> str:
    if status is None:
        return f"took more than {timeout:g} s (--timeout)"
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


def _last_complaint(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    found = [line for line in _COMPLAINT.findall(text) if "script failed" not in line]  # which says no more
    return f": {found[-1].strip()}" if found else ""
