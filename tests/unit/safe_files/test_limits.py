"""Every limit: what is at it is taken, what is just above it is refused with a line that says so."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from safe_files import limits
from safe_files.arrays import read_array
from safe_files.json_reader import parse_json
from safe_files.networks import check_sizes
from safe_files.pictures import open_picture, pixel_limit
from scenegen.checkpoints.roles import check_stems
from scenegen.cli import evaluation_options as evaluate
from scenegen.datasets import tables
from scenegen.evaluation import glb, loading
from scenegen.export import state
from scenegen.hub import body, conversion, downloads
from scenegen.hub.digest import file_sha256
from scenegen.hub.lock import LockEntry
from scenegen.hub.releases import Release, ReleaseFile
from scenegen.hub.transfer import Announcement
from scenegen.pipelines.settings import RunSettings
from tests.glb_files import glb_bytes, triangle_document
from trellis_modules.samplers import SamplingParams


@dataclass(frozen=True)
class Tools:
    """What a case works with."""

    folder: Path
    patch: pytest.MonkeyPatch


@dataclass(frozen=True)
class Limit:
    """How one limit is reached.

    Attributes:
        use: (tools, value) -> something that is of this size; raises where it is refused.
        says: part of the refusal.
        where: module whose copy of the limit is lowered to ``value``, where reaching it would take too long.
        value: the lower limit.
    """

    use: Callable[[Tools, int], Any]
    says: str
    where: Any = None
    value: int | None = None


def array_header(shape: tuple[int, ...]) -> io.BytesIO:
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    file.seek(0)
    return file


def claims(shape: tuple[int, ...]) -> Any:
    """Read an array without content: another fault is met where its size is within the limit."""
    return read_array(array_header(shape), 0)


def empty_png(folder: Path, width: int, height: int) -> Path:
    """A picture of a size, without its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path = folder / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def opened(tools: Tools, pixels: int) -> None:
    rows = 8192
    with open_picture(empty_png(tools.folder, -(-pixels // rows), rows)):
        pass


def read_scene(tools: Tools, change: Callable[[dict[str, Any]], Any]) -> None:
    """A triangle under one node, changed."""
    document, binary = triangle_document()
    change(document)
    path = tools.folder / "scene.glb"
    path.write_bytes(glb_bytes(document, binary))
    glb.read_glb(path)


def star(document: dict[str, Any], count: int) -> None:
    document["scenes"][0]["nodes"] = [0] * count


def chain(document: dict[str, Any], depth: int) -> None:
    document["nodes"] = [{"children": [index + 1]} for index in range(depth - 1)] + document["nodes"]


def large_glb(tools: Tools, size: int) -> None:
    document, binary = triangle_document()
    content = glb_bytes(document, binary)
    path = tools.folder / "scene.glb"
    path.write_bytes(content + b"\0" * (size - len(content)))
    glb.read_glb(path)


def wide_table(tools: Tools, characters: int) -> None:
    count = characters // 100_000
    header = ",".join(["sha256", *(f"column_{index}" for index in range(count))])
    line = ",".join([*["a" * 100_000] * count, ""]).ljust(characters, "a")
    path = tools.folder / "metadata.csv"
    path.write_text(f"{header}\n{line}")
    list(tables.read_lines(path, ["sha256"]))


def with_symmetry(tools: Tools, order: int) -> None:
    entry = {"id": 0, "translation": [0, 0, 0], "rotation_wxyz": [1, 0, 0, 0], "scale": 1, "symmetry": order}
    path = tools.folder / "poses.json"
    path.write_text(json.dumps({"objects": [entry]}))
    loading.load_poses(path)


def command(*arguments: str) -> None:
    try:
        evaluate.parse_arguments("", ["--prediction", "a", "--truth", "b", *arguments])
    except SystemExit as error:
        raise ValueError("refused by the command line") from error


def announced(tools: Tools, name: str, size: int) -> None:
    tools.patch.setattr(downloads, "announce", lambda *_: Announcement(size))
    release = Release("files", "folder", url="http://127.0.0.1:9", files={name: ReleaseFile()})
    downloads.plan_release("x", release, LockEntry(), downloads.Source(tools.folder))


class Trickle:
    """A response of so many bytes a second for two windows of measurement, by a clock of its own."""

    def __init__(self, tools: Tools, bytes_per_s: float, window_s: float) -> None:
        self.seconds, self.rest, self.pace = 0.0, 20, window_s / 10
        self.block = bytes(max(1, round(bytes_per_s * self.pace)))
        tools.patch.setattr(body.time, "monotonic", lambda: self.seconds)

    def read1(self, size: int) -> bytes:
        self.rest -= 1
        self.seconds += self.pace
        return self.block if self.rest else b""


def trickled(tools: Tools, bytes_per_s: float) -> None:
    response = Trickle(tools, bytes_per_s, limits.SLOW_WINDOW_S)
    body.write_body(response, tools.folder / "part", 0, 1 << 40, lambda done: None)


def large_state(tools: Tools, size: int) -> Any:
    path = tools.folder / "scene.safetensors"
    save_file({"a": torch.zeros(1000, dtype=torch.uint8)}, path)
    beside = path.stat().st_size - 1000
    save_file({"a": torch.zeros(size - beside, dtype=torch.uint8)}, path)
    return state.read_tensors(path, file_sha256(path))


LIMITS: dict[str, Limit] = {
    "MAX_JSON_BYTES": Limit(lambda t, n: parse_json("1" + " " * (n - 1)), "bytes of JSON"),
    "MAX_JSON_VALUES": Limit(lambda t, n: parse_json("[" + "null," * (n - 1) + "null]"), "JSON of at most"),
    "MAX_JSON_DEPTH": Limit(lambda t, n: parse_json("[" * n + "]" * n), "levels of lists and objects"),
    "MAX_JSON_DIGITS": Limit(lambda t, n: parse_json("1" * n), "characters a number"),
    "MAX_JSON_NAME": Limit(lambda t, n: parse_json(json.dumps({"a" * n: 1})), "names of at most"),
    "MAX_ARRAY_BYTES": Limit(lambda t, n: claims((n,)), "an array of at most"),
    "MAX_ARRAY_DIMENSIONS": Limit(lambda t, n: claims((1,) * n), "dimensions"),
    "MAX_TABLE_LINE": Limit(wide_table, "a line has more than"),
    "MAX_PIXELS": Limit(opened, "a picture of at most"),
    "HIGHEST_MAX_PIXELS": Limit(lambda t, n: pixel_limit(n).__enter__(), "--max-pixels: expected"),
    "MAX_GLB_BYTES": Limit(large_glb, "bytes, got", glb, 5000),
    "MAX_GLB_NODES": Limit(lambda t, n: read_scene(t, lambda d: star(d, n)), "a tree of at most", glb, 20),
    "MAX_GLB_DEPTH": Limit(lambda t, n: read_scene(t, lambda d: chain(d, n)), "a tree of at most", glb, 60),
    "MAX_GLB_ROWS": Limit(
        lambda t, n: read_scene(t, lambda d: star(d, n // 6 - 1 + n % 6)), "vertices and corners", glb, 24
    ),
    "MAX_SYMMETRY": Limit(with_symmetry, "symmetry"),
    "MAX_NETWORKS": Limit(
        lambda t, n: check_stems({str(index): "stem" for index in range(n)}), "networks, got"
    ),
    "MAX_BLOCKS": Limit(lambda t, n: check_sizes({"num_blocks": n}), "num_blocks: expected"),
    "MAX_CHANNELS": Limit(lambda t, n: check_sizes({"model_channels": n}), "model_channels: expected"),
    "MAX_GRID": Limit(lambda t, n: check_sizes({"resolution": n}), "resolution: expected"),
    "MAX_RATIO": Limit(lambda t, n: check_sizes({"mlp_ratio": n}), "mlp_ratio: expected"),
    "MAX_IMAGE_SIDE_PX": Limit(lambda t, n: check_sizes({"img_size": n}), "img_size: expected"),
    "MAX_STATE_BYTES": Limit(large_state, "bytes, got", state, 5000),
    "MAX_CANDIDATES": Limit(lambda t, n: RunSettings(candidates=n), "candidates: expected"),
    "MAX_STEPS": Limit(lambda t, n: SamplingParams(steps=n), "steps must be at most"),
    "MAX_WORKERS": Limit(lambda t, n: command("--workers", str(n)), "refused"),
    "MAX_SURFACE_POINTS": Limit(lambda t, n: command("--num-points", str(n)), "refused"),
    "MAX_DESCRIPTION_BYTES": Limit(lambda t, n: announced(t, "a.json", n), "the server announces"),
    "MAX_DOWNLOAD_BYTES": Limit(lambda t, n: announced(t, "a.safetensors", n), "the server announces"),
    "MAX_SHARING": Limit(
        lambda t, n: conversion.check_claims({"a": torch.zeros(10 * n, dtype=torch.uint8)}, 10, "a.pt"),
        "times the",
    ),
}
BELOW = {"SLOWEST_BYTES_PER_S", "SLOW_WINDOW_S"}
"""Limits that are fallen short of, with a test of their own."""


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_at_a_limit_is_taken_and_what_is_above_it_refused(tmp_path, monkeypatch, capsys, name):
    limit, tools = LIMITS[name], Tools(tmp_path, monkeypatch)
    highest = getattr(limits, name)
    if limit.where is not None:
        highest = limit.value
        monkeypatch.setattr(limit.where, name, highest)
    said = []
    for value in (highest, highest + 1):
        try:
            limit.use(tools, value)
        except (ValueError, RuntimeError) as error:
            said.append(str(error))
        else:
            said.append("")
    assert limit.says not in said[0]
    assert limit.says in said[1] and "\n" not in said[1]


def test_a_transfer_may_be_as_slow_as_the_limit_and_not_slower(tmp_path, monkeypatch):
    tools = Tools(tmp_path, monkeypatch)
    trickled(tools, limits.SLOWEST_BYTES_PER_S)
    with pytest.raises(body.TransferBroken, match="slower than"):
        trickled(tools, limits.SLOWEST_BYTES_PER_S * 0.9)


@pytest.mark.parametrize(("seconds", "is_judged"), [(-1, False), (0, True)])
def test_speed_is_judged_after_a_window_and_not_before(monkeypatch, seconds, is_judged):
    now = 0.0
    monkeypatch.setattr(body.time, "monotonic", lambda: now)
    speed = body.Speed()
    now = limits.SLOW_WINDOW_S + seconds
    if is_judged:
        with pytest.raises(body.TransferBroken):
            speed.add(1)
    else:
        speed.add(1)


def test_every_limit_has_its_case():
    names = {name for name in vars(limits) if name.isupper()}
    assert names == LIMITS.keys() | BELOW
