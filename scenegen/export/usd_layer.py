"""A USD layer as text (.usda), or packed with its pictures (.usdz); each object has a transform and material.

Every USD program reads the text form, and writing it needs no USD library. The layer is in the frame of
``scene.glb``: y up, one scene unit a metre. With physics it is in metres and has z up, as simulators
expect it (`scenegen.export.usd_physics`).

Source: OpenUSD, schemas UsdGeom and UsdShade, specifications of UsdPreviewSurface 2.6 and of USDZ 1.3.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import trimesh

from scenegen.export import usd_physics
from scenegen.export.frames import SceneFrame
from scenegen.export.meshes import srgb_to_linear, vertex_colours
from scenegen.export.options import ExportOptions
from scenegen.export.rigid_scene import RigidScene
from scenegen.export.textures import base_colour, encode_picture, is_textured, suffix, widely_read
from scenegen.export.usd_text import matrix_text, tuples_text
from scenegen.geometry import GLB_FRAME
from scenegen.photo.camera import PhotoCamera
from scenegen.physics.bodies import without_scale
from scenegen.pipelines.result import SceneResult
from trellis_modules.gltf import unit_normals

SCENE_FILE = "scene.usda"
PHYSICS_FILE = "scene.usdc"
ARCHIVE_FILE = "scene.usdz"

_ALIGNMENT, _PADDING_ID = 64, 0x1986  # of the files in an archive; id of the extra field that fills up
_LOCAL_HEADER, _EXTRA_HEADER = 30, 4  # bytes of a zip file before the name, and before the filler
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first date of the format: the bytes depend on the content alone
_APERTURE = 36.0  # width of a full-frame sensor in tenths of a unit

_HEADER = """#usda 1.0
(
    customLayerData = {{
        string frame = "{frame}"
    }}
    defaultPrim = "Scene"{mass_unit}
    metersPerUnit = 1
    upAxis = "{up}"
)

