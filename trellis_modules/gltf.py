"""A writer of binary glTF 2.0: named nodes with translation, rotation and scale, a material for each mesh.

It knows what this project writes: triangles with a base-colour texture or with vertex colours, 3D Gaussians,
and perspective cameras. Every node can be animated, no two things of a kind have one name or none, and the
bytes depend on the content alone.

Source: glTF 2.0 specification (Khronos Group); extensions KHR_mesh_quantization, KHR_gaussian_splatting and
EXT_texture_webp.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

_GENERATOR = "scenegen"
_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963  # sec. 5.11.5
_COMPONENT_TYPES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}  # sec. 3.6.2.2
_VECTORS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
_SAMPLER = {"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 10497}  # trilinear, repeated
_WEBP = "EXT_texture_webp"
_QUANTISED = "KHR_mesh_quantization"
_SPLATS = "KHR_gaussian_splatting"
_POINTS = 0  # sec. 5.24.4
_ROUGH = {"metallicFactor": 0.0, "roughnessFactor": 1.0}  # where they are left out viewers take dark metal
_MAX_SHEAR = 1e-6


@dataclass(frozen=True)
class Texture:
    """An encoded picture; ``media_type`` is image/png, image/jpeg or image/webp."""

    content: bytes
    media_type: str


@dataclass(frozen=True)
class GltfMesh:
    """Triangles with one rough, non-metallic material.

    Attributes:
        vertices: (V, 3) float, y up.
        faces: (F, 3) integer, counter-clockwise seen from outside.
        normals: (V, 3) float; those of no length are written as +y. Without them faces are shown flat.
        uvs: (V, 2) float, v up; with ``texture``.
        texture: base colour, sRGB.
        colours: (V, 4) uint8, linear light; without ``texture``.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray | None = None
    uvs: np.ndarray | None = None
    texture: Texture | None = None
    colours: np.ndarray | None = None


@dataclass(frozen=True)
class GltfSplats:
    """3D Gaussians (KHR_gaussian_splatting); who does not know them shows points, unlit.

    Attributes:
        centres: (N, 3) float, y up.
        rotations: (N, 4) unit quaternions xyzw, from own axes to those of the node.
        scales: (N, 3) float, standard deviations along the own axes.
        opacities: (N,) float in [0, 1].
        harmonics: (N, 3) float, coefficients of degree 0; sRGB is 0.5 + 0.2821 times these.
        colours: (N, 4) uint8, of the points, linear light.
    """

    centres: np.ndarray
    rotations: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    harmonics: np.ndarray
    colours: np.ndarray


@dataclass(frozen=True)
class GltfCamera:
    """A perspective camera: vertical field of view in radians, width over height, nearest depth."""

    yfov: float
    aspect: float
    near: float = 0.01


@dataclass(frozen=True)
class GltfNode:
    """A named thing and where it stands; its material, image and mesh get the same name.

    Attributes:
        name: used once in a file.
        transform: (4, 4) acting on column vectors: a rotation, one scale and a translation.
        content: a camera looks along -z of its own frame, y up.
    """

    name: str
    content: GltfMesh | GltfSplats | GltfCamera
    transform: np.ndarray = field(default_factory=lambda: np.eye(4))


def encode_glb(
    nodes: Sequence[GltfNode], extras: Mapping[str, Any] | None = None, *, quantise: bool = False
) -> bytes:
    """Encode a scene as GLB.

    Args:
        nodes: in the order of the file.
        extras: JSON values, kept in the extras of the file's ``asset``.
        quantise: write normals with 8 bits a number (KHR_mesh_quantization). Places stay floats, since whole
            numbers would need another scale in the named node; so do texture coordinates, since readers that
            take normalised ones as they are, such as trimesh, are common.

    Raises:
        ValueError: a name comes twice, or a transform shears or scales its axes differently.
    """
    names = [node.name for node in nodes]
    if len(set(names)) < len(names):
        raise ValueError(f"encode_glb: expected a name for each node, got {names}")
    document = _Document(quantise)
    for node in nodes:
        document.add(node)
    return document.encoded(dict(extras or {}))


