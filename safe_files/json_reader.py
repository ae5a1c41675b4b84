"""The one reader of JSON: strict, and within limits.

Python's own reader takes NaN, lets the last of two values with one name win, and hands lone surrogates on,
which no file and no terminal takes.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from safe_files.limits import (
    MAX_JSON_BYTES,
    MAX_JSON_DEPTH,
    MAX_JSON_DIGITS,
    MAX_JSON_NAME,
    MAX_JSON_VALUES,
)
from safe_files.regular import UnreadableFile, read_bytes, shown


def read_json(path: Path | str) -> Any:
    """The value in a JSON file; see `parse_json`.

    Raises:
        UnreadableFile: it is no regular file, or not JSON within the limits.
        OSError: it cannot be read.
    """
    return parse_json(read_bytes(path, MAX_JSON_BYTES))


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON text.

    Args:
        content: text, or bytes in UTF-8 with or without its mark.

    Raises:
        UnreadableFile: it is not JSON, is too large or too deep, has a number that is too long or not finite,
            a name that is too long or comes twice in one object, or a character that is half of one.
    """
    text = _decoded(content) if isinstance(content, bytes) else content
    if len(text) > MAX_JSON_BYTES:
        raise UnreadableFile(f"expected at most {MAX_JSON_BYTES} bytes of JSON, got {len(text)}")
    if (values := text.count(",") + text.count("[") + text.count("{")) > MAX_JSON_VALUES:
        raise UnreadableFile(f"expected JSON of at most {MAX_JSON_VALUES} values, got {values}")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole_number,
            parse_float=_number,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise UnreadableFile(
            f"not valid JSON, line {error.lineno} column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise _too_deep() from error
    _check_values(value)
    return value


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"cannot be read as text ({error})") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        repeated = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise UnreadableFile(
            f"not valid JSON: expected every name once in an object, got {shown(repeated)} twice"
        )
    return content


def _whole_number(text: str) -> int:
    return int(_short(text))


def _number(text: str) -> float:
    value = float(_short(text))
    if not math.isfinite(value):
        raise UnreadableFile(f"not valid JSON: expected a finite number, got {text}")
    return value


def _short(text: str) -> str:
    if len(text) > MAX_JSON_DIGITS:
        raise UnreadableFile(
            f"not valid JSON: expected at most {MAX_JSON_DIGITS} characters a number, got {len(text)}"
        )
    return text


def _constant(name: str) -> None:
    raise UnreadableFile(f"not valid JSON: expected a finite number, got {name}")


def _check_values(value: Any) -> None:
    """Look at every text and at how deep it lies, without recursion."""
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, list | dict):
            if depth == MAX_JSON_DEPTH:
                raise _too_deep()
            if isinstance(item, dict):
                for name in item:
                    _check_name(name)
                item = item.values()
            waiting.extend((inner, depth + 1) for inner in item if isinstance(inner, str | list | dict))


def _check_name(name: str) -> None:
    _check_text(name)
    if len(name) > MAX_JSON_NAME:
        raise UnreadableFile(
            f"not valid JSON: expected names of at most {MAX_JSON_NAME} characters, got {shown(name)}"
        )


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UnreadableFile(
                f"not valid JSON: expected text, got half of a character ({shown(text[error.start])})"
            ) from error


def _too_deep() -> UnreadableFile:
    return UnreadableFile(
        f"not valid JSON: expected at most {MAX_JSON_DEPTH} levels of lists and objects, got more"
    )