def Xform "Scene" (
    kind = "component"
)
{{"""

_CAMERA = """
    def Camera "{name}"
    {{
        float2 clippingRange = (0.01, 1000)
        float focalLength = {focal:.9g}
        float horizontalAperture = {width:.9g}
        float verticalAperture = {height:.9g}
        matrix4d xformOp:transform = ({matrix})
        uniform token[] xformOpOrder = ["xformOp:transform"]
    }}"""

_OBJECT = """
    def Xform "{node}"{schemas}
    {{
        matrix4d xformOp:transform = ({matrix})
        uniform token[] xformOpOrder = ["xformOp:transform"]
{attributes}
        def Mesh "mesh" (
            prepend apiSchemas = ["MaterialBindingAPI"]
        )
        {{
            float3[] extent = [{extent}]
            int[] faceVertexCounts = [{counts}]
            int[] faceVertexIndices = [{corners}]
            rel material:binding = </Scene/{node}/{node}>
            normal3f[] normals = [{normals}] (
                interpolation = "vertex"
            )
            point3f[] points = [{points}]
            uniform token subdivisionScheme = "none"
{colours}
        }}
{colliders}
        def Material "{node}"
        {{
            token outputs:surface.connect = </Scene/{node}/{node}/surface.outputs:surface>

            def Shader "surface"
            {{
                uniform token info:id = "UsdPreviewSurface"
                color3f inputs:diffuseColor.connect = </Scene/{node}/{node}/colour.outputs:{output}>
                float inputs:metallic = 0
                float inputs:roughness = 1
                token outputs:surface
            }}
{shaders}
        }}
    }}"""

_VERTEX_COLOURS = """            color3f[] primvars:displayColor = [{colours}] (
                interpolation = "vertex"
            )"""

_VERTEX_COLOUR_SHADER = """
            def Shader "colour"
            {
                uniform token info:id = "UsdPrimvarReader_float3"
                string inputs:varname = "displayColor"
                float3 outputs:result
            }"""

_TEXTURE_COORDINATES = """            texCoord2f[] primvars:st = [{uvs}] (
                interpolation = "vertex"
            )"""

_TEXTURE_SHADERS = """
            def Shader "colour"
            {{
                uniform token info:id = "UsdUVTexture"
                asset inputs:file = @./{picture}@
                token inputs:sourceColorSpace = "sRGB"
                float2 inputs:st.connect = </Scene/{node}/{node}/uv.outputs:result>
                float3 outputs:rgb
            }}

            def Shader "uv"
            {{
                uniform token info:id = "UsdPrimvarReader_float2"
                string inputs:varname = "st"
                float2 outputs:result
            }}"""


def write(result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions) -> list[str]:
    """Write ``scene.usda`` (with physics ``scene.usdc``) and ``obj_<k>_usd.png`` of textured objects."""
    files = _files(result, scene, options)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return list(files)


def write_archive(
    result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions
) -> list[str]:
    """Write ``scene.usdz``: the layer and its pictures in one file, which phones show."""
    (folder / ARCHIVE_FILE).write_bytes(_archive(_files(result, scene, options)))
    return [ARCHIVE_FILE]


def _files(result: SceneResult, scene: trimesh.Scene, options: ExportOptions) -> dict[str, bytes]:
    """The layer and the pictures that it names, by file name, the layer first."""
    rigid = RigidScene.of(result, scene, options) if options.physics else None
    parts, pictures = [_header(rigid)], {}
    texture_format = widely_read(options.texture_format)
    for node in scene.graph.nodes_geometry:
        transform, geometry = scene.graph[node]
        mesh = scene.geometry[geometry]
        if is_textured(mesh):
            picture = f"{node}_usd{suffix(texture_format)}"
            pictures[picture] = encode_picture(base_colour(mesh), texture_format).content
            colours = _TEXTURE_COORDINATES.format(uvs=tuples_text(mesh.visual.uv))
            shaders, output = _TEXTURE_SHADERS.format(node=node, picture=picture), "rgb"
        else:
            linear = srgb_to_linear(vertex_colours(mesh) / 255.0)  # displayColor is linear light
            colours = _VERTEX_COLOURS.format(colours=tuples_text(linear))
            shaders, output = _VERTEX_COLOUR_SHADER, "result"
        parts.append(_object(node, mesh, transform, rigid, colours, shaders, output))
    if result.camera is not None:
        parts.append(_camera(result.camera, SceneFrame.of(result, scene), rigid))
    text = "\n".join([*parts, "}"]) + "\n"
    if rigid is not None:
        return {PHYSICS_FILE: usd_physics.crate(text), **pictures}
    return {SCENE_FILE: text.encode("ascii"), **pictures}


def _header(rigid: RigidScene | None) -> str:
    if rigid is None:
        return _HEADER.format(frame=GLB_FRAME, mass_unit="", up="Y")
    header = _HEADER.format(frame=usd_physics.FRAME, mass_unit=usd_physics.MASS_UNIT, up="Z")
    return header + usd_physics.world()


def _archive(files: Mapping[str, bytes]) -> bytes:
    """A zip file without compression, in which the content of each file starts at a multiple of 64 bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, _LONG_AGO)
            header = _LOCAL_HEADER + len(name) + _EXTRA_HEADER
            padding = -(stream.tell() + header) % _ALIGNMENT
            info.extra = struct.pack("<HH", _PADDING_ID, padding) + b"\0" * padding
            archive.writestr(info, content)
    return stream.getvalue()


def _camera(view: PhotoCamera, frame: SceneFrame, rigid: RigidScene | None) -> str:
    node = frame.photo_node(view)
    transform = node.transform
    if rigid is not None:
        transform, _ = without_scale(rigid.to_world @ transform)
    return _CAMERA.format(
        name=node.name,
        focal=_APERTURE * view.focal,
        width=_APERTURE,
        height=_APERTURE * view.aspect,
        matrix=matrix_text(transform),
    )


def _object(
    node: str,
    mesh: trimesh.Trimesh,
    transform: np.ndarray,
    rigid: RigidScene | None,
    colours: str,
    shaders: str,
    output: str,
) -> str:
    schemas = attributes = colliders = ""
    size = 1.0
    if rigid is not None:  # points are in metres: bodies must not be scaled
        transform, size = without_scale(rigid.to_world @ transform)
        body = rigid.by_name.get(node)
        if body is not None:
            schemas, attributes = usd_physics.SCHEMAS, usd_physics.body_attributes(body)
            colliders = usd_physics.collider_meshes(body)
    return _OBJECT.format(
        node=node,
        schemas=schemas,
        attributes=attributes,
        colliders=colliders,
        matrix=matrix_text(transform),
        extent=tuples_text(size * mesh.bounds),
        counts=", ".join(["3"] * len(mesh.faces)),
        corners=", ".join(map(str, mesh.faces.ravel().tolist())),
        normals=tuples_text(unit_normals(mesh.vertex_normals), "{:.4g}"),
        points=tuples_text(size * mesh.vertices),
        colours=colours,
        shaders=shaders,
        output=output,
    )
