"""A reader of the triangles of a GLB file, in the order of the file.

Pairing objects by index needs the node order of the file and memory matters when hundreds of textured scenes
are read, so this reader takes the node tree, positions and indices and leaves materials and images unread.

Source: glTF 2.0 specification (Khronos Group), sections 3.5 to 3.7 and 4.4 (GLB).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from safe_files.json_reader import parse_json
from safe_files.limits import (
    MAX_GLB_BYTES,
    MAX_GLB_DEPTH,
    MAX_GLB_NODES,
    MAX_GLB_ROWS,
    MAX_JSON_NAME,
)
from safe_files.regular import UnreadableFile, read_bytes, shown

_MAGIC = b"glTF"
_CHUNK_JSON = 0x4E4F534A
_CHUNK_BIN = 0x004E4942
_TRIANGLES = 4
_LINES_AND_POINTS = (0, 1, 2, 3)
_COMPONENT_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COMPONENT_COUNTS = {"SCALAR": 1, "VEC3": 3}


class GlbError(ValueError):
    """A GLB file that cannot be read; the message names the file."""


@dataclass(frozen=True)
class GlbMesh:
    """Triangles of one mesh node in the frame of the file.

    Attributes:
        node_path: names of the nodes from the root to the mesh node ("" where a node has no name).
        vertices: (V, 3) float64, y up, with the node transforms applied; only vertices that a face uses.
        faces: (F, 3) int64 indices into vertices.
    """

    node_path: tuple[str, ...]
    vertices: np.ndarray
    faces: np.ndarray


def read_glb(path: Path) -> list[GlbMesh]:
    """Read every mesh node of a GLB file, depth first in file order.

    Args:
        path: a binary glTF 2.0 file with embedded buffers.

    Returns:
        One entry for each node that holds at least one triangle.

    Raises:
        GlbError: the file is missing, cut short, damaged, or uses compressed or external geometry.
    """
    document, binary = _read_chunks(path)
    try:
        return _GlbTriangles(document, binary).meshes()
    except GlbError as error:
        raise GlbError(f"{path}: {error}; export it again as plain GLB") from error
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        # A damaged document can break any look-up; each of these means that the file contradicts itself.
        raise GlbError(
            f"{path}: expected a valid glTF 2.0 scene, got an inconsistent one "
            f"({type(error).__name__}: {error}); export it again"
        ) from error


def _read_chunks(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        content = read_bytes(path, MAX_GLB_BYTES)
    except UnreadableFile as error:
        raise GlbError(f"{path}: {error}; export the scene as .glb") from error
    except OSError as error:
        raise GlbError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    if len(content) < 20 or content[:4] != _MAGIC:
        raise GlbError(
            f"{path}: expected a GLB file, got {len(content)} bytes that start with "
            f"{content[:4]!r}; export the scene as .glb"
        )
    version, length = struct.unpack_from("<II", content, 4)
    if version != 2 or length > len(content):
        raise GlbError(
            f"{path}: expected glTF 2 with {length} bytes, got version {version} with "
            f"{len(content)} bytes; the file is cut short or damaged, write it again"
        )
    document, binary, offset = None, b"", 12
    while offset + 8 <= length:
        size, kind = struct.unpack_from("<II", content, offset)
        chunk = content[offset + 8 : offset + 8 + size]
        if kind == _CHUNK_JSON and document is None:
            document = _parse_json(path, chunk)
        elif kind == _CHUNK_BIN and not binary:
            binary = chunk
        offset += 8 + size
    if not isinstance(document, dict):
        raise GlbError(
            f"{path}: expected a JSON chunk with an object, got none; the file is damaged, write it again"
        )
    return document, binary


def _parse_json(path: Path, chunk: bytes) -> Any:
    try:
        return parse_json(chunk)
    except UnreadableFile as error:
        raise GlbError(f"{path}: first chunk: {error}; write the file again") from error


class _GlbTriangles:
    """Walks the node tree of one parsed glTF document."""

    def __init__(self, document: dict[str, Any], binary: bytes):
        self._document = document
        self._binary = binary
        self._visits = 0
        self._rows = 0
        self._meshes: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def meshes(self) -> list[GlbMesh]:
        scenes = self._document.get("scenes", [])
        if not scenes:
            return []
        found: list[GlbMesh] = []
        for root in scenes[self._document.get("scene", 0)].get("nodes", []):
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
                self._visit(root, (), np.eye(4), found)
        return found

    def _visit(
        self, index: int, parents: tuple[str, ...], to_scene: np.ndarray, found: list[GlbMesh]
    ) -> None:
        self._visits += 1
        if self._visits > MAX_GLB_NODES or len(parents) >= MAX_GLB_DEPTH:
            raise GlbError(
                f"expected a tree of at most {MAX_GLB_NODES} nodes and {MAX_GLB_DEPTH} levels, got more"
            )
        node = self._document["nodes"][index]
        name = node.get("name", "")
        if not isinstance(name, str) or len(name) > MAX_JSON_NAME:
            raise GlbError(f"expected node names of at most {MAX_JSON_NAME} characters, got {shown(name)}")
        node_path = (*parents, name)
        to_scene = to_scene @ _node_matrix(node)
        if "mesh" in node:
            vertices, faces = self._mesh(node["mesh"])
            self._count(len(vertices) + faces.size)
            if len(faces):
                placed = vertices @ to_scene[:3, :3].T + to_scene[:3, 3]
                if not np.isfinite(placed).all():
                    raise GlbError(f"node {shown(name)} has coordinates that are not finite")
                found.append(GlbMesh(node_path, placed, faces))
        for child in node.get("children", []):
            self._visit(child, node_path, to_scene, found)

    def _mesh(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and faces of a mesh; several nodes may show it."""
        if index not in self._meshes:
            self._meshes[index] = self._triangles(self._document["meshes"][index])
        return self._meshes[index]

    def _count(self, rows: int) -> None:
        """Count what is read and placed."""
        self._rows += rows
        if self._rows > MAX_GLB_ROWS:
            raise GlbError(f"expected at most {MAX_GLB_ROWS} vertices and corners of triangles, got more")

    def _triangles(self, mesh: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Join the triangle primitives of a mesh and drop vertices that no face uses."""
        vertices, faces, count = [np.empty((0, 3))], [np.empty((0, 3), np.int64)], 0
        for primitive in mesh["primitives"]:
            mode = primitive.get("mode", _TRIANGLES)
            if mode in _LINES_AND_POINTS:
                continue
            if mode != _TRIANGLES or "KHR_draco_mesh_compression" in primitive.get("extensions", {}):
                raise GlbError("expected plain triangles, got triangle strips, fans or compressed geometry")
            positions = self._accessor(primitive["attributes"]["POSITION"]).astype(np.float64)
            if "indices" in primitive:
                corners = self._accessor(primitive["indices"]).astype(np.int64).ravel()
            else:
                corners = np.arange(len(positions))
            inside = not len(corners) or 0 <= corners.min() <= corners.max() < len(positions)
            if len(corners) % 3 or not inside:
                raise GlbError("a face refers to a vertex that does not exist")
            vertices.append(positions)
            faces.append(corners.reshape(-1, 3) + count)
            count += len(positions)
        used, corners = np.unique(np.concatenate(faces), return_inverse=True)
        return np.concatenate(vertices)[used], corners.reshape(-1, 3)

    def _accessor(self, index: int) -> np.ndarray:
        """Return accessor `index` as (count, components), de-normalised where the file says so."""
        accessor = self._document["accessors"][index]
        if "sparse" in accessor or "bufferView" not in accessor:
            raise GlbError("expected plain accessors, got sparse or compressed ones")
        view = self._document["bufferViews"][accessor["bufferView"]]
        if view["buffer"] != 0 or "uri" in self._document["buffers"][0]:
            raise GlbError("expected one embedded buffer, got an external one")
        dtype = np.dtype(_COMPONENT_TYPES[accessor["componentType"]])
        columns = _COMPONENT_COUNTS[accessor["type"]]
        row = dtype.itemsize * columns
        stride, count = view.get("byteStride", row), accessor["count"]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        if not all(isinstance(number, int) and number >= 0 for number in (stride, count, start)):
            raise GlbError(f"accessor {index}: expected whole numbers as count, stride and offset")
        if stride < row or start + (count - 1) * stride + row > len(self._binary):
            raise GlbError(
                f"accessor {index}: expected {shown(count)} rows of {row} bytes inside the buffer of "
                f"{len(self._binary)}, got stride {shown(stride)} from byte {shown(start)} on"
            )
        self._count(count)
        values = np.ndarray((count, columns), dtype, self._binary, start, (stride, dtype.itemsize))
        if accessor.get("normalized") and dtype.kind in "iu":
            return np.maximum(values / np.iinfo(dtype).max, -1.0)
        return values


def _node_matrix(node: dict[str, Any]) -> np.ndarray:
    """Return the node's local transform as a 4x4 matrix acting on column vectors."""
    if "matrix" in node:
        return np.asarray(node["matrix"], dtype=np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    rotation = Rotation.from_quat(node.get("rotation", (0.0, 0.0, 0.0, 1.0))).as_matrix()
    matrix[:3, :3] = rotation * np.asarray(node.get("scale", (1.0, 1.0, 1.0)), dtype=np.float64)
    matrix[:3, 3] = node.get("translation", (0.0, 0.0, 0.0))
    return matrix
