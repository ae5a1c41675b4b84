import csv
import json

import pytest

from scenegen.evaluation.report import bootstrap_interval, build_report, write_json
from scenegen.evaluation.scene_list import ListedScenes
from scenegen.evaluation.settings import CORRECTED, PAPER, EvaluationSettings
from scenegen.evaluation.tables import PAPER_COLUMNS, format_report, write_csv, write_markdown


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
        "n_matched": sum(entry["matched"] for entry in entries),
        "seconds": 1.0,
        "protocols": {
            PAPER: paper_part(scene, entries if matched and None not in objects else None),
            CORRECTED: {"alignment": None, "left_out": None, "objects": entries, **figures},
        },
    }


def paper_part(scene, entries):
    """What the paper's protocol has: nothing of scenes that lack an object."""
    nothing = {"alignment": None, "metrics": {}, "penalties": {}, "left_out": "gone", "objects": []}
    return nothing | (
        {"left_out": None, "metrics": {"scene_fscore": scene}, "objects": entries} if entries else {}
    )


@pytest.fixture
def report():
    records = [
        record("a", scene=0.9, objects=(0.8, 0.6)),
        record("b", scene=0.5, objects=(0.4, None, 0.2)),
        record("c", "missing", objects=(None,)),
    ]
    scenes = ListedScenes.of("truth", ["a", "b", "c"])
    return build_report(records, EvaluationSettings(), scenes, {"prediction": "p", "truth": "t"})


def test_missing_scenes_and_objects_lower_the_mean_but_not_matched_only(report):
    summary = report["protocols"][CORRECTED]["summary"]
    everything, matched = summary["all"], summary["matched"]
    assert everything["scene_fscore"]["mean"] == pytest.approx(1.4 / 3)
    assert matched["scene_fscore"]["mean"] == pytest.approx(0.7)
    # Object figures are averaged over objects, not over scenes.
    assert everything["iou_bbox"]["mean"] == pytest.approx(2.0 / 6)
    assert everything["iou_bbox"]["median"] == pytest.approx(0.3)
    assert everything["iou_bbox"]["mean_of_scenes"] == pytest.approx((0.7 + 0.2 + 0.0) / 3)
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
    assert float(rows[1]["corrected.iou_bbox"]) == pytest.approx(0.2)
    assert rows[2]["corrected.scene_fscore"] == "0.0" and rows[2]["paper.left_out"] == "gone"
    with (tmp_path / "r.objects.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == list("aabbbc")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["new", "r.csv", "r.objects.csv"], "no temporary file is left"


def test_tables_name_protocol_aligner_points_threshold_list_and_hash(report):
    table = format_report(report)
    assert "scenes 2/3 evaluated (1 missing, 0 failed), objects 4/6 matched" in table
    assert "protocol: paper; 10240 points an object; threshold 0.1" in table
    assert "1 of 3 scenes counted, 2 left out" in table
    assert f"list: truth, 3 scenes, sha256 {report['list']['sha256']}" in table
    assert "aligner, scene: FilterReg, one run as it is" in table
    assert "iou_bbox " in table and "rotation_error_deg" not in table


def test_markdown_has_the_columns_of_the_paper_in_its_order(report, tmp_path):
    write_markdown(tmp_path / "r.md", report)
    lines = (tmp_path / "r.md").read_text().splitlines()
    (columns, *_) = [line for line in lines if line.startswith("| method")]
    assert columns == "| method | scene_fscore (scene) | iou_bbox (scene) |"
    assert lines[lines.index(columns) + 2] == "| p | 0.9000 | 0.7000 |"
    order = ["scene_cd", "scene_fscore", "object_cd", "object_fscore", "iou_bbox"]
    assert list(PAPER_COLUMNS[:5]) == order
