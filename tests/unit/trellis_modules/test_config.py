"""Typed configurations: what is accepted, and one message for each fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from trellis_modules.config import ConfigError, NamedConfig, build, load_json, lookup, to_json


@dataclass(frozen=True)
class Inner:
    rate: float
    steps: int = 3

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be positive, got {self.steps}")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    mode: Literal["a", "b"] = "a"
    widths: tuple[int, ...] = ()
    size: tuple[int, int] = (1, 2)
    limit: float | None = None
    folder: Path = Path(".")
    groups: dict[str, Inner] = field(default_factory=dict)
    names: Sequence[str] = ()
    extra: Any = None


class Annotated:
    def __init__(self, channels: int, options: Mapping[str, Any] | None = None) -> None:
        if channels > 9:
            raise TypeError("too many channels")
        self.channels = channels


def test_build_converts_json_types() -> None:
    raw = {
        "name": "n",
        "inner": {"rate": 1},
        "mode": "b",
        "widths": [1, 2, 3],
        "size": [4, 5],
        "limit": 2,
        "folder": "x/y",
        "groups": {"g": {"rate": 0.5, "steps": 1}},
        "names": ["p", "q"],
        "extra": {"k": [1]},
    }
    config = build(Outer, raw, "file.json")
    assert config == Outer(
        "n",
        Inner(1.0),
        "b",
        (1, 2, 3),
        (4, 5),
        2.0,
        Path("x/y"),
        {"g": Inner(0.5, 1)},
        ("p", "q"),
        {"k": [1]},
    )
    assert build(Outer, to_json(config), "again") == config


@pytest.mark.parametrize(
    "raw, message",
    [
        ({"inner": {"rate": 1.0}}, "file.json: missing key 'name' for Outer"),
        (
            {"name": "n", "inner": {"rate": 1.0}, "colour": 1},
            "file.json: unknown key 'colour' for Outer; known: ",
        ),
        ({"name": 5, "inner": {"rate": 1.0}}, "file.json: name: expected str, got 5"),
        ({"name": "n", "inner": {"rate": True}}, "file.json: inner: rate: expected float, got True"),
        (
            {"name": "n", "inner": {"rate": 1.0, "steps": 1.5}},
            "file.json: inner: steps: expected int, got 1.5",
        ),
        (
            {"name": "n", "inner": {"rate": 1.0, "steps": 0}},
            "file.json: inner: steps must be positive, got 0",
        ),
        ({"name": "n", "inner": 3}, "file.json: inner: expected an object for Inner, got 3"),
        ({"name": "n", "inner": {"rate": 1.0}, "mode": "c"}, "mode: expected one of ['a', 'b'], got 'c'"),
        ({"name": "n", "inner": {"rate": 1.0}, "widths": [1, "2"]}, "widths[1]: expected int, got '2'"),
        ({"name": "n", "inner": {"rate": 1.0}, "widths": "12"}, "widths: expected a list, got '12'"),
        ({"name": "n", "inner": {"rate": 1.0}, "size": [1]}, "size: expected 2 values, got [1]"),
        ({"name": "n", "inner": {"rate": 1.0}, "limit": "x"}, "limit: expected float, got 'x'"),
        (
            {"name": "n", "inner": {"rate": 1.0}, "groups": {"g": {}}},
            "groups['g']: missing key 'rate' for Inner",
        ),
    ],
)
def test_build_names_the_fault(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Outer, raw, "file.json")
    assert message in str(caught.value)


def test_build_takes_classes_with_annotated_constructors() -> None:
    assert build(Annotated, {"channels": 4, "options": None}, "m").channels == 4
    with pytest.raises(ConfigError, match="m: channels: expected int, got '4'"):
        build(Annotated, {"channels": "4"}, "m")
    with pytest.raises(ConfigError, match="m: too many channels"):
        build(Annotated, {"channels": 10}, "m")


def test_named_config_shape() -> None:
    assert NamedConfig.parse({"name": "x"}, "f") == NamedConfig("x", {})
    with pytest.raises(ConfigError, match="f: expected .* got list"):
        NamedConfig.parse([], "f")
    with pytest.raises(ConfigError, match="unknown key 'arguments'"):
        NamedConfig.parse({"name": "x", "arguments": {}}, "f")


def test_lookup_names_the_known() -> None:
    assert lookup({"a": 1}, "a", "f") == 1
    with pytest.raises(ConfigError, match=r"f: unknown name 'b'; known: \['a'\]"):
        lookup({"a": 1}, "b", "f")


def test_load_json_faults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_json(tmp_path / "absent.json")
    broken = tmp_path / "broken.json"
    broken.write_text('{"a": 1,\n}')
    with pytest.raises(ConfigError, match="broken.json: not valid JSON, line 2"):
        load_json(broken)
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read as text"):
        load_json(broken)
