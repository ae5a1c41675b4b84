"""Many furniture meshes in one safetensors file: quantised, with a `ModelInfo` for each.

In a file, face colours are indices into a palette of at most 256 colours per mesh: exact for meshes with that
many colours, the nearest palette colour for textured meshes with more. A pack file holds models of one split
only; `MeshPack.save` refuses anything else, so that a test model cannot slip into training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from safe_files.json_reader import parse_json
from safe_files.regular import UnreadableFile
from safe_files.weights import open_weights
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.furniture.split import check_split
from trellis_modules.checkpoint import write_state
from trellis_modules.files import atomic_write

FORMAT = "scenegen-mesh-pack-1"
_LEVELS = 65535
_PALETTE_SIZE = 256


class PackError(ValueError):
    """A mesh pack file is unreadable, of another format, or must not be used for this."""


@dataclass(frozen=True)
class MeshPack:
    """Meshes joined into flat arrays; mesh i owns the rows offsets[i]:offsets[i + 1].

    Attributes:
        vertices: (sumV, 3) float32, each mesh in its own object frame (y up, unit box).
        faces: (sumF, 3) int32, indices local to each mesh.
        face_colours: (sumF, 3) uint8 sRGB.
        vertex_offsets: (N + 1,) int64.
        face_offsets: (N + 1,) int64.
        infos: N records.
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_colours: np.ndarray
    vertex_offsets: np.ndarray
    face_offsets: np.ndarray
    infos: tuple[ModelInfo, ...]

    def __len__(self) -> int:
        return len(self.infos)

    def mesh(self, index: int) -> FurnitureMesh:
        """Mesh `index` as its own object.

        Raises:
            IndexError: outside 0 .. len(self) - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"MeshPack.mesh: index {index} is outside 0..{len(self) - 1}")
        vertex_range = slice(self.vertex_offsets[index], self.vertex_offsets[index + 1])
        face_range = slice(self.face_offsets[index], self.face_offsets[index + 1])
        return FurnitureMesh(
            self.vertices[vertex_range], self.faces[face_range], self.face_colours[face_range]
        )

    def index(self, model_id: str) -> int:
        """Position of a model in the pack.

        Raises:
            KeyError: the pack does not hold it.
        """
        for position, info in enumerate(self.infos):
            if info.id == model_id:
                return position
        raise KeyError(f"MeshPack: no model {model_id!r} among {len(self)}")

    @classmethod
    def from_meshes(cls, models: Iterable[tuple[FurnitureMesh, ModelInfo]]) -> MeshPack:
        """Join meshes with their records, in order."""
        pairs = list(models)
        meshes = [mesh for mesh, _ in pairs]
        return cls(
            vertices=_joined([mesh.vertices for mesh in meshes], np.float32),
            faces=_joined([mesh.faces for mesh in meshes], np.int32),
            face_colours=_joined([mesh.face_colours for mesh in meshes], np.uint8),
            vertex_offsets=np.cumsum([0] + [len(mesh.vertices) for mesh in meshes], dtype=np.int64),
            face_offsets=np.cumsum([0] + [len(mesh.faces) for mesh in meshes], dtype=np.int64),
            infos=tuple(info for _, info in pairs),
        )

    @classmethod
    def concatenate(cls, packs: Sequence[MeshPack]) -> MeshPack:
        """One pack with the meshes of all, in order."""
        return cls.from_meshes(pair for pack in packs for pair in pack.models())

    def models(self) -> list[tuple[FurnitureMesh, ModelInfo]]:
        """All meshes with their records, in order; `from_meshes` joins them again."""
        return [(self.mesh(index), info) for index, info in enumerate(self.infos)]

    def save(self, path: Path) -> None:
        """Write the pack, positions as 16-bit steps of the unit cube, under a temporary name first.

        Raises:
            SplitError: a model belongs to another split than the first one.
            ValueError: the pack is empty or a vertex lies outside the unit cube.
        """
        if not self.infos:
            raise ValueError(f"{path}: expected at least one mesh to pack, got none")
        split = self.infos[0].split
        for info in self.infos:
            if info.split != split:
                raise ValueError(f"{path}: {info.id} is of the {info.split} split among {split} models")
        check_split((info.id for info in self.infos), split)
        if np.abs(self.vertices).max() > 0.5 + 1e-4:
            raise ValueError(
                f"{path}: expected vertices in [-0.5, 0.5], got {np.abs(self.vertices).max():.3f}"
            )
        indices, palettes = zip(
            *(palette_of(self.mesh(i).face_colours) for i in range(len(self))), strict=True
        )
        narrow = np.uint16 if np.diff(self.vertex_offsets).max() <= _LEVELS + 1 else np.int32
        tensors = {
            "vertices": np.round(np.clip(self.vertices + 0.5, 0, 1) * _LEVELS).astype(np.uint16),
            "faces": self.faces.astype(narrow),
            "palettes": np.concatenate(palettes),
            "palette_offsets": np.cumsum([0] + [len(palette) for palette in palettes], dtype=np.int64),
            "palette_indices": np.concatenate(indices),
            "vertex_offsets": self.vertex_offsets,
            "face_offsets": self.face_offsets,
        }
        infos = json.dumps([info.to_json() for info in self.infos], ensure_ascii=False)
        with atomic_write(path) as temporary:
            state = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()}
            write_state(state, temporary, {"format": FORMAT, "split": split, "infos": infos})

    @classmethod
    def load_for_training(cls, path: Path | str) -> MeshPack:
        """Read a pack that something is learnt from.

        Raises:
            PackError: see `load`; or it holds models of another split.
            SplitError: see `load`.
        """
        return cls._load_only(path, "train", "nothing may be trained on them")

    @classmethod
    def load_for_validation(cls, path: Path | str) -> MeshPack:
        """Read a pack on which a training is measured.

        Raises:
            PackError: see `load`; or it holds models of another split.
            SplitError: see `load`.
        """
        why = "figures of others would say nothing, or give test models away"
        return cls._load_only(path, "validation", why)

    @classmethod
    def _load_only(cls, path: Path | str, split: str, why: str) -> MeshPack:
        pack = cls.load(path)
        if foreign := [info.id for info in pack.infos if info.split != split]:
            raise PackError(
                f"{path}: expected models of the {split} split only, got {foreign[0]!r} and "
                f"{len(foreign) - 1} more; {why}"
            )
        return pack

    @classmethod
    def load(cls, path: Path | str) -> MeshPack:
        """Read a pack, and check that its models are of the split that it says.

        Raises:
            PackError: missing, truncated or not a mesh pack.
            SplitError: a model belongs to another split than the pack says, whatever is written in the file.
        """
        try:
            with open_weights(path, "numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise PackError(
                        f"{path}: expected a {FORMAT} file, got format {metadata.get('format')!r}"
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, UnreadableFile) as error:
            raise PackError(
                f"{path}: expected a readable mesh pack: {error}; "
                "build it with python -m dataset_toolkits.build_mesh_packs"
            ) from error
        try:
            pack = cls._assembled(tensors, parse_json(metadata["infos"]))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise PackError(
                f"{path}: expected the tensors of a mesh pack, got others ({type(error).__name__}: {error}); "
                "build it again with python -m dataset_toolkits.build_mesh_packs"
            ) from error
        for info in pack.infos:
            check_split([info.id], info.split)
        return pack

    @classmethod
    def _assembled(cls, tensors: Mapping[str, np.ndarray], infos: Sequence[Mapping[str, Any]]) -> MeshPack:
        palette_starts = np.repeat(tensors["palette_offsets"][:-1], np.diff(tensors["face_offsets"]))
        pack = cls(
            vertices=tensors["vertices"].astype(np.float32) / np.float32(_LEVELS) - np.float32(0.5),
            faces=tensors["faces"].astype(np.int32),
            face_colours=tensors["palettes"][palette_starts + tensors["palette_indices"]],
            vertex_offsets=tensors["vertex_offsets"],
            face_offsets=tensors["face_offsets"],
            infos=tuple(ModelInfo.from_json(raw) for raw in infos),
        )
        counts = _counts("vertex_offsets", pack.vertex_offsets, len(pack.vertices))
        owners = np.repeat(counts, _counts("face_offsets", pack.face_offsets, len(pack.faces)))
        if not len(pack) == len(counts) == len(pack.face_offsets) - 1 or not len(pack):
            raise ValueError(f"expected a record for each of {len(counts)} meshes, got {len(pack)}")
        if len(pack.faces) and not (pack.faces.min() >= 0 and (pack.faces < owners[:, None]).all()):
            raise ValueError("a face refers to a vertex that does not exist")
        return pack


def _counts(name: str, offsets: np.ndarray, total: int) -> np.ndarray:
    """Rows of each mesh; offsets that do not lead from 0 to the last row in steps are refused."""
    counts = np.diff(offsets)
    if offsets[0] != 0 or offsets[-1] != total or (counts < 0).any():
        raise ValueError(f"{name}: expected offsets from 0 to {total}, got others")
    return counts


def palette_of(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write colours as indices into at most 256 of them.

    Args:
        colours: (F, 3) uint8.

    Returns:
        (F,) uint8 indices and the (P, 3) uint8 palette; exact when there are at most 256 different colours.
    """
    palette, indices = np.unique(colours, axis=0, return_inverse=True)
    if len(palette) > _PALETTE_SIZE:
        quantised = Image.fromarray(colours[None]).quantize(_PALETTE_SIZE, dither=Image.Dither.NONE)
        indices = np.asarray(quantised)[0]
        palette = np.array(quantised.getpalette(), dtype=np.uint8).reshape(-1, 3)
    return indices.reshape(-1).astype(np.uint8), palette.astype(np.uint8)


def _joined(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros((0, 3), dtype)
