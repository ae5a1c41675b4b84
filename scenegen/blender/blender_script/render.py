"""Runs inside Blender, or under a Python with bpy: blender -b -P render.py -- --object a.glb --views '[...]'

Draws one asset from cameras around it, and writes its mesh in the frame of the pictures: z up, box centred at
the origin, longest side 1. ``transforms.json`` comes last, so a folder that has it is complete. The options
may also come from a JSON file, whose path is then the only argument: {"object": ..., "views": [...], ...}.
"""

import argparse
import json
import math
import os
import runpy
import struct
import sys

import bpy  # the package bpy must come before the modules that it brings

# isort: split
import bmesh
import numpy
from mathutils import Matrix, Vector

if not hasattr(numpy, "bool"):
    numpy.bool = bool  # Blender 3.4's glTF importer still uses the name that NumPy 1.24 took away

DEVICES = runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "devices.py"))
SURFACES = ("MESH", "CURVE", "SURFACE", "FONT", "META")
HALF_DIAGONAL, SENSOR_MM, MIST_DEPTH = math.sqrt(3) / 2, 32, 10
SAVED = ("mesh", "depth", "normal", "albedo", "mist")


def read_options(arguments):
    job = {}
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        with open(arguments[0], encoding="utf-8") as file:
            job = json.load(file)
    parser = argparse.ArgumentParser(prog="render.py")
    parser.add_argument("--views", type=json.loads, help="JSON list of {yaw, pitch, radius, fov} in radians")
    parser.add_argument("--object", help="model file")
    parser.add_argument("--output_folder", default="/tmp")
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--engine", default="CYCLES")
    parser.add_argument("--samples", type=int, default=128, help="paths a pixel")
    for name in ("geo_mode", "split_normal", *("save_" + name for name in SAVED)):
        parser.add_argument("--" + name, action="store_true")
    parser.set_defaults(**job)
    options = parser.parse_args([] if job else arguments)
    if not options.object or options.views is None:
        parser.error("--object and --views are needed")
    return options


# --- the asset -------------------------------------------------------------------------------------------


def operator(*names):
    """The first operator that this Blender has: importers moved between its versions."""
    for name in names:
        group, _, action = name.partition(".")
        found = getattr(getattr(bpy.ops, group), action)
        try:
            found.get_rna_type()
        except KeyError:
            continue
        return found
    raise RuntimeError("this Blender has no importer " + " or ".join(names))


def import_object(path):
    """Fill the empty scene with a model; y-up formats are turned z up by their importers."""
    kind = os.path.splitext(path)[1].lower().lstrip(".")
    if kind == "blend":
        bpy.ops.wm.open_mainfile(filepath=path)
        for item in list(bpy.context.scene.objects):
            if item.type in ("LIGHT", "CAMERA") or item.hide_render:
                bpy.data.objects.remove(item, do_unlink=True)
    elif kind in ("glb", "gltf"):
        bpy.ops.import_scene.gltf(filepath=path, merge_vertices=True, import_shading="NORMALS")
    else:
        importers = {
            **dict.fromkeys(("usd", "usda", "usdc", "usdz"), ("wm.usd_import",)),
            "obj": ("wm.obj_import", "import_scene.obj"),
            "fbx": ("import_scene.fbx", "wm.fbx_import"),
            "stl": ("wm.stl_import", "import_mesh.stl"),
            "ply": ("wm.ply_import", "import_mesh.ply"),
            "dae": ("wm.collada_import",),
            "abc": ("wm.alembic_import",),
        }
        if kind not in importers:
            raise ValueError("cannot read a model of kind " + repr(kind))
        operator(*importers[kind])(filepath=path)


def drawn_meshes():
    """The meshes of everything that is drawn, with modifiers, and their places in the world."""
    graph = bpy.context.evaluated_depsgraph_get()
    for item in filter(lambda item: item.type in SURFACES, bpy.context.scene.objects):
        evaluated = item.evaluated_get(graph)
        mesh = evaluated.to_mesh()
        if mesh is not None and len(mesh.vertices):
            yield mesh, evaluated.matrix_world
        evaluated.to_mesh_clear()


