"""A fixed list of scenes in one JSON file, guarded by its hash and by the furniture split."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenegen.synthesis.furniture.split import check_split
from scenegen.synthesis.layouts.scene_layout import SceneLayout, layouts_sha256

FORMAT = "scenegen-scene-list-1"
_DECIMALS = 6


class SceneListError(ValueError):
    """A scene list is unreadable, changed, or holds a model of another split."""


@dataclass(frozen=True)
class SceneList:
    """Scenes that never change.

    Attributes:
        split: the furniture split all models belong to.
        rule: how the scenes were made, for people.
        image_size: pixels per side that the rule's visibility limits refer to.
        layouts: the scenes in full, objects sorted by visible area.
    """

    split: str
    rule: str
    image_size: int
    layouts: tuple[SceneLayout, ...]

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON of the layouts."""
        return layouts_sha256(self.layouts)

    def save(self, path: Path) -> None:
        """Write the list, one scene a line, with its hash.

        Raises:
            SplitError: a model does not belong to the split.
        """
        self._check_models()
        head = {
            "format": FORMAT,
            "split": self.split,
            "rule": self.rule,
            "image_size": self.image_size,
            "sha256": self.sha256,
        }
        lines = ",\n".join(json.dumps(layout.to_json(), separators=(",", ":")) for layout in self.layouts)
        text = json.dumps(head, indent=1)[:-2] + f',\n "scenes": [\n{lines}\n]}}\n'
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> SceneList:
        """Read a list and verify it.

        Raises:
            SceneListError: missing, of another form, or its scenes do not have the hash it states.
            SplitError: a model does not belong to the list's split.
        """
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise SceneListError(f"{path}: expected a readable scene list: {error}") from error
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise SceneListError(f"{path}: expected format {FORMAT!r}; use build_scenes.py --make-list")
        try:
            layouts = tuple(SceneLayout.from_json(item) for item in raw["scenes"])
            scene_list = cls(raw["split"], raw["rule"], raw["image_size"], layouts)
            stated = raw["sha256"]
        except KeyError as error:
            raise SceneListError(f"{path}: expected key {error}; restore the committed file") from error
        if scene_list.sha256 != stated:
            raise SceneListError(
                f"{path}: expected scenes with sha256 {stated}, got {scene_list.sha256}; "
                "the file was changed, restore the committed one"
            )
        scene_list._check_models()
        return scene_list

    def _check_models(self) -> None:
        models = {placed.model_id for layout in self.layouts for placed in layout.objects}
        check_split(sorted(models), self.split)


def rounded(layout: SceneLayout) -> SceneLayout:
    """The layout with its numbers rounded to 6 decimals, as lists store it."""
    return SceneLayout.from_json(_round(layout.to_json()))


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, list):
        return [_round(item) for item in value]
    if isinstance(value, dict):
        return {key: _round(item) for key, item in value.items()}
    return value