def decompose(transform: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Split a similarity (4, 4) into translation (3,), unit quaternion (4,) xyzw with w >= 0, and scale.

    Raises:
        ValueError: it mirrors, shears or scales its axes differently.
    """
    transform = np.asarray(transform, dtype=np.float64)
    linear = transform[:3, :3]
    scale = float(np.cbrt(np.linalg.det(linear)))
    if not scale > 0 or np.abs(linear @ linear.T / scale**2 - np.eye(3)).max() > _MAX_SHEAR:
        raise ValueError(
            f"decompose: expected a rotation, one scale and a translation, got {transform.tolist()}"
        )
    return transform[:3, 3], Rotation.from_matrix(linear / scale).as_quat(canonical=True), scale


class _Document:
    """The JSON tree and the binary buffer of one file, growing node by node."""

    def __init__(self, quantise: bool) -> None:
        self._quantise = quantise
        self._lists: dict[str, list[dict[str, Any]]] = {}
        self._roots: list[int] = []
        self._required: set[str] = set()  # extensions
        self._optional: set[str] = set()
        self._binary = bytearray()

    def add(self, node: GltfNode) -> None:
        translation, rotation, scale = decompose(node.transform)
        entry: dict[str, Any] = {
            "name": node.name,
            "translation": translation.tolist(),
            "rotation": rotation.tolist(),
            "scale": [scale] * 3,
        }
        if isinstance(node.content, GltfCamera):
            entry["camera"] = self._append("cameras", _camera(node.name, node.content))
        elif isinstance(node.content, GltfSplats):
            entry["mesh"] = self._splats(node.name, node.content)
        else:
            entry["mesh"] = self._mesh(node.name, node.content)
        self._roots.append(self._append("nodes", entry))

    def encoded(self, extras: dict[str, Any]) -> bytes:
        tree: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": _GENERATOR, "extras": extras},
            "scene": 0,
            "scenes": [{"name": "scene", "nodes": self._roots}],
            **self._lists,
        }
        if used := self._required | self._optional:
            tree["extensionsUsed"] = sorted(used)
        if self._required:
            tree["extensionsRequired"] = sorted(self._required)
        if self._binary:
            tree["buffers"] = [{"byteLength": len(self._binary)}]
        text = json.dumps(tree, separators=(",", ":")).encode("utf-8")
        chunks = _chunk(_JSON_CHUNK, text, b" ") + _chunk(_BINARY_CHUNK, bytes(self._binary), b"\0")
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks

    def _mesh(self, name: str, mesh: GltfMesh) -> int:
        attributes = {"POSITION": self._positions(mesh.vertices)}
        if mesh.normals is not None:
            attributes["NORMAL"] = self._normals(mesh.normals)
        material: dict[str, Any] = {"name": name, "pbrMetallicRoughness": dict(_ROUGH)}
        if mesh.texture is not None:
            uvs = np.stack([mesh.uvs[:, 0], 1 - mesh.uvs[:, 1]], axis=1).astype("<f4")
            attributes["TEXCOORD_0"] = self._accessor(uvs, _ARRAY_BUFFER)
            material["pbrMetallicRoughness"]["baseColorTexture"] = {
                "index": self._texture(name, mesh.texture)
            }
        elif mesh.colours is not None:
            attributes["COLOR_0"] = self._accessor(mesh.colours.astype("u1"), _ARRAY_BUFFER, normalized=True)
        short = len(mesh.vertices) <= np.iinfo(np.uint16).max  # the highest index restarts a strip
        corners = mesh.faces.reshape(-1, 1).astype("<u2" if short else "<u4")
        primitive = {
            "attributes": attributes,
            "indices": self._accessor(corners, _ELEMENT_ARRAY_BUFFER),
            "material": self._append("materials", material),
        }
        return self._append("meshes", {"name": name, "primitives": [primitive]})

    def _splats(self, name: str, splats: GltfSplats) -> int:
        """Points whose quaternions and opacities are normalised whole numbers, which halves their bytes."""
        self._optional.add(_SPLATS)
        numbers = {
            "ROTATION": (np.rint(splats.rotations * 32767).astype("<i2"), True),
            "SCALE": (splats.scales.astype("<f4"), False),
            "OPACITY": (np.rint(splats.opacities[:, None] * 255).astype("u1"), True),
            "SH_DEGREE_0_COEF_0": (splats.harmonics.astype("<f4"), False),
        }
        attributes = {
            "POSITION": self._positions(splats.centres),
            "COLOR_0": self._accessor(splats.colours.astype("u1"), _ARRAY_BUFFER, normalized=True),
        }
        for key, (values, normalised) in numbers.items():
            attributes[f"{_SPLATS}:{key}"] = self._accessor(values, _ARRAY_BUFFER, normalized=normalised)
        kind = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
        primitive = {"attributes": attributes, "mode": _POINTS, "extensions": {_SPLATS: kind}}
        return self._append("meshes", {"name": name, "primitives": [primitive]})

    def _positions(self, vertices: np.ndarray) -> int:
        positions = vertices.astype("<f4")
        bounds = {"min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()}
        return self._accessor(positions, _ARRAY_BUFFER, **bounds)

    def _normals(self, normals: np.ndarray) -> int:
        unit = unit_normals(normals)
        if self._quantise:
            self._required.add(_QUANTISED)
            unit = np.rint(unit * 127).astype("i1")
        return self._accessor(unit, _ARRAY_BUFFER, normalized=self._quantise)

    def _texture(self, name: str, texture: Texture) -> int:
        if not self._lists.get("samplers"):
            self._append("samplers", _SAMPLER)
        view = self._view(texture.content)
        image = self._append("images", {"name": name, "mimeType": texture.media_type, "bufferView": view})
        entry: dict[str, Any] = {"name": name, "sampler": 0}
        if texture.media_type == "image/webp":
            self._required.add(_WEBP)
            entry["extensions"] = {_WEBP: {"source": image}}
        else:
            entry["source"] = image
        return self._append("textures", entry)

    def _accessor(self, values: np.ndarray, target: int, *, normalized: bool = False, **bounds: Any) -> int:
        """Add an array (N, C); rows of vertex attributes start at multiples of 4 bytes (sec. 3.6.2.4)."""
        count, columns = values.shape
        layout: dict[str, Any] = {"target": target}
        if target == _ARRAY_BUFFER and (short := -columns * values.itemsize % 4):
            values = np.pad(values, ((0, 0), (0, short // values.itemsize)))
            layout["byteStride"] = values.shape[1] * values.itemsize
        accessor = {
            "bufferView": self._view(values.tobytes(), **layout),
            "componentType": _COMPONENT_TYPES[values.dtype.str[1:]],
            "count": count,
            "type": _VECTORS[columns],
            **bounds,
        }
        return self._append("accessors", accessor | ({"normalized": True} if normalized else {}))

    def _view(self, content: bytes, **layout: Any) -> int:
        view = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(content), **layout}
        self._binary += content + b"\0" * (-len(content) % 4)
        return self._append("bufferViews", view)

    def _append(self, kind: str, entry: dict[str, Any]) -> int:
        entries = self._lists.setdefault(kind, [])
        entries.append(entry)
        return len(entries) - 1


def _camera(name: str, camera: GltfCamera) -> dict[str, Any]:
    lens = {"yfov": camera.yfov, "aspectRatio": camera.aspect, "znear": camera.near}
    return {"name": name, "type": "perspective", "perspective": lens}


def unit_normals(normals: np.ndarray) -> np.ndarray:
    """Normals (V, 3) of length 1, float32; where opposite faces cancel there is none, and any will do."""
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    unit = np.where(lengths > 1e-6, normals / np.maximum(lengths, 1e-6), (0.0, 1.0, 0.0))
    return unit.astype("<f4")


def _chunk(kind: int, content: bytes, filler: bytes) -> bytes:
    content += filler * (-len(content) % 4)
    return struct.pack("<II", len(content), kind) + content
