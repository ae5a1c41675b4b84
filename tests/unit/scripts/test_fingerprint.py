"""The comparison of two commits: what it is compared with is read before minutes of work."""

from pathlib import Path

import pytest

from scripts import fingerprint


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), ("[", "not valid JSON")])
def test_a_record_that_cannot_be_read_is_told_at_once(
    tmp_path: Path, capsys, monkeypatch, content, says
) -> None:
    monkeypatch.setattr(fingerprint, "fingerprint", lambda folder: pytest.fail("worked before it looked"))
    other = tmp_path / "other.json"
    if content is not None:
        other.write_text(content)
    with pytest.raises(SystemExit):
        fingerprint.main(["--output", str(tmp_path / "now.json"), "--compare", str(other)])
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"--compare {other}: expected what --output wrote of another commit" in line and says in line
