"""Log lines and the summary of commands over many scenes."""

import subprocess
import sys
from pathlib import Path

import pytest

from scenegen.batch.scenes import SceneReport
from scenegen.cli.reports import count_statuses, summary


def test_summary_counts_and_explains_what_was_skipped():
    counts = count_statuses([SceneReport("a", "done"), SceneReport("b", "failed"), SceneReport("c", "done")])
    assert counts == {"done": 2, "skipped": 0, "failed": 1}
    assert summary(counts, Path("out"), ", peak memory 1.00 GiB") == (
        "2 done, 0 skipped, 1 failed in out, peak memory 1.00 GiB"
    )
    skipped = count_statuses([SceneReport("a")])
    assert summary(skipped, Path("out")).endswith("skipped, --overwrite makes skipped ones again")


def test_the_package_of_the_hub_stays_silent():
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra hub)")
    program = (
        "from scenegen.cli.reports import set_up_logging; set_up_logging()\n"
        "from huggingface_hub.utils import logging\n"  # loaded afterwards, as in a run
        "logging.get_logger('huggingface_hub.file_download').warning('retrying')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
