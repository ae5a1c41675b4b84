"""Pictures of textured objects as the formats take them, and pictures for objects that have none."""

from __future__ import annotations

import io

import numpy as np
import trimesh
from PIL import Image

from scenegen.export.meshes import vertex_colours
from scenegen.export.options import TextureFormat
from trellis_modules.gltf import Texture

_QUALITY = 90  # of JPEG and WebP: no block is seen at the size of a texel
_PNG_LEVEL = 4  # of 9; 6, the usual one, takes twice the time for files that are 6 to 9 % smaller
_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


def is_textured(mesh: trimesh.Trimesh) -> bool:
    """Whether a mesh has texture coordinates and a picture."""
    return mesh.visual.kind == "texture"


def base_colour(mesh: trimesh.Trimesh) -> Image.Image:
    """The picture (RGB) of a textured mesh."""
    return mesh.visual.material.baseColorTexture.convert("RGB")


def encode_picture(picture: Image.Image, texture_format: TextureFormat) -> Texture:
    """Encode a picture; JPEG keeps the full resolution of the colours, whose edges are those of charts."""
    settings = {
        "png": {"compress_level": _PNG_LEVEL},
        "jpeg": {"quality": _QUALITY, "subsampling": 0},
        "webp": {"quality": _QUALITY},
    }[texture_format]
    stream = io.BytesIO()
    picture.save(stream, format=texture_format, **settings)
    return Texture(stream.getvalue(), f"image/{texture_format}")


def widely_read(texture_format: TextureFormat) -> TextureFormat:
    """The format in files whose readers know PNG and JPEG only."""
    return "png" if texture_format == "webp" else texture_format


def suffix(texture_format: TextureFormat) -> str:
    """Ending of file names."""
    return _SUFFIXES[texture_format]


def corner_texture(mesh: trimesh.Trimesh) -> tuple[Image.Image, np.ndarray]:
    """A small picture that shows the vertex colours of a mesh, for formats that have none.

    Each face gets 2 x 2 texels: its corners lie in the middles of three of them and the fourth continues the
    plane through their colours, so that filtering between texels gives the colours between vertices and none
    of another face.

    Returns:
        The picture (RGB), sRGB, and texture coordinates (F, 3, 2) float64 of the faces' corners, v up.
    """
    colours = vertex_colours(mesh)[mesh.faces].astype(np.int64)  # (F, 3, 3)
    count = len(colours)
    edge = int(np.ceil(np.sqrt(count)))
    fourth = (colours[:, 1] + colours[:, 2] - colours[:, 0]).clip(0, 255)
    tiles = np.zeros((edge * edge, 2, 2, 3), np.uint8)
    tiles[:count] = np.stack([colours[:, 0], colours[:, 1], colours[:, 2], fourth], axis=1).reshape(
        -1, 2, 2, 3
    )
    texels = tiles.reshape(edge, edge, 2, 2, 3).transpose(0, 2, 1, 3, 4).reshape(2 * edge, 2 * edge, 3)
    row, column = np.divmod(np.arange(count), edge)
    corners = np.array([[0, 0], [1, 0], [0, 1]])  # (x, y) of the texels of the three corners
    texel = 2 * np.stack([column, row], axis=1)[:, None] + corners + 0.5
    uvs = texel / (2 * edge)
    uvs[..., 1] = 1 - uvs[..., 1]
    return Image.fromarray(texels), uvs
