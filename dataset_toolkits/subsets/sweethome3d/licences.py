"""Licence and credit of each model, from its library and from the licence file in its own folder."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

from dataset_toolkits.subsets.sweethome3d.catalogue import CatalogueEntry

CC_BY_URL = "https://creativecommons.org/licenses/by/3.0/"
CC_BY_US_URL = "https://creativecommons.org/licenses/by/3.0/us/"
CC0_URL = "https://creativecommons.org/publicdomain/zero/1.0/"


@dataclass(frozen=True)
class Licence:
    """Terms and credit of one model; `creator` is who must be named, `source_url` where it was published."""

    name: str
    url: str
    creator: str
    source_url: str = ""


CC_BY = "CC-BY-3.0"
CC_BY_US = "CC-BY-3.0-US"
CC0 = "CC0-1.0"
_URLS = {CC_BY: CC_BY_URL, CC_BY_US: CC_BY_US_URL, CC0: CC0_URL}
# (licence, credit that the library's LICENSE.TXT dictates or "" for the entry's own creator, home page)
_LIBRARIES = {
    "BlendSwap-CC-0": (CC0, "", ""),
    "BlendSwap-CC-BY": (CC_BY, "", ""),
    "KatorLegaz": (CC_BY_US, "Andrew Kator & Jennifer Legaz", ""),
    "Scopia": (
        CC_BY,
        "Emmanuel PUYBARET / eTeks <info@eteks.com> and Scopia Visual Interfaces Systems, s.l.",
        "http://www.scopia.es",
    ),
}
_BLEND_URL = re.compile(r"https?://www\.blendswap\.com/blends/view/\d+")
_ATTRIBUTION_WORDS = re.compile(r"Creative Commons Attribution 3\.0|CC-BY", re.IGNORECASE)
_ZERO_WORDS = re.compile(r"Creative Commons Zero|CC-?0|Public Domain", re.IGNORECASE)


class LicenceError(ValueError):
    """The licence of a model is not known, so the model must not be used."""


def licence_of(entry: CatalogueEntry, model_folder: Path) -> Licence:
    """Licence of one unpacked model: its own licence file goes before the library's licence.

    Args:
        entry: catalogue entry, its id begins with the library's name.
        model_folder: folder of the unpacked OBJ.

    Raises:
        LicenceError: unknown library.
    """
    library = entry.id.partition("/")[0]
    if library not in _LIBRARIES:
        raise LicenceError(
            f"{entry.id}: licence of library {library!r} is unknown; known: {sorted(_LIBRARIES)}"
        )
    name, credit, url = _LIBRARIES[library]
    text = _licence_text(model_folder)
    stated = text.partition("MODERAT")[0] or text  # the part before the site's boilerplate
    if _ATTRIBUTION_WORDS.search(stated) and name == CC0:
        name = CC_BY
    elif _ZERO_WORDS.search(stated) and not _ATTRIBUTION_WORDS.search(stated):
        name = CC0
    blend = _BLEND_URL.search(text)
    return Licence(name, _URLS[name], credit or entry.creator, blend[0] if blend else url)


def _licence_text(model_folder: Path) -> str:
    for path in sorted(model_folder.iterdir()):
        if "license" in path.name.lower():
            text = path.read_bytes().decode("utf-8", errors="replace")
            if path.suffix.lower() in (".html", ".htm"):
                text = html.unescape(re.sub(r"<(style|script).*?</\1>|<[^>]+>", " ", text, flags=re.DOTALL))
            return text
    return ""
