"""A named pipe, a socket, a device or a folder in place of any input file: one line, and no waiting."""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evaluate
import inference
from scenegen.cli import segment
from scenegen.evaluation.loading import EvaluationError, load_poses
from scenegen.inputs.boxes import load_boxes
from scenegen.inputs.image_files import SceneInputError
from tests.e2e.malformed import frugal
from tests.glb_files import glb_bytes, triangle_document
from vggt import __main__ as vggt


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # addresses of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": make_pipe,
    "socket": make_socket,
    "device": link_to_device,
    "folder": Path.mkdir,
}


def put(kind: str, path: Path) -> Path:
    """Put something that is no file in the place of a file."""
    path.unlink(missing_ok=True)
    KINDS[kind](path)
    return path


@pytest.fixture
def told(caplog, capsys) -> Callable[..., tuple[int, list[str]]]:
    """Function (command, arguments) -> exit status and what it said of faults; it may not wait."""

    def call(command, *arguments: object) -> tuple[int, list[str]]:
        caplog.clear()
        capsys.readouterr()
        with frugal():
            try:
                status = command.main([str(argument) for argument in arguments])
            except SystemExit as exit_:
                return exit_.code, capsys.readouterr().err.splitlines()
        assert not any(record.exc_info for record in caplog.records)
        return status, [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]

    return call


SCENE_FILES = ("scene.jpg", "0.png", "0_mask.png", "labels.png", "masks.npy")


@pytest.mark.parametrize("name", SCENE_FILES)
@pytest.mark.parametrize("kind", KINDS)
def test_in_a_scene_folder(tmp_path, told, shared_checkpoint, write_scene, kind, name):
    scene = write_scene(tmp_path / "in" / "room", 1)
    if not (scene / name).exists():
        for path in scene.glob("0*.png"):
            path.unlink()
    put(kind, scene / name)
    where = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--checkpoint", shared_checkpoint)
    status, lines = told(inference, *where)
    assert status in (1, 2) and len(lines) == 1
    assert "room" in lines[0] and "\n" not in lines[0]


@pytest.mark.parametrize("flag", ["--masks", "--boxes", "--input"])
@pytest.mark.parametrize("kind", KINDS)
def test_given_by_a_flag(tmp_path, told, shared_checkpoint, write_scene, kind, flag):
    photo = write_scene(tmp_path / "room", 1) / "scene.jpg"
    special = put(kind, tmp_path / {"--masks": "m.png", "--boxes": "b.json", "--input": "p.jpg"}[flag])
    given = {"--input": photo, flag: special, "--output": tmp_path / "out", "--checkpoint": shared_checkpoint}
    status, lines = told(inference, *(text for pair in given.items() for text in pair))
    assert status in (1, 2) and len(lines) == 1 and "\n" not in lines[0]


@pytest.mark.parametrize("kind", KINDS)
def test_as_boxes_and_as_poses(tmp_path, kind):
    path = put(kind, tmp_path / "file.json")
    for read, error in ((load_boxes, SceneInputError), (load_poses, EvaluationError)):
        with frugal(), pytest.raises(error) as told:
            read(path)
        assert str(path) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["pipeline.json", "ckpts/flow.json", "ckpts/flow.safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_a_checkpoint(tmp_path, told, shared_checkpoint, write_scene, kind, name):
    write_scene(tmp_path / "in" / "room", 1)
    folder = tmp_path / "toy"
    shutil.copytree(shared_checkpoint, folder)
    put(kind, folder / name)
    where = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--checkpoint", folder)
    status, lines = told(inference, *where)
    assert status == 2 and len(lines) == 1
    assert Path(name).stem in lines[0] and "\n" not in lines[0]


@pytest.mark.parametrize("name", ["truth/a.glb", "prediction/a.glb", "report.records.jsonl"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_an_evaluation(tmp_path, told, kind, name):
    for folder in ("truth", "prediction"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.glb").write_bytes(glb_bytes(*triangle_document()))
    put(kind, tmp_path / name)
    folders = ("--prediction", tmp_path / "prediction", "--truth", tmp_path / "truth")
    few = ("--num-points", "50", "--alignment", "filterreg", "--workers", "1")
    status, lines = told(evaluate, *folders, "--output", tmp_path / "report.json", *few)
    assert status == 2 and len(lines) == 1
    assert Path(name).name in lines[0] and "\n" not in lines[0]


@pytest.mark.parametrize("kind", KINDS)
def test_as_photo_of_the_geometry_encoder(tmp_path, told, kind):
    status, lines = told(vggt, put(kind, tmp_path / "photo.jpg"), "--output", tmp_path / "out")
    assert status == 2 and len(lines) == 1
    assert "photo.jpg: expected a file, got a" in lines[0] and "\n" not in lines[0]


@pytest.mark.parametrize("kind", KINDS)
def test_as_photo_that_is_segmented(tmp_path, told, kind):
    status, lines = told(segment, "--input", put(kind, tmp_path / "photo.jpg"), "--output", tmp_path / "out")
    assert status in (1, 2) and len(lines) == 1 and "\n" not in lines[0]


@pytest.mark.parametrize("size", [(13_000, 13_000), (8192, 8193)])
def test_a_photo_of_too_many_pixels_is_not_decoded(tmp_path, told, shared_checkpoint, write_scene, size):
    scene = write_scene(tmp_path / "in" / "room", 1)
    Image.fromarray(np.zeros(size[::-1], np.uint8)).save(scene / "scene.png", compress_level=1)
    (scene / "scene.jpg").unlink()
    where = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--checkpoint", shared_checkpoint)
    status, lines = told(inference, *where)
    assert status == 1
    assert lines[0].endswith(
        f"scene.png: expected a picture of at most 67108864 pixels, got {size[0]}x{size[1]}; shrink it, or "
        "allow more with --max-pixels"
    )
    status, lines = told(inference, *where, "--max-pixels", "1000")
    assert "at most 1000 pixels" in lines[0]
