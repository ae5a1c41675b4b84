"""``scenegen demo``: what it passes to the page, and what it says where there is none."""

from pathlib import Path

import pytest

from scenegen.cli import demo
from scenegen.demo.viewer import ViewerUnavailable


def test_the_page_gets_folders_and_address(monkeypatch):
    shown = []
    monkeypatch.setattr(demo, "launch_viewer", lambda *paths, **address: shown.append((paths, address)))
    assert demo.main(["--output", "made", "--truth", "true", "--port", "7000"]) == 0
    assert demo.main([]) == 0
    assert shown == [
        ((Path("made"), Path("true")), {"host": "127.0.0.1", "port": 7000}),
        ((Path("outputs"), None), {"host": "127.0.0.1", "port": None}),
    ]


def test_a_page_that_cannot_be_shown_is_one_line_and_status_2(monkeypatch, caplog):
    def refuse(*arguments, **keywords):
        raise ViewerUnavailable("the viewer cannot listen; try --port")

    monkeypatch.setattr(demo, "launch_viewer", refuse)
    assert demo.main([]) == 2
    assert caplog.messages == ["the viewer cannot listen; try --port"]


@pytest.mark.parametrize("port", ["0", "many"])
def test_a_bad_port_is_refused(port, capsys):
    with pytest.raises(SystemExit) as exit_:
        demo.main(["--port", port])
    assert exit_.value.code == 2 and "argument --port: expected a whole number" in capsys.readouterr().err
