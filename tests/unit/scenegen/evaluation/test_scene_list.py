import json
from pathlib import Path

import pytest

from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.scene_list import ListedScenes, canonical_sha256

ROOT = Path(__file__).resolve().parents[4]


def test_the_list_of_test_scenes_is_one():
    listed = ListedScenes.load(ROOT / "benchmarks" / "test_scenes.json")
    assert len(listed.ids) == 200 and listed.ids[0] == "test_0000"
    assert str(listed.first(24)) == "test_scenes.json (first 24 of 200 scenes, sha256 6881e24da1c8d0c9)"
    assert listed.first(24).sha256 == listed.sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "expected a list of scenes as JSON"),
        ("[]", "another form"),
        ('{"scenes": []}', "another form"),
        ('{"scenes": ["a"]}', "another form"),
        ('{"scenes": ["a", "a"], "sha256": "0"}', "every scene once"),
        ('{"scenes": [{"id": "a"}], "sha256": "0"}', "every scene once"),
        ('{"scenes": ["a"], "sha256": "0"}', "expected scenes with sha256 0, got"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(EvaluationError, match=message) as raised:
        ListedScenes.load(tmp_path / "list.json")
    assert "list.json" in str(raised.value) and "\n" not in str(raised.value)


def test_absent_list_is_told(tmp_path):
    with pytest.raises(EvaluationError, match="check the path"):
        ListedScenes.load(tmp_path / "none.json")


def test_ids_alone_are_a_list(tmp_path):
    ids = ["b", "a"]
    (tmp_path / "list.json").write_text(json.dumps({"scenes": ids, "sha256": canonical_sha256(ids)}))
    assert ListedScenes.load(tmp_path / "list.json").ids == ("b", "a")
    assert ListedScenes.of("x", ids).sha256 == canonical_sha256(ids)
