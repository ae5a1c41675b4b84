import pytest

from benchmarks import evaluation_tables
from scenegen.evaluation.report import build_report, write_json
from scenegen.evaluation.scene_list import ListedScenes
from scenegen.evaluation.settings import CORRECTED, PAPER, EvaluationSettings


def report(name, value):
    part = {
        "alignment": None,
        "metrics": {"scene_cd": value},
        "penalties": {},
        "left_out": None,
        "objects": [],
    }
    record = {
        "id": "s1",
        "status": "evaluated",
        "error": None,
        "warnings": [],
        "n_truth": 1,
        "n_prediction": 1,
        "n_matched": 1,
        "seconds": 1.0,
        "protocols": {PAPER: part, CORRECTED: part},
    }
    return build_report([record], EvaluationSettings(), ListedScenes.of("x", ["s1"]), {"prediction": name})


def test_every_method_has_a_row_by_both_protocols(tmp_path, monkeypatch):
    for name, value in (("small", 0.5), ("mean_shape", 0.75)):
        (tmp_path / name).mkdir()
        write_json(tmp_path / f"{name}.json", report(name, value))
    ran = []
    monkeypatch.setattr(evaluation_tables, "_run", lambda *arguments: ran.append(arguments) or 0)
    arguments = ["measure", "--truth", str(tmp_path), "--predictions", str(tmp_path)]
    assert evaluation_tables.main(arguments) == 0
    text = (tmp_path / "tables.md").read_text()
    assert text.count("| small | 0.5000 |") == text.count("| mean_shape | 0.7500 |") == 2
    assert "protocol: paper; 10240 points an object" in text and "FilterReg, one run as it is" in text
    assert len(ran) == 2 and all("--appearance" in command for command in ran)


def test_every_method_is_predicted_once(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(evaluation_tables, "_run", lambda *arguments: ran.append(arguments) or 0)
    arguments = ["predict", "--images", "i", "--pack", "p", "--predictions", str(tmp_path), "--limit", "3"]
    assert evaluation_tables.main(arguments) == 0
    assert len(ran) == 5 and all(command[-2:] == ("--limit", "3") for command in ran)
    assert sum("--no-scene-attention" in command for command in ran) == 2


def test_what_is_missing_ends_in_one_line(tmp_path, caplog, capsys):
    assert evaluation_tables.main(["measure", "--truth", "t", "--predictions", str(tmp_path)]) == 2
    assert "run predict first" in caplog.text
    with pytest.raises(SystemExit):
        evaluation_tables.main(["predict", "--images", "i", "--predictions", str(tmp_path)])
    assert "predict needs --pack" in capsys.readouterr().err