def world_vertices():
    """Vertices of everything that is drawn, (V, 3)."""
    found = [numpy.zeros((0, 3))]
    for mesh, matrix in drawn_meshes():
        local = numpy.empty(3 * len(mesh.vertices), dtype=numpy.float32)
        mesh.vertices.foreach_get("co", local)
        place = numpy.array(matrix)
        found.append(local.reshape(-1, 3).astype(float) @ place[:3, :3].T + place[:3, 3])
    return numpy.concatenate(found)


def normalise():
    """Fit the box of all surfaces to the unit cube; returns the scale and the offset that do it."""
    vertices = world_vertices()
    if not len(vertices) or not numpy.isfinite(vertices).all():
        raise ValueError("expected a model with finite vertices, found none")
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    side = float((high - low).max())
    if side <= 0:
        raise ValueError("expected a model with a size, all its vertices lie at one point")
    scale, offset = 1 / side, -(low + high) / 2 / side
    root = bpy.data.objects.new("asset", None)
    bpy.context.scene.collection.objects.link(root)
    for item in list(bpy.context.scene.objects):
        if item.parent is None and item is not root:
            item.parent = root
            item.matrix_parent_inverse = Matrix()
    root.matrix_world = Matrix.Translation(Vector(offset)) @ Matrix.Scale(scale, 4)
    bpy.context.view_layer.update()
    return scale, [float(value) for value in offset]


def override_materials():
    """Grey, matt and the same everywhere."""
    material = bpy.data.materials.new("grey")
    material.use_nodes = True
    nodes = material.node_tree.nodes
    nodes.clear()
    diffuse, output = nodes.new("ShaderNodeBsdfDiffuse"), nodes.new("ShaderNodeOutputMaterial")
    diffuse.inputs["Color"].default_value = (0.5, 0.5, 0.5, 1.0)
    diffuse.inputs["Roughness"].default_value = 1.0
    material.node_tree.links.new(diffuse.outputs[0], output.inputs["Surface"])
    bpy.context.view_layer.material_override = material


def split_normals():
    """Give every face its own corners, with the normals that they are drawn with."""
    for item in bpy.context.scene.objects:
        if item.type == "MESH":
            bpy.context.view_layer.objects.active = item
            bpy.ops.object.mode_set(mode="EDIT")
            bpy.ops.mesh.select_all(action="SELECT")
            bpy.ops.mesh.split_normals()
            bpy.ops.object.mode_set(mode="OBJECT")


def write_mesh(path):
    """Write all surfaces as one binary PLY of triangles, in the frame of the pictures."""
    vertices, faces, first = [], [], 0
    for mesh, matrix in drawn_meshes():
        triangles = bmesh.new()
        triangles.from_mesh(mesh)
        bmesh.ops.triangulate(triangles, faces=triangles.faces[:], quad_method="BEAUTY", ngon_method="BEAUTY")
        triangles.transform(matrix)
        triangles.verts.index_update()
        vertices += [tuple(vertex.co) for vertex in triangles.verts]
        faces += [[first + vertex.index for vertex in face.verts] for face in triangles.faces]
        first += len(triangles.verts)
        triangles.free()
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    part = path + ".part"
    with open(part, "wb") as file:
        file.write(header.encode("ascii"))
        file.write(numpy.array(vertices, dtype="<f4").tobytes())
        file.writelines(struct.pack("<B3i", 3, *face) for face in faces)
    os.replace(part, path)


# --- the pictures ----------------------------------------------------------------------------------------


def camera_matrix(view):
    """Camera to world, OpenGL axes: at its place on the sphere, towards the origin, z upwards."""
    yaw, pitch = view["yaw"], view["pitch"]
    backward = Vector((math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch)))
    right = Vector((-math.sin(yaw), math.cos(yaw), 0.0))  # has a limit straight above and below
    matrix = Matrix((right, backward.cross(right), backward)).transposed().to_4x4()
    matrix.translation = view["radius"] * backward
    return matrix


