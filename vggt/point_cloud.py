"""Coloured points, and the files that viewers read: PLY and GLB."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# glTF 2.0 constants (sections 3.6.2 and 4.4 of the specification).
_GLB_MAGIC, _GLB_VERSION = 0x46546C67, 2
_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942
_FLOAT, _UNSIGNED_BYTE = 5126, 5121
_ARRAY_BUFFER, _POINTS = 34962, 0
#: OpenCV's axes (y down, z forward) to glTF's (y up, z backward): half a turn about x, quaternion xyzw.
_OPENCV_TO_GLTF = (1.0, 0.0, 0.0, 0.0)
_PLY_FRAME = "frame of cameras.json: camera of the first image, x right, y down, z forward"
_GLB_FRAME = "camera of the first image, y up, z backward; points.ply and cameras.json turned half about x"
_ROUGH = {"metallicFactor": 0.0, "roughnessFactor": 1.0}  # where they are left out viewers take dark metal


@dataclass(frozen=True)
class PointCloud:
    """N points with colours.

    Attributes:
        xyz: (N, 3) float32, OpenCV axes.
        rgb: (N, 3) uint8, sRGB.
    """

    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.xyz.ndim != 2 or self.xyz.shape[1] != 3 or self.xyz.shape != self.rgb.shape:
            raise ValueError(
                f"PointCloud: expected xyz and rgb (N, 3), got {self.xyz.shape}, {self.rgb.shape}"
            )
        if self.xyz.dtype != np.float32 or self.rgb.dtype != np.uint8:
            raise ValueError(
                f"PointCloud: expected xyz float32 and rgb uint8, got {self.xyz.dtype} and {self.rgb.dtype}"
            )

    def __len__(self) -> int:
        return len(self.xyz)

    def thinned(self, limit: int) -> PointCloud:
        """At most ``limit`` points, evenly spaced in their order."""
        if len(self) <= limit:
            return self
        chosen = np.linspace(0, len(self) - 1, limit).astype(np.int64)
        return PointCloud(self.xyz[chosen], self.rgb[chosen])

    def save_ply(self, path: Path) -> None:
        """Write a binary PLY file in the points' own frame."""
        fields = [*((axis, "<f4") for axis in "xyz"), *((name, "u1") for name in ("red", "green", "blue"))]
        table = np.empty(len(self), dtype=fields)
        for (name, _), column in zip(fields, (*self.xyz.T, *self.rgb.T)):
            table[name] = column
        kinds = {"<f4": "float", "u1": "uchar"}
        properties = [f"property {kinds[kind]} {name}" for name, kind in fields]
        header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(self)}", *properties]
        header.append(f"comment {_PLY_FRAME}")
        path.write_bytes("\n".join([*header, "end_header", ""]).encode("ascii") + table.tobytes())

    def save_glb(self, path: Path) -> None:
        """Write a binary glTF 2.0 file; a node turns the points upright, their coordinates stay.

        Raises:
            ValueError: there is no point, which glTF cannot express, or a coordinate is not finite.
        """
        if not len(self) or not np.isfinite(self.xyz).all():
            raise ValueError(f"{path}: GLB needs at least one point and finite ones, got {len(self)} points")
        positions = self.xyz.astype("<f4").tobytes()
        colours = _linear_rgba(self.rgb).tobytes()
        scene = json.dumps(self._gltf(len(positions), len(colours))).encode("utf-8")
        chunks = _chunk(_JSON_CHUNK, scene, b" ") + _chunk(_BINARY_CHUNK, positions + colours, b"\0")
        path.write_bytes(struct.pack("<III", _GLB_MAGIC, _GLB_VERSION, 12 + len(chunks)) + chunks)

    def _gltf(self, position_bytes: int, colour_bytes: int) -> dict:
        count = len(self)
        bounds = {"min": self.xyz.min(0).tolist(), "max": self.xyz.max(0).tolist()}
        primitive = {"attributes": {"POSITION": 0, "COLOR_0": 1}, "mode": _POINTS, "material": 0}
        views = [(0, position_bytes), (position_bytes, colour_bytes)]
        return {
            "asset": {"version": "2.0", "generator": "vggt", "extras": {"frame": _GLB_FRAME}},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"name": "points", "mesh": 0, "rotation": _OPENCV_TO_GLTF}],
            "meshes": [{"name": "points", "primitives": [primitive]}],
            "materials": [{"name": "points", "pbrMetallicRoughness": _ROUGH}],
            "accessors": [
                {"bufferView": 0, "componentType": _FLOAT, "count": count, "type": "VEC3", **bounds},
                {
                    "bufferView": 1,
                    "componentType": _UNSIGNED_BYTE,
                    "normalized": True,
                    "count": count,
                    "type": "VEC4",
                },
            ],
            "bufferViews": [
                {"buffer": 0, "byteOffset": offset, "byteLength": length, "target": _ARRAY_BUFFER}
                for offset, length in views
            ],
            "buffers": [{"byteLength": position_bytes + colour_bytes}],
        }


def _linear_rgba(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 3) sRGB -> (N, 4) opaque linear light, in which glTF keeps vertex colours.

    Source: IEC 61966-2-1.
    """
    levels = np.arange(256) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    table = np.rint(linear * 255).astype(np.uint8)
    return np.concatenate([table[rgb], np.full((len(rgb), 1), 255, np.uint8)], axis=1)


def _chunk(kind: int, content: bytes, filler: bytes) -> bytes:
    content += filler * (-len(content) % 4)
    return struct.pack("<II", len(content), kind) + content
