"""Typed configuration from JSON: ``{"name": ..., "args": {...}}`` and frozen dataclasses.

``build`` checks a mapping against the annotated constructor of a class, dataclass or not: unknown and missing
keys, types, nested configurations.  Names are looked up in an explicit registry.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from safe_files.json_reader import read_json
from safe_files.regular import UnreadableFile, shown

T = TypeVar("T")

MAX_SEED = 1 << 32
"""Of training and its data, whose generators mix it with the number of the step."""


class ConfigError(ValueError):
    """A configuration that does not say what its reader needs."""


@dataclass(frozen=True)
class NamedConfig:
    """What to build (a registry key) and its constructor arguments."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: Any, where: str) -> NamedConfig:
        """Check the shape ``{"name": str, "args": {...}}``.

        Raises:
            ConfigError: another shape.
        """
        if isinstance(raw, NamedConfig):
            return raw
        if not isinstance(raw, Mapping):
            raise ConfigError(f'{where}: expected {{"name": ..., "args": {{...}}}}, got {type(raw).__name__}')
        return build(cls, raw, where)


def lookup(registry: Mapping[str, T], name: str, where: str) -> T:
    """The registry entry of a name.

    Raises:
        ConfigError: the name is not registered.
    """
    if name not in registry:
        raise ConfigError(f"{where}: unknown name {shown(name)}; known: {sorted(registry)}")
    return registry[name]


def load_json(path: Path) -> Any:
    """Parse a JSON file, see `safe_files.json_reader`.

    Raises:
        ConfigError: the file is missing, unreadable, or not JSON within the limits.
    """
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file; check the path") from error
    except UnreadableFile as error:
        raise ConfigError(f"{path}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Check a number of a configuration.

    Raises:
        ValueError: it is not finite, or not from ``low`` to ``high``.
    """
    if not low <= value <= high or not math.isfinite(value):
        wanted = f"at least {low}" if high == math.inf else f"{low} to {high}"
        raise ValueError(f"{name}: expected {wanted}, got {shown(value)}")


def to_json(config: Any) -> Any:
    """A dataclass (or a value inside one) as JSON types, so that a run can save what it resolved."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {key: to_json(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_json(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def build(cls: type[T] | Callable[..., T], raw: Mapping[str, Any], where: str) -> T:
    """Call an annotated constructor with checked arguments.

    Args:
        cls: a dataclass, or any class whose ``__init__`` annotates its arguments.
        raw: argument values as parsed from JSON; lists become tuples and mappings nested dataclasses where
            the annotation asks for them.
        where: named in errors, for example the file.

    Raises:
        ConfigError: a key is unknown or missing, a value has the wrong type or is refused by the constructor.
    """
    parameters = inspect.signature(cls).parameters
    if unknown := sorted(raw.keys() - parameters.keys()):
        raise ConfigError(
            f"{where}: unknown key {shown(unknown[0])} for {cls.__name__}; known: {sorted(parameters)}"
        )
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in raw]
    if missing:
        raise ConfigError(f"{where}: missing key {missing[0]!r} for {cls.__name__}; required: {missing}")
    hints = typing.get_type_hints(cls if dataclasses.is_dataclass(cls) else cls.__init__)
    arguments = {key: convert(value, hints.get(key, Any), f"{where}: {key}") for key, value in raw.items()}
    try:
        return cls(**arguments)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def convert(value: Any, hint: Any, where: str) -> Any:
    """Check a JSON value against a type annotation and convert it.

    Raises:
        ConfigError: the value does not fit.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, arguments, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: expected one of {list(arguments)}, got {shown(value)}")
        return value
    if origin in (list, tuple, Sequence):
        return _convert_sequence(value, origin, arguments, where)
    if origin in (dict, Mapping):
        _require(isinstance(value, Mapping), "an object", value, where)
        return {key: convert(item, arguments[1], f"{where}[{shown(key)}]") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        _require(isinstance(value, Mapping), f"an object for {hint.__name__}", value, where)
        return build(hint, value, where)
    return _convert_scalar(value, hint, where)


def _convert_union(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in options:
        return None
    errors = []
    for option in options:
        if option is type(None):
            continue
        try:
            return convert(value, option, where)
        except ConfigError as error:
            errors.append(str(error))
    raise ConfigError(" or ".join(errors))


def _convert_sequence(value: Any, origin: Any, arguments: tuple[Any, ...], where: str) -> Any:
    _require(isinstance(value, list | tuple), "a list", value, where)
    if origin is not tuple or (len(arguments) == 2 and arguments[1] is Ellipsis):
        item_hints = [arguments[0]] * len(value)
    else:
        item_hints = list(arguments)
        _require(len(value) == len(item_hints), f"{len(item_hints)} values", value, where)
    items = [convert(item, hint, f"{where}[{i}]") for i, (item, hint) in enumerate(zip(value, item_hints))]
    return items if origin is list else tuple(items)


def _convert_scalar(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    is_misread_bool = isinstance(value, bool) and hint in (int, float)
    if isinstance(hint, type):
        _require(isinstance(value, hint) and not is_misread_bool, hint.__name__, value, where)
    return value


def _require(condition: bool, expected: str, value: Any, where: str) -> None:
    if not condition:
        raise ConfigError(f"{where}: expected {expected}, got {shown(value)}")