def add_camera():
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.sensor_width = camera.data.sensor_height = SENSOR_MM
    camera.data.clip_start, camera.data.clip_end = 0.01, 100.0
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    return camera


def add_lights():
    for name, kind, power, place, scale in (
        ("default", "POINT", 1000.0, (4.0, 1.0, 6.0), 1.0),
        ("top", "AREA", 10000.0, (0.0, 0.0, 10.0), 100.0),
        ("bottom", "AREA", 1000.0, (0.0, 0.0, -10.0), 1.0),
    ):
        light = bpy.data.objects.new(name, bpy.data.lights.new(name, kind))
        light.data.energy, light.location, light.scale = power, place, (scale, scale, scale)
        bpy.context.scene.collection.objects.link(light)


def set_up_render(options):
    scene = bpy.context.scene
    render, cycles, image = scene.render, scene.cycles, scene.render.image_settings
    render.engine = options.engine
    render.resolution_x = render.resolution_y = options.resolution
    render.resolution_percentage = 100
    render.film_transparent = True
    scene.view_settings.view_transform = "Filmic"  # later Blenders have another default
    image.file_format, image.color_mode, image.color_depth = "PNG", "RGBA", "8"
    if options.engine == "CYCLES":
        cycles.device = DEVICES["use_gpu"]()
        cycles.samples = 1 if options.geo_mode else options.samples
        cycles.pixel_filter_type, cycles.filter_width = "BOX", 1.0
        cycles.diffuse_bounces = cycles.glossy_bounces = 1
        cycles.transparent_max_bounces = 0 if options.geo_mode else 3
        cycles.transmission_bounces = 1 if options.geo_mode else 3
        DEVICES["use_denoiser"](scene)


def compositor():
    """The empty node tree that every picture passes, and its input layers."""
    scene = bpy.context.scene
    if hasattr(scene, "compositing_node_group"):  # since Blender 5.0
        tree = bpy.data.node_groups.new("passes", "CompositorNodeTree")
        scene.compositing_node_group = tree
    else:
        scene.use_nodes = True
        tree = scene.node_tree
        tree.nodes.clear()
    return tree, tree.nodes.new("CompositorNodeRLayers")


def add_output(tree, socket, folder, name):
    """A file that gets one pass of every picture; returns a function that sets its name."""
    output = tree.nodes.new("CompositorNodeOutputFile")
    form = output.format
    if hasattr(form, "media_type"):  # since Blender 5.0
        form.media_type = "IMAGE"
    form.file_format = "OPEN_EXR" if name == "normal" else "PNG"
    form.color_depth = "8" if name == "albedo" else "16"
    form.color_mode = {"normal": "RGB", "albedo": "RGBA"}.get(name, "BW")
    form.color_management = "OVERRIDE"
    form.view_settings.view_transform = "Standard" if name == "albedo" else "Raw"  # depths are no colours
    if hasattr(output, "file_output_items"):  # since Blender 5.0
        output.directory = folder
        output.file_output_items.new("RGBA" if name in ("normal", "albedo") else "FLOAT", name)
        tree.links.new(socket, output.inputs[0])
        return lambda number: setattr(output, "file_name", f"pass_{number:03d}_")
    output.base_path = folder
    tree.links.new(socket, output.inputs[0])
    return lambda number: setattr(output.file_slots[0], "path", f"pass_{number:03d}_{name}_")


def remapped(tree, socket):
    """A node that maps depths to 0 ... 1; its second and third inputs are their range."""
    old = hasattr(bpy.types, "CompositorNodeMapRange")  # until Blender 4.5
    node = tree.nodes.new("CompositorNodeMapRange" if old else "ShaderNodeMapRange")
    setattr(node, "use_clamp" if old else "clamp", True)
    tree.links.new(socket, node.inputs[0])
    node.inputs[3].default_value, node.inputs[4].default_value = 0.0, 1.0
    return node


