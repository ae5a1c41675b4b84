import csv
import json

import pytest

from scenegen.evaluation.comparison import EvaluationSettings
from scenegen.evaluation.report import bootstrap_interval, build_report, format_table, write_csv, write_json


def record(scene_id, status="evaluated", scene=None, objects=()):
    matched = status == "evaluated"
    figures = {"metrics": {"scene_fscore": scene}, "penalties": {}}
    if not matched:
        figures = {"metrics": {}, "penalties": {"scene_fscore": 0.0}}
    entries = [
        {
            "id": index,
            "matched": value is not None,
            "metrics": {} if value is None else {"iou_bbox": value},
            "penalties": {"iou_bbox": 0.0} if value is None else {},
        }
        for index, value in enumerate(objects)
    ]
    return {
        "id": scene_id,
        "status": status,
        "error": None if matched else f"{scene_id}: gone",
        "warnings": [],
        "n_truth": len(objects),
        "n_prediction": len(objects),
        "alignment": None,
        "seconds": 1.0,
        "objects": entries,
        **figures,
    }


@pytest.fixture
def report():
    records = [
        record("a", scene=0.9, objects=(0.8, 0.6)),
        record("b", scene=0.5, objects=(0.4, None, 0.2)),
        record("c", "missing", objects=(None,)),
    ]
    return build_report(records, EvaluationSettings(), {"prediction": "p", "truth": "t"})


def test_missing_scenes_and_objects_lower_the_mean_but_not_matched_only(report):
    everything, matched = report["summary"]["all"], report["summary"]["matched"]
    assert everything["scene_fscore"]["mean"] == pytest.approx(1.4 / 3)
    assert matched["scene_fscore"]["mean"] == pytest.approx(0.7)
    # Object figures are averaged over objects, not over scenes.
    assert everything["iou_bbox"]["mean"] == pytest.approx(2.0 / 6)
    assert everything["iou_bbox"]["median"] == pytest.approx(0.3)
    assert matched["iou_bbox"] == {**matched["iou_bbox"], "mean": pytest.approx(0.5), "count": 4}


def test_coverage_and_failures(report):
    assert report["coverage"] == {
        "scenes": 3,
        "evaluated": 2,
        "missing": 1,
        "failed": 0,
        "scene_coverage": pytest.approx(2 / 3),
        "objects": 6,
        "objects_matched": 4,
    }
    assert report["failures"] == [{"id": "c", "status": "missing", "error": "c: gone"}]


def test_interval_holds_the_mean_and_narrows_with_more_scenes():
    few = bootstrap_interval([[0.0], [1.0]] * 5)
    many = bootstrap_interval([[0.0], [1.0]] * 200)
    assert few[0] < many[0] < 0.5 < many[1] < few[1]
    assert many == bootstrap_interval([[0.0], [1.0]] * 200)


def test_interval_draws_whole_scenes():
    # Ten equal objects of one scene tell no more than one.
    assert bootstrap_interval([[0.0] * 10, [1.0] * 10] * 5) == bootstrap_interval([[0.0], [1.0]] * 5)


def test_files(report, tmp_path):
    write_json(tmp_path / "new" / "r.json", report)
    assert json.loads((tmp_path / "new" / "r.json").read_text())["coverage"]["missing"] == 1
    write_csv(tmp_path / "r.csv", report)
    with (tmp_path / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert float(rows[1]["iou_bbox"]) == pytest.approx(0.2) and rows[2]["scene_fscore"] == "0.0"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "r.csv"], "no temporary file is left"


def test_table_shows_coverage_and_known_metrics_only(report):
    table = format_table(report)
    assert "scenes 2/3 evaluated (1 missing, 0 failed), objects 4/6 matched" in table
    assert "iou_bbox " in table and "rotation_error_deg" not in table
