"""A fixed list of scenes in one JSON file, guarded by its hash and by the furniture split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safe_files.json_reader import read_json
from safe_files.regular import UnreadableFile
from scenegen.synthesis.furniture.split import check_split
from scenegen.synthesis.layouts.scene_layout import SceneLayout, layouts_sha256
from trellis_modules.files import atomic_write_text

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
        atomic_write_text(path, text)

    @classmethod
    def load(cls, path: Path) -> SceneList:
        """Read a list and verify it.

        Raises:
            SceneListError: missing, of another form, or its scenes do not have the hash it states.
            SplitError: a model does not belong to the list's split.
        """
        try:
            raw = read_json(path)
        except (OSError, UnreadableFile) as error:
            raise SceneListError(f"{path}: expected a readable scene list: {error}") from error
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise SceneListError(
                f"{path}: expected format {FORMAT!r}; make one with python -m dataset_toolkits.build_scenes"
            )
        try:
            layouts = tuple(SceneLayout.from_json(item) for item in raw["scenes"])
            scene_list = cls(raw["split"], raw["rule"], raw["image_size"], layouts)
            stated = raw["sha256"]
        except KeyError as error:
            raise SceneListError(f"{path}: expected key {error}; restore the committed file") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise SceneListError(
                f"{path}: expected scenes as layouts, got others ({error}); restore the committed file"
            ) from error
        if scene_list.sha256 != stated:
            raise SceneListError(
                f"{path}: expected scenes with sha256 {stated}, got {scene_list.sha256}; "
                "the file was changed, restore the committed one"
            )
        scene_list._check_models()
        return scene_list

    def chosen(self, split: str, scene_ids: Sequence[str] | None = None) -> list[SceneLayout]:
        """The scenes with these ids, in their order; all of them for None.

        Raises:
            SceneListError: the list is of another split, or lacks one of the scenes.
        """
        if self.split != split:
            raise SceneListError(
                f"scene list: expected {split} scenes, got {self.split} ones; give another list"
            )
        layouts = {layout.scene_id: layout for layout in self.layouts}
        if unknown := sorted(set(scene_ids or ()) - set(layouts)):
            raise SceneListError(f"scene list: no scene {unknown[0]!r} among {len(layouts)}; check the ids")
        return [layouts[scene_id] for scene_id in scene_ids or layouts]

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