def add_passes(options):
    """The optional pictures; returns what names them for each view, and the node with the depths' range."""
    layer = bpy.context.view_layer
    wanted = [name for name in SAVED if name != "mesh" and getattr(options, "save_" + name)]
    if not wanted:
        return {}, None
    layer.use_pass_z, layer.use_pass_normal = options.save_depth, options.save_normal
    layer.use_pass_diffuse_color, layer.use_pass_mist = options.save_albedo, options.save_mist
    if options.save_mist:
        world = bpy.context.scene.world or bpy.data.worlds.new("mist")
        bpy.context.scene.world = world
        world.mist_settings.start, world.mist_settings.depth = 0.0, MIST_DEPTH
        world.mist_settings.falloff = "LINEAR"
    tree, layers = compositor()
    folder, namers, depth_range = options.output_folder, {}, None
    for name in wanted:
        if name == "albedo":
            colour = layers.outputs["DiffCol" if "DiffCol" in layers.outputs else "Diffuse Color"]
            mask = tree.nodes.new("CompositorNodeSetAlpha")
            tree.links.new(colour, mask.inputs["Image"])
            tree.links.new(layers.outputs["Alpha"], mask.inputs["Alpha"])
            socket = mask.outputs[0]
        else:
            socket = layers.outputs[name.capitalize()]
        if name == "depth":
            depth_range = remapped(tree, socket)
            socket = depth_range.outputs[0]
        namers[name] = add_output(tree, socket, folder, name)
    return namers, depth_range


def collect_passes(folder, number, names):
    """Blender numbers the files of passes by frame; give them the names that readers expect."""
    for name in names:
        start = f"pass_{number:03d}_{name}"
        found = [file for file in os.listdir(folder) if file.startswith(start)]
        if len(found) != 1:
            raise RuntimeError(f"expected one picture {start}*, found {sorted(found)}")
        ending = os.path.splitext(found[0])[1]
        os.replace(os.path.join(folder, found[0]), os.path.join(folder, f"{number:03d}_{name}{ending}"))


def render_view(options, camera, number, view, namers, depth_range):
    """Draw one view and describe it as a frame of ``transforms.json``."""
    camera.matrix_world = camera_matrix(view)
    camera.data.lens = SENSOR_MM / 2 / math.tan(view["fov"] / 2)
    near, far = view["radius"] - HALF_DIAGONAL, view["radius"] + HALF_DIAGONAL
    if depth_range is not None:
        depth_range.inputs[1].default_value, depth_range.inputs[2].default_value = near, far
    for set_name in namers.values():
        set_name(number)
    name = f"{number:03d}.png"
    bpy.context.scene.render.filepath = os.path.join(options.output_folder, name)
    bpy.ops.render.render(write_still=True)
    collect_passes(options.output_folder, number, namers)
    frame = {
        "file_path": name,
        "camera_angle_x": view["fov"],
        "transform_matrix": [list(row) for row in camera.matrix_world],
    }
    return {**frame, "depth": {"min": near, "max": far}} if options.save_depth else frame


def main():
    options = read_options(sys.argv[sys.argv.index("--") + 1 :])
    os.makedirs(options.output_folder, exist_ok=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    import_object(options.object)
    if options.split_normal:
        split_normals()
    scale, offset = normalise()
    add_lights()
    camera = add_camera()
    set_up_render(options)
    if options.geo_mode:
        override_materials()
    namers, depth_range = add_passes(options)
    frames = [
        render_view(options, camera, number, view, namers, depth_range)
        for number, view in enumerate(options.views)
    ]
    if options.save_mesh:
        write_mesh(os.path.join(options.output_folder, "mesh.ply"))
    path = os.path.join(options.output_folder, "transforms.json")
    content = {"aabb": [[-0.5] * 3, [0.5] * 3], "scale": scale, "offset": offset, "frames": frames}
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(content, file, indent=4)
    os.replace(path + ".part", path)


main()
