"""The tensors of a scene's state: photos and objects as named arrays of numbers, and back."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import trimesh
from PIL import Image
from torch import Tensor
from trimesh.visual.material import PBRMaterial

from safe_files.limits import MAX_GLB_ROWS, MAX_GRID
from safe_files.pictures import decode_picture
from scenegen.confidence.calibration import ObjectConfidence
from scenegen.export.textures import base_colour, is_textured
from scenegen.geometry import POSE_SIZE
from scenegen.inputs.scene_images import SceneImages
from scenegen.photo.room_parts import RoomPart
from scenegen.pipelines.result import GeneratedObject
from scenegen.pipelines.state import ObjectLatents
from trellis_modules.postprocess.textured_mesh import baked_material

Tensors = dict[str, Tensor]

_PNG_LEVEL = 1  # a third larger than the best, in a tenth of the time


class DamagedState(ValueError):
    """Tensors that are no state; the message is a part of a line."""


def pack_view(prefix: str, view: SceneImages) -> Tensors:
    """A photo and, by the numbers of its objects, their cut-outs and masks."""
    tensors = {f"{prefix}.photo": _png(view.photo)}
    for number, cutout, mask in zip(view.object_ids, view.cutouts, view.masks, strict=True):
        tensors[f"{prefix}.cutout_{number}"] = _png(cutout)
        tensors[f"{prefix}.mask_{number}"] = torch.from_numpy(np.packbits(mask))
    return tensors


def unpack_view(prefix: str, numbers: Sequence[int], tensors: Tensors) -> SceneImages:
    """The opposite of `pack_view`.

    Raises:
        DamagedState: a tensor is missing or has another form.
        UnreadableFile: a picture is damaged or too large.
    """
    photo = _picture(tensors, f"{prefix}.photo").convert("RGB")
    cutouts = [_picture(tensors, f"{prefix}.cutout_{number}") for number in numbers]
    masks = []
    for number in numbers:
        pixels = photo.width * photo.height
        packed = _array(tensors, f"{prefix}.mask_{number}", np.uint8, (-(-pixels // 8),))
        masks.append(np.unpackbits(packed, count=pixels).astype(bool).reshape(photo.height, photo.width))
        if not masks[-1].any():
            raise DamagedState(f"the mask of obj_{number} is empty")
    return SceneImages(photo, cutouts, masks, tuple(numbers))


def pack_object(item: GeneratedObject) -> Tensors:
    """An object: its pose and structure, its mesh, and what the networks sampled for it."""
    tensors = {"pose": item.pose.float(), "logits": item.logits.float()}
    if item.latents is not None:
        tensors["structure"] = item.latents.structure
        if item.latents.coords is not None and item.latents.feats is not None:
            tensors |= {"coords": item.latents.coords.to(torch.uint8), "feats": item.latents.feats}
    if item.mesh is not None:
        tensors |= _pack_mesh(item.mesh)
    return {f"{item.node}.{name}": tensor.contiguous().clone() for name, tensor in tensors.items()}


def unpack_object(
    number: int,
    tensors: Tensors,
    *,
    name: str,
    problem: str | None,
    settings: Mapping[str, object] | None,
    confidence: ObjectConfidence | None,
) -> GeneratedObject:
    """The opposite of `pack_object`.

    Raises:
        DamagedState: a tensor is missing or has another form.
        UnreadableFile: the texture is damaged or too large.
    """
    prefix = f"obj_{number}."
    own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    pose = _array(own, "pose", np.float32, (POSE_SIZE,))
    edge = own["logits"].shape[-1] if "logits" in own else 0
    logits = _array(own, "logits", np.float32, (min(edge, MAX_GRID),) * 3)
    if not np.isfinite(pose).all():
        raise DamagedState(f"the pose of obj_{number} is not finite")
    latents = None
    if "structure" in own:
        edge = min(own["structure"].shape[-1], MAX_GRID)
        structure = torch.from_numpy(_array(own, "structure", np.float32, (None, edge, edge, edge)))
        latents = ObjectLatents(structure, *_appearance(own))
    mesh = _unpack_mesh(own) if "vertices" in own else None
    return GeneratedObject(
        number,
        torch.from_numpy(pose),
        torch.from_numpy(logits),
        mesh,
        problem=problem,
        name=name,
        latents=latents,
        settings=settings,
        confidence=confidence,
    )


def pack_room_part(prefix: str, part: RoomPart) -> Tensors:
    """A rectangle of the room."""
    corners = torch.from_numpy(np.array(part.corners, np.float64))
    return {f"{prefix}.corners": corners, f"{prefix}.picture": _png(Image.fromarray(part.picture))}


def unpack_room_part(prefix: str, node: str, seen: float, tensors: Tensors) -> RoomPart:
    """The opposite of `pack_room_part`.

    Raises:
        DamagedState: a tensor is missing or has another form.
        UnreadableFile: the picture is damaged or too large.
    """
    corners = _array(tensors, f"{prefix}.corners", np.float64, (4, 3))
    picture = np.asarray(_picture(tensors, f"{prefix}.picture").convert("RGB"))
    if not np.isfinite(corners).all():
        raise DamagedState("corners of the room are not finite")
    return RoomPart(node, corners, picture, seen)


def _appearance(tensors: Tensors) -> tuple[Tensor | None, Tensor | None]:
    if "feats" not in tensors:
        return None, None
    feats = _array(tensors, "feats", np.float32, (None, None))
    coords = _array(tensors, "coords", np.uint8, (len(feats), 3))
    return torch.from_numpy(coords.astype(np.int32)), torch.from_numpy(feats)


def _pack_mesh(mesh: trimesh.Trimesh) -> Tensors:
    """Numbers as they are: a mesh that was read gives the same bytes in every file as the one written."""
    arrays = {
        "vertices": np.array(mesh.vertices, np.float64),
        "faces": np.array(mesh.faces, np.int64),
        "normals": np.array(mesh.vertex_normals, np.float64),
    }
    if not is_textured(mesh):
        arrays["colours"] = np.array(mesh.visual.vertex_colors, np.uint8)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    arrays["uvs"] = np.array(mesh.visual.uv, np.float64)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return tensors | {"texture": _png(base_colour(mesh))}


def _unpack_mesh(tensors: Tensors) -> trimesh.Trimesh:
    vertices = _array(tensors, "vertices", np.float64, (None, 3))
    faces = _array(tensors, "faces", np.int64, (None, 3))
    normals = _array(tensors, "normals", np.float64, (len(vertices), 3))
    if max(len(vertices), len(faces)) > MAX_GLB_ROWS:
        raise DamagedState(f"expected at most {MAX_GLB_ROWS} vertices and faces in a mesh")
    if not len(faces) or faces.min() < 0 or faces.max() >= len(vertices):
        raise DamagedState("faces of a mesh name vertices that it lacks")
    if not np.isfinite(vertices).all():
        raise DamagedState("vertices of a mesh are not finite")
    options = {}
    if "texture" in tensors:
        uvs = _array(tensors, "uvs", np.float64, (len(vertices), 2))
        material: PBRMaterial = baked_material(_picture(tensors, "texture").convert("RGB"))
        options["visual"] = trimesh.visual.TextureVisuals(uv=uvs, material=material)
    else:
        options["vertex_colors"] = _array(tensors, "colours", np.uint8, (len(vertices), 4))
    return trimesh.Trimesh(vertices, faces, vertex_normals=normals, process=False, **options)


def _png(image: Image.Image) -> Tensor:
    stream = io.BytesIO()
    image.save(stream, format="PNG", compress_level=_PNG_LEVEL)
    return torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8)


def _picture(tensors: Tensors, name: str) -> Image.Image:
    return decode_picture(_array(tensors, name, np.uint8, (None,)).tobytes(), ("PNG",))


def _array(tensors: Tensors, name: str, dtype: type, shape: tuple[int | None, ...]) -> np.ndarray:
    """A tensor as an array, if it has this type and shape; None allows any length of an axis.

    Raises:
        DamagedState: it has not, or is missing.
    """
    tensor = tensors.get(name)
    if tensor is None:
        raise DamagedState(f"the tensor {name!r} is missing")
    fits = tensor.ndim == len(shape) and all(
        want in (None, got) for want, got in zip(shape, tensor.shape, strict=True)
    )
    if not fits or str(tensor.dtype) != f"torch.{np.dtype(dtype)}":
        raise DamagedState(
            f"the tensor {name!r} has the shape {tuple(tensor.shape)} and the type {tensor.dtype}"
        )
    return tensor.numpy()
