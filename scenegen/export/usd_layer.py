"""A USD layer as text (.usda): one transform, mesh and material per object; y up, in scene units.

Every USD program reads the text form, and writing it needs no USD library.

Source: OpenUSD, schemas UsdGeom and UsdShade, specification of UsdPreviewSurface 2.6.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import trimesh

from scenegen.export.meshes import srgb_to_linear, vertex_colours
from scenegen.pipelines.result import SceneResult

SCENE_FILE = "scene.usda"

_HEADER = """#usda 1.0
(
    defaultPrim = "Scene"
    metersPerUnit = 1
    upAxis = "Y"
)

def Xform "Scene"
{"""

_OBJECT = """
    def Xform "{node}"
    {{
        matrix4d xformOp:transform = ({matrix})
        uniform token[] xformOpOrder = ["xformOp:transform"]

        def Mesh "mesh" (
            prepend apiSchemas = ["MaterialBindingAPI"]
        )
        {{
            float3[] extent = [{extent}]
            int[] faceVertexCounts = [{counts}]
            int[] faceVertexIndices = [{corners}]
            rel material:binding = </Scene/{node}/material>
            point3f[] points = [{points}]
            uniform token subdivisionScheme = "none"
{colours}
        }}

        def Material "material"
        {{
            token outputs:surface.connect = </Scene/{node}/material/surface.outputs:surface>

            def Shader "surface"
            {{
                uniform token info:id = "UsdPreviewSurface"
                color3f inputs:diffuseColor.connect = </Scene/{node}/material/colour.outputs:{output}>
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
                float2 inputs:st.connect = </Scene/{node}/material/uv.outputs:result>
                float3 outputs:rgb
            }}

            def Shader "uv"
            {{
                uniform token info:id = "UsdPrimvarReader_float2"
                string inputs:varname = "st"
                float2 outputs:result
            }}"""


def write(result: SceneResult, scene: trimesh.Scene, folder: Path) -> list[str]:
    """Write ``scene.usda`` and ``obj_<k>_usd.png`` of textured objects."""
    names, parts = [SCENE_FILE], [_HEADER]
    for node in scene.graph.nodes_geometry:
        transform, geometry = scene.graph[node]
        mesh = scene.geometry[geometry]
        if mesh.visual.kind == "texture":
            picture = f"{node}_usd.png"
            mesh.visual.material.baseColorTexture.convert("RGB").save(folder / picture)
            names.append(picture)
            colours = _TEXTURE_COORDINATES.format(uvs=_tuples(mesh.visual.uv))
            shaders, output = _TEXTURE_SHADERS.format(node=node, picture=picture), "rgb"
        else:
            linear = srgb_to_linear(vertex_colours(mesh) / 255.0)  # displayColor is linear light
            colours = _VERTEX_COLOURS.format(colours=_tuples(linear))
            shaders, output = _VERTEX_COLOUR_SHADER, "result"
        parts.append(_object(node, mesh, transform, colours, shaders, output))
    (folder / SCENE_FILE).write_text("\n".join([*parts, "}"]) + "\n", encoding="ascii")
    return names


def _object(
    node: str, mesh: trimesh.Trimesh, transform: np.ndarray, colours: str, shaders: str, output: str
) -> str:
    return _OBJECT.format(
        node=node,
        matrix=_tuples(np.asarray(transform).T, "{:.9g}"),  # USD multiplies row vectors from the left
        extent=_tuples(mesh.bounds),
        counts=", ".join(["3"] * len(mesh.faces)),
        corners=", ".join(map(str, mesh.faces.ravel().tolist())),
        points=_tuples(mesh.vertices),
        colours=colours,
        shaders=shaders,
        output=output,
    )


def _tuples(rows: Iterable[Iterable[float]], number: str = "{:.6g}") -> str:
    """Rows of numbers as ``(a, b, c), (d, e, f)``."""
    return ", ".join("(" + ", ".join(number.format(value) for value in row) + ")" for row in rows)
