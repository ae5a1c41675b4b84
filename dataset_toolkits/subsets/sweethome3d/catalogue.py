"""Reading of Sweet Home 3D furniture libraries (.sh3f): a zip of OBJ models and a properties catalogue."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dataset_toolkits.subsets.instances import SubsetError

CATALOGUE_NAME = "PluginFurnitureCatalog.properties"
IDENTITY_ROTATION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ESCAPE_PATTERN = re.compile(r"\\u([0-9a-fA-F]{4})|\\(.)", re.DOTALL)
_ENTRY_PATTERN = re.compile(
    r"(?P<key>(?:\\.|[^\\\s=:])+)(?:[ \t\f]*[=:][ \t\f]*|[ \t\f]+|$)(?P<value>.*)", re.DOTALL
)


class CatalogueError(SubsetError):
    """A furniture library cannot be read."""


@dataclass(frozen=True)
class CatalogueEntry:
    """One model of a furniture library.

    Attributes:
        id: "library/obj basename", unique over the libraries' indoor models.
        name: English name.
        category: catalogue category, e.g. "Living room".
        model_path: path of the OBJ inside the zip, without a leading slash.
        size_m: (width, height, depth) of the rotated model along x, y, z in metres.
        rotation: 3x3 row-major matrix; a vertex row v becomes v @ R.T.
        creator: credited author.
        elevation_m: height of the model's underside above the floor.
    """

    id: str
    name: str
    category: str
    model_path: str
    size_m: tuple[float, float, float]
    rotation: tuple[float, ...] = IDENTITY_ROTATION
    creator: str = ""
    elevation_m: float = 0.0


def parse_properties(data: bytes) -> dict[str, str]:
    r"""Parse a Java properties file.

    The text is latin-1 with `\uXXXX` and backslash escapes, continuation lines, and # and ! comments.

    Source: java.util.Properties.load, Java SE API.
    """
    properties = {}
    for line in _logical_lines(data.decode("latin-1").splitlines()):
        match = _ENTRY_PATTERN.match(line)
        if match:
            properties[_unescape(match["key"])] = _unescape(match["value"])
    return properties


def read_catalogue(library: Path) -> list[CatalogueEntry]:
    """Read all entries of one .sh3f file, in catalogue order.

    Raises:
        CatalogueError: not a zip, no catalogue inside, or an entry without a needed field.
    """
    try:
        with zipfile.ZipFile(library) as archive:
            properties = parse_properties(archive.read(CATALOGUE_NAME))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise CatalogueError(
            f"{library}: expected a furniture library (.sh3f zip with {CATALOGUE_NAME}): {error}"
        ) from error
    numbers = sorted(int(key.partition("#")[2]) for key in properties if re.fullmatch(r"id#\d+", key))
    return [_entry(properties, number, library) for number in numbers]


def _entry(properties: dict[str, str], number: int, library: Path) -> CatalogueEntry:
    def metres(key: str, default: str | None = None) -> float:
        return (
            float(properties.get(f"{key}#{number}", default) if default else properties[f"{key}#{number}"])
            / 100
        )

    try:
        model_path = properties[f"model#{number}"].lstrip("/")
        rotation = tuple(float(value) for value in properties.get(f"modelRotation#{number}", "").split())
        if rotation and len(rotation) != 9:
            raise ValueError(f"modelRotation has {len(rotation)} numbers, expected 9")
        return CatalogueEntry(
            id=f"{library.stem}/{PurePosixPath(model_path).stem}",
            name=properties[f"name#{number}"],
            category=properties[f"category#{number}"],
            model_path=model_path,
            size_m=(metres("width"), metres("height"), metres("depth")),
            rotation=rotation or IDENTITY_ROTATION,
            creator=properties.get(f"creator#{number}", ""),
            elevation_m=metres("elevation", default="0"),
        )
    except (KeyError, ValueError) as error:
        raise CatalogueError(f"{library}: catalogue entry {number} is not usable: {error}") from error


def _logical_lines(lines: Iterable[str]) -> Iterable[str]:
    """Join continuation lines and drop comments and blanks."""
    pending = ""
    for line in lines:
        stripped = line.lstrip(" \t\f")
        if not pending and (not stripped or stripped[0] in "#!"):
            continue
        trailing = len(stripped) - len(stripped.rstrip("\\"))
        if trailing % 2:
            pending += stripped[:-1]
            continue
        yield pending + stripped
        pending = ""
    if pending:
        yield pending


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        return _ESCAPES.get(match[2], match[2])

    return _ESCAPE_PATTERN.sub(replace, text)
