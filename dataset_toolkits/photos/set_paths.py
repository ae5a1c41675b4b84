"""Where the files of a set of photos lie below a data root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scenegen.datasets.metadata import SCENES_NAMES

SETS = tuple(SCENES_NAMES)
DATASETS = ("3D-FUTURE",)
"""Data sets with annotated photos."""

RENDERS_COND = "renders_cond"
_RAW = Path("raw") / "3D-FUTURE-scene"


@dataclass(frozen=True)
class SetPaths:
    """The files of the set ``name``, train or test."""

    root: Path
    name: str

    @property
    def _suffix(self) -> str:
        return "" if self.name == "train" else f"_{self.name}"

    @property
    def annotations(self) -> Path:
        """Annotation file."""
        return self.root / _RAW / "GT" / f"{self.name}_set.json"

    @property
    def table(self) -> Path:
        """Table of scenes."""
        return self.root / SCENES_NAMES[self.name]

    @property
    def statistics(self) -> Path:
        """Counts of the table."""
        return self.root / f"statistics_scene{self._suffix}.txt"

    @property
    def truth(self) -> Path:
        """Folder of the true scenes."""
        return self.root / f"scene_{self.name}"

    @property
    def truth_renders(self) -> Path:
        """Folder with a picture of each true scene."""
        return self.root / f"scene_{self.name}_render"

    @property
    def failed_kind(self) -> str:
        """Name of the records of what failed, for ``failed_<kind>_<rank>.csv``."""
        return f"metadata_scene{self._suffix}"

    def photo(self, file_name: str) -> Path:
        """A raw photo."""
        return self.root / _RAW / self.name / "image" / f"{file_name}.jpg"

    def masked_images(self, file_name: str) -> str:
        """Folder of a photo's cut-outs and masks, relative to the root."""
        return f"masked_images{self._suffix}/{file_name}"

    def vggt_feature(self, file_name: str) -> str:
        """Geometry feature of a photo, relative to the root."""
        return f"vggt_features{self._suffix}/{file_name}.npz"
