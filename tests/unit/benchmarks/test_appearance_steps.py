"""Sampling steps of the appearance flow: the commands that are run, and the table."""

from pathlib import Path

import pytest

from benchmarks import appearance_steps
from scenegen.evaluation.report import build_report, write_json
from scenegen.evaluation.scene_list import ListedScenes
from scenegen.evaluation.settings import CORRECTED, EvaluationSettings
from tests.evaluation_records import evaluated_record


def report(decibels):
    figures = {"colour_psnr": decibels, "colour_psnr_flat": decibels + 1}
    record = evaluated_record("s1", {CORRECTED: figures})
    settings = EvaluationSettings(protocols=(CORRECTED,))
    return build_report([record], settings, ListedScenes.of("x", ["s1"]), {"prediction": "x"})


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """Commands in place of which nothing runs, and a page of its own."""
    commands = []
    monkeypatch.setattr(appearance_steps, "run_together", lambda several: commands.extend(several) or 0)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{appearance_steps.BEGIN}\nold\n{appearance_steps.END}\nafter\n")
    monkeypatch.setattr(appearance_steps, "PAGE", page)
    return commands


def test_every_number_of_steps_is_made_measured_and_compared(ran, tmp_path):
    for steps, decibels in ((2, 19.0), (6, 17.5)):
        write_json(tmp_path / f"steps_{steps}.json", report(decibels))
    arguments = ["--root", str(tmp_path), "--output", str(tmp_path), "--steps", "6", "2", "--limit", "3"]
    assert appearance_steps.main(arguments) == 0
    assert [command[0] for command in ran] == ["inference.py", "evaluate.py"] * 2
    assert "--slat-steps" in ran[0] and ran[0][ran[0].index("--slat-steps") + 1] == "6"
    assert str(Path(appearance_steps.LIST)) in ran[1] and str(tmp_path / "scene_validation_steps_6") in ran[1]
    text = appearance_steps.PAGE.read_text()
    assert "old" not in text and text.startswith("before") and text.endswith("after\n")
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert [row.split(" | ")[0] for row in rows] == ["| 2", "| 6"]
    assert "19.00 (19.00 to 19.00) | 20.00" in rows[0] and rows[1].endswith("| 1.50 (1.50 to 1.50) |")


def test_a_dry_run_changes_nothing(ran, tmp_path, capsys):
    write_json(tmp_path / "steps_2.json", report(19.0))
    before = appearance_steps.PAGE.read_text()
    arguments = ["--root", str(tmp_path), "--output", str(tmp_path), "--steps", "2", "--dry-run"]
    assert appearance_steps.main(arguments) == 0
    assert not ran and "19.00" in capsys.readouterr().out and appearance_steps.PAGE.read_text() == before


def test_missing_reports_are_named(ran, tmp_path, caplog):
    arguments = ["--root", str(tmp_path), "--output", str(tmp_path), "--steps", "2", "--dry-run"]
    assert appearance_steps.main(arguments) == 2
    assert "steps_2.json" in caplog.text
