"""``scenegen interactive``: what its flags mean, and what it says where there is no page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scenegen.cli import interactive
from scenegen.demo.server import DemoUnavailable, read_passwords


def test_by_default_the_page_is_for_this_machine_alone():
    options = interactive.parse_arguments([])
    demo = options.demo
    assert not options.share and options.host is None and options.auth is None
    assert demo.checkpoint.endswith("scenegen-small") and demo.devices == (torch.device("cpu"),)
    assert (demo.max_objects, demo.max_side, demo.max_upload_mb, demo.queue_size) == (16, 2048, 20, 32)
    assert (demo.session_hours, demo.sam2, demo.debug_dumps, demo.folder) == (1.0, None, None, None)


def test_flags():
    words = (
        "--model some/model --sam2-checkpoint sam2.1-hiera-tiny --cutout-model isnet.onnx --text-model dino "
        "--device cpu --dtype bfloat16 --low-vram --max-objects 64 --max-side 1000 --max-upload-mb 5 "
        "--session-hours 0.5 --queue-size 3 --output-dir made --debug-dumps kept --attn-backend sdpa"
    )
    options = interactive.parse_arguments(words.split())
    demo = options.demo
    assert (demo.checkpoint, demo.sam2, demo.text_model) == ("some/model", "sam2.1-hiera-tiny", "dino")
    assert (demo.cutout_model, demo.folder, demo.debug_dumps) == tuple(
        map(Path, ("isnet.onnx", "made", "kept"))
    )
    assert (demo.dtype, demo.low_vram, options.attn_backend) == (torch.bfloat16, True, "sdpa")
    assert (demo.max_objects, demo.max_side, demo.max_upload_mb) == (64, 1000, 5)
    assert (demo.session_hours, demo.queue_size) == (0.5, 3)
    assert interactive.parse_arguments(["--sam2-config", "sam2-hiera-large"]).demo.sam2 == "sam2-hiera-large"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--max-objects 65", "expected a number from 1 to 64, got 65"),
        ("--session-hours 0", "argument --session-hours: expected a number above 0"),
        ("--device cpu,cpu", "expected different devices"),
        ("--device cuda:99", "expected a device of this machine"),
        ("--sam2 a --sam2-config b", "--sam2-config: names a SAM 2 as --sam2 does"),
        ("--port 0", "argument --port"),
    ],
)
def test_bad_flags_are_one_line_and_status_2(words, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        interactive.parse_arguments(words.split())
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and message in error and error.count("\n") == 1


def test_a_page_that_cannot_be_served_is_one_line_and_status_2(monkeypatch, caplog):
    def refuse(*arguments, **keywords):
        raise DemoUnavailable("the demo cannot listen; try another --port")

    monkeypatch.setattr(interactive, "DemoServer", refuse)
    assert interactive.main([]) == 2
    assert caplog.messages == ["the demo cannot listen; try another --port"]


def test_passwords(tmp_path):
    path = tmp_path / "passwords"
    path.write_text("# visitors\nann: a:b \n\nbob:x\n")
    assert read_passwords(path) == {"ann": " a:b ", "bob": "x"}
    for content, words in (("ann\n", "line 1: expected name:password"), ("# none\n", "at least one line")):
        path.write_text(content)
        with pytest.raises(DemoUnavailable, match=words):
            read_passwords(path)
    with pytest.raises(DemoUnavailable, match="reading failed"):
        read_passwords(tmp_path / "missing")
