from scenegen.evaluation.headline import format_headline
from scenegen.evaluation.report import build_report
from scenegen.evaluation.scene_list import ListedScenes
from scenegen.evaluation.settings import CORRECTED, PAPER, EvaluationSettings
from tests.evaluation_records import evaluated_record


def headline(protocols):
    parts = {
        PAPER: {"scene_cd": 0.25, "render_psnr": 12.5},
        CORRECTED: {"scene_cd": 0.125, "scene_cd_unaligned": 0.5, "scene_cd_similarity": 0.0625},
    }
    record = evaluated_record("a", {name: parts[name] for name in protocols})
    settings = EvaluationSettings(protocols=protocols)
    return format_headline(build_report([record], settings, ListedScenes.of("x", ["a"]), {"prediction": "p"}))


def test_every_column_has_one_aligner_and_says_which():
    lines = headline((PAPER, CORRECTED)).splitlines()
    assert lines[0].startswith("list: x, 1 scenes, sha256 ")
    assert lines[1].startswith("paper: scene: FilterReg, one run as it is; each object: FilterReg")
    assert "1 of 1 scenes counted" in lines[1] and "missing ones count as worst" in lines[2]
    assert lines[3] == "as predicted: figures of the corrected protocol; none, as predicted"
    assert lines[5].split() == ["mean", "paper", "corrected", "as", "predicted"]
    assert lines[6].split() == ["scene_cd", "0.2500", "0.1250", "0.5000"]
    assert lines[7].split() == ["render_psnr", "12.5000"]


def test_one_protocol_has_its_columns_alone():
    text = headline((PAPER,))
    assert "corrected" not in text and "as predicted" not in text
