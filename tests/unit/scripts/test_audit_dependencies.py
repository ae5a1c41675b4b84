"""The audit: what pip-audit answers, and what becomes of it."""

import json

import pytest

from scripts import audit_dependencies
from scripts.audit_dependencies import Audit, read_answer, report, versions

CLEAN = {"name": "a", "version": "1.0", "vulns": []}
BAD = {"name": "b", "version": "2.0", "vulns": [{"id": "PYSEC-1"}, {"id": "GHSA-2"}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


def answer(*entries):
    return read_answer(json.dumps({"dependencies": entries, "fixes": []}))


@pytest.mark.parametrize(
    ("entries", "status", "line"),
    [
        ((CLEAN,), 0, "1 of 1 versions could be looked up: no advisory is known"),
        ((CLEAN, BAD), 1, "2 of 2 versions could be looked up: b 2.0 (PYSEC-1, GHSA-2)"),
        ((CLEAN, SKIPPED), 3, "1 of 2 versions could be looked up: no advisory is known"),
        ((SKIPPED,), 3, "0 of 1 versions could be looked up: nothing is known"),
        ((BAD, SKIPPED), 1, "1 of 2 versions could be looked up: b 2.0 (PYSEC-1, GHSA-2)"),
    ],
)
def test_answer_becomes_a_status_and_a_line(entries, status, line):
    audit = answer(*entries)
    assert (audit.status, audit.summary()) == (status, line)


def test_report_names_the_date_the_result_and_the_versions():
    page = report(Audit(("a 1.0",), ("c",), ()), ["a==1.0", "c==3.0"])
    assert "- Date: 20" in page and "- Result: 1 of 2" in page and "- Not looked up: c\n" in page
    assert page.endswith("- a==1.0\n- c==3.0\n")


def test_versions_come_without_their_markers(tmp_path):
    path = tmp_path / "constraints.txt"
    path.write_text("# head\na==1.0\nb==2.0; python_version >= '3.11'\n")
    assert versions(path) == ["a==1.0", "b==2.0"]


@pytest.mark.parametrize("said", ["", "no json", "[]", '{"dependencies": [3]}'])
def test_an_answer_that_is_none_is_one_line(monkeypatch, caplog, said):
    class Result:
        stdout, stderr = said, "No module named pip_audit"

    monkeypatch.setattr(audit_dependencies.subprocess, "run", lambda *_, **__: Result())
    assert audit_dependencies.main([]) == 2
    assert caplog.messages[-1] == (
        "pip-audit: expected its JSON, got No module named pip_audit; pip install pip-audit"
    )
