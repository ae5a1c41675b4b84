import json

import pytest

from scenegen.evaluation.differences import compare_reports, format_differences, read_report
from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.report import build_report, write_json
from scenegen.evaluation.scene_list import ListedScenes
from scenegen.evaluation.settings import CORRECTED, EvaluationSettings
from tests.evaluation_records import evaluated_record

CORRECTED_ALONE = EvaluationSettings(protocols=(CORRECTED,))
IDS = [f"s{index}" for index in range(12)]


def report(shift, settings=CORRECTED_ALONE, ids=IDS):
    records = [
        evaluated_record(
            scene_id,
            {
                CORRECTED: {
                    "scene_cd": index + shift,
                    "scene_fscore": 0.5,
                    "render_psnr": float("inf"),
                }
            },
        )
        for index, scene_id in enumerate(ids)
    ]
    return build_report(records, settings, ListedScenes.of("list", ids), {"prediction": f"by {shift}"})


def test_differences_are_paired():
    """Scenes differ by far more than the methods; pairs see the difference all the same."""
    found = compare_reports(report(0.0), report(0.25))
    figures = found["protocols"][CORRECTED]
    assert figures["scene_cd"]["difference"] == pytest.approx(0.25)
    assert figures["scene_cd"]["ci95"] == pytest.approx([0.25, 0.25])
    assert figures["scene_fscore"]["ci95"] == [0, 0] and "render_psnr" not in figures
    lines = format_differences(found).splitlines()
    assert any(line.startswith("scene_cd ") and line.endswith("*") for line in lines)
    assert not any(line.startswith("scene_fscore") and line.endswith("*") for line in lines)


def test_reports_come_back_from_their_files(tmp_path):
    write_json(tmp_path / "a.json", report(0.0))
    assert read_report(tmp_path / "a.json")["scenes"] == report(0.0)["scenes"]
    json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    for content in ("[", "[]", '{"format": 1}'):
        (tmp_path / "b.json").write_text(content)
        with pytest.raises(EvaluationError, match="b.json: expected a report"):
            read_report(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (report(0.0, EvaluationSettings(5, protocols=(CORRECTED,))), "expected one num_points"),
        (report(0.0, ids=IDS[:3]), "one list of scenes"),
        (report(0.0) | {"protocols": {}}, "a protocol that both reports have"),
    ],
)
def test_other_ways_of_measuring_are_refused(other, message):
    with pytest.raises(EvaluationError, match=message):
        compare_reports(report(0.0), other)
