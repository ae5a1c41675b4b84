from pathlib import Path

import pytest

from benchmarks import evaluation_tables
from scenegen.evaluation.report import build_report, write_json
from scenegen.evaluation.scene_list import ListedScenes
from scenegen.evaluation.settings import CORRECTED, PAPER, EvaluationSettings
from tests.evaluation_records import evaluated_record


def report(name, value):
    record = evaluated_record("s1", {protocol: {"scene_cd": value} for protocol in (PAPER, CORRECTED)})
    return build_report([record], EvaluationSettings(), ListedScenes.of("x", ["s1"]), {"prediction": name})


@pytest.fixture
def ran(monkeypatch):
    """Commands in place of which nothing runs."""
    commands = []
    monkeypatch.setattr(evaluation_tables, "run_together", lambda several: commands.append(several) or 0)
    return commands


def test_every_method_has_a_column_by_both_protocols(tmp_path, ran):
    for name, value in (("small", 0.5), ("mean_shape", 0.75)):
        (tmp_path / f"scene_test_{name}").mkdir()
        write_json(tmp_path / "out" / f"{name}.json", report(name, value))
    arguments = ["measure", "--root", str(tmp_path), "--output", str(tmp_path / "out")]
    assert evaluation_tables.main(arguments) == 0
    text = (tmp_path / "out" / "tables.md").read_text()
    assert "| figure | small, paper | small, corrected | mean_shape, paper | mean_shape, corrected |" in text
    one, other = "0.500 (0.500 to 0.500)", "0.750 (0.750 to 0.750)"
    assert f"| `scene_cd` | {one} | {one} | {other} | {other} |" in text
    assert "| paper | `scene_cd` | 0.500 | 0.750 | +0.2500 | +0.2500 to +0.2500 |" in text
    assert "protocol: paper; 10240 points an object" in text and "FilterReg, one run as it is" in text
    pictures = str(tmp_path / "out" / "pictures")
    assert len(ran) == 2 and all("--appearance" in command and pictures in command for [command] in ran)


def test_tables_are_written_between_the_marks(tmp_path, monkeypatch, caplog):
    page = tmp_path / "page.md"
    monkeypatch.setattr(evaluation_tables, "PAGE", page)
    write_json(tmp_path / "small.json", report("small", 0.5))
    page.write_text(f"before\n{evaluation_tables.BEGIN}\nof last year\n{evaluation_tables.END}\nafter\n")
    for _ in range(2):
        assert evaluation_tables.main(["insert", "--output", str(tmp_path)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!--") and text.endswith("-->\nafter\n") and "last year" not in text
    assert text.count("| `scene_cd` |") == 1
    page.write_text("no marks")
    assert evaluation_tables.main(["insert", "--output", str(tmp_path)]) == 2
    assert "expected the marks" in caplog.text and page.read_text() == "no marks"


def test_missing_scenes_are_dealt_out_among_processes(tmp_path, monkeypatch):
    folder = tmp_path / "scene_test_small"
    folder.mkdir()
    for name in ("test_0000.glb", "test_0000.json", "test_0001.glb"):  # the second one was interrupted
        (folder / name).touch()
    dealt = []

    def read(commands):
        dealt.extend(Path(command[command.index("--only") + 1]).read_text().split() for command in commands)
        return 0

    monkeypatch.setattr(evaluation_tables, "run_together", read)
    arguments = ["predict", "--root", str(tmp_path), "--methods", "small", "--processes", "3", "--limit", "6"]
    assert evaluation_tables.main(arguments) == 0
    assert dealt == [["test_0001", "test_0004"], ["test_0002", "test_0005"], ["test_0003"]]


def test_every_method_is_predicted_once(tmp_path, ran):
    arguments = ["predict", "--root", str(tmp_path), "--pack", "p", "--limit", "3", "--processes", "1"]
    assert evaluation_tables.main(arguments) == 0
    assert [len(commands) for commands in ran] == [1] * 5
    assert sum("--no-scene-attention" in command for [command] in ran) == 2
    assert sum("--no-appearance" in command for [command] in ran) == 2
    assert [command for [command] in ran if "benchmarks.mean_shape_baseline" in command]


def test_commands_run_side_by_side_and_the_worst_status_counts():
    commands = [["-c", f"raise SystemExit({status})"] for status in (0, 3, 1)]
    assert evaluation_tables.run_together(commands) == 3


def test_what_is_missing_ends_in_one_line(tmp_path, caplog, capsys):
    arguments = ["measure", "--root", str(tmp_path), "--output", str(tmp_path)]
    assert evaluation_tables.main(arguments) == 2
    assert "run predict first" in caplog.text
    for step, message in (("measure", "measure needs --output"), ("predict", "mean_shape needs --pack")):
        with pytest.raises(SystemExit):
            evaluation_tables.main([step, "--root", str(tmp_path)])
        assert message in capsys.readouterr().err
