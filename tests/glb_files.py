"""GLB files made by hand, so that a test can spoil any part of them."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np


def triangle_document() -> tuple[dict[str, Any], bytes]:
    """A scene of one node ``obj_0`` with one triangle: the JSON tree and the buffer."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes()
    corners = np.array([0, 1, 2], "<u4").tobytes()
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "obj_0", "mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5125, "count": 3, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": len(vertices)},
            {"buffer": 0, "byteOffset": len(vertices), "byteLength": len(corners)},
        ],
        "buffers": [{"byteLength": len(vertices) + len(corners)}],
    }
    return document, vertices + corners


def glb_bytes(document: dict[str, Any] | bytes, binary: bytes) -> bytes:
    """Join a JSON tree, or what stands in its place, and a buffer."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
