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
        ("[", "expected a list of scenes, as JSON or one id a line"),
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
    for name in ("none.json", "none.txt"):
        with pytest.raises(EvaluationError, match="got no such file; check the path"):
            ListedScenes.load(tmp_path / name)


def test_one_id_a_line_is_a_list(tmp_path):
    path = tmp_path / "scenes.txt"
    path.write_text("b\n\n a \n")
    assert ListedScenes.load(path) == ListedScenes.of("scenes.txt", ["b", "a"])


@pytest.mark.parametrize(
    "content, message", [(b"", "one id a line"), (b"a\na", "every scene once"), (b"\xff", "no text")]
)
def test_other_texts_are_refused(tmp_path, content, message):
    path = tmp_path / "scenes.txt"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=message):
        ListedScenes.load(path)


def test_ids_alone_are_a_list(tmp_path):
    ids = ["b", "a"]
    (tmp_path / "list.json").write_text(json.dumps({"scenes": ids, "sha256": canonical_sha256(ids)}))
    assert ListedScenes.load(tmp_path / "list.json").ids == ("b", "a")
    assert ListedScenes.of("x", ids).sha256 == canonical_sha256(ids)
