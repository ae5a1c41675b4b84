"""Runs inside Blender: blender -b --factory-startup --python render_scene.py -- job.json

Renders the scene that ``dataset_toolkits/blender_renderer.py`` describes in the job file. The job is y up
with OpenCV cameras; Blender is z up with OpenGL cameras.
"""

import json
import math
import random
import sys

import bpy
import numpy
from mathutils import Matrix, Vector

if not hasattr(numpy, "bool"):
    numpy.bool = bool  # Blender 3.4's glTF importer still uses the name that NumPy 1.24 took away

Y_UP_TO_Z_UP = Matrix(((1, 0, 0, 0), (0, 0, -1, 0), (0, 1, 0, 0), (0, 0, 0, 1)))
OPENGL_TO_OPENCV = Matrix.Diagonal((1, -1, -1, 1))
PLANE_SIZE_M = 200.0
SUN_ANGLE_DEG = 4.0  # soft edges of shadows
SUN_GAIN = 4.0  # these two give about the brightness of the ray caster's pictures
SKY_GAIN = 0.75
TEXTURES = ("Checker", "Wave", "Voronoi", "Brick", "Noise")
PATTERN_SHARE = 0.6  # of the materials, where patterns are asked for


def linear(srgb):
    """sRGB triple in [0, 1] to linear light."""
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in srgb]


def to_z_up(vector):
    return Y_UP_TO_Z_UP.to_3x3() @ Vector(vector)


def add_object(item):
    """Import a GLB and give it the place ``item["matrix"]`` (object frame to world, y up)."""
    before = set(bpy.data.objects)
    bpy.ops.import_scene.gltf(filepath=item["glb"])
    place = Y_UP_TO_Z_UP @ Matrix(item["matrix"]) @ Y_UP_TO_Z_UP.inverted()  # the importer turned it z up
    for added in set(bpy.data.objects) - before:
        if added.parent is None:
            added.matrix_world = place @ added.matrix_world


def add_plane(point, normal, colour, name):
    """Add a large matt plane; ``point`` and ``normal`` are y up."""
    bpy.ops.mesh.primitive_plane_add(size=PLANE_SIZE_M)
    plane = bpy.context.object
    turn = to_z_up(normal).to_track_quat("Z", "Y").to_matrix().to_4x4()
    plane.matrix_world = Matrix.Translation(to_z_up(point)) @ turn
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*linear(colour), 1.0)
    shader.inputs["Roughness"].default_value = 0.9
    plane.data.materials.append(material)


def add_camera(job):
    data = bpy.data.cameras.new("camera")
    data.sensor_fit = "HORIZONTAL"
    data.angle = math.radians(job["fov_deg"])
    data.clip_start = 0.01
    camera = bpy.data.objects.new("camera", data)
    camera.matrix_world = Y_UP_TO_Z_UP @ Matrix(job["camera_to_world"]) @ OPENGL_TO_OPENCV
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera


def add_sun(job):
    data = bpy.data.lights.new("sun", "SUN")
    data.energy = SUN_GAIN * job["sun_strength"]
    data.angle = math.radians(SUN_ANGLE_DEG)
    sun = bpy.data.objects.new("sun", data)
    sun.matrix_world = to_z_up(job["sun_direction"]).to_track_quat("Z", "Y").to_matrix().to_4x4()
    bpy.context.scene.collection.objects.link(sun)


def add_sky(job):
    """White light from all around; the camera itself sees the wall's colour behind everything."""
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    sky = nodes["Background"]
    sky.inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
    sky.inputs["Strength"].default_value = SKY_GAIN * job["ambient_strength"]
    backdrop = nodes.new("ShaderNodeBackground")
    backdrop.inputs["Color"].default_value = (*linear(job["wall_colour"]), 1.0)
    backdrop.inputs["Strength"].default_value = SKY_GAIN
    mix, path = nodes.new("ShaderNodeMixShader"), nodes.new("ShaderNodeLightPath")
    links.new(path.outputs["Is Camera Ray"], mix.inputs[0])
    links.new(sky.outputs[0], mix.inputs[1])
    links.new(backdrop.outputs[0], mix.inputs[2])
    links.new(mix.outputs[0], nodes["World Output"].inputs["Surface"])
    bpy.context.scene.world = world


def add_surroundings(look):
    """Light of a photo of all directions, which the camera also sees behind everything."""
    world = bpy.data.worlds.new("surroundings")
    world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    photo, place, turn = (
        nodes.new("ShaderNode" + kind) for kind in ("TexEnvironment", "TexCoord", "Mapping")
    )
    photo.image = bpy.data.images.load(look["hdri"])
    turn.inputs["Rotation"].default_value = (0.0, 0.0, look["turn"])
    links.new(place.outputs["Generated"], turn.inputs["Vector"])
    links.new(turn.outputs["Vector"], photo.inputs["Vector"])
    links.new(photo.outputs["Color"], nodes["Background"].inputs["Color"])
    nodes["Background"].inputs["Strength"].default_value = look["strength"]
    bpy.context.scene.world = world


def paint_patterns(seed):
    """Paint strong patterns on most materials, of objects as well as of floor and walls."""
    draw = random.Random(seed)
    for material in sorted(bpy.data.materials, key=lambda each: each.name):
        tree = material.node_tree
        shader = tree and next((node for node in tree.nodes if node.type == "BSDF_PRINCIPLED"), None)
        if shader is not None and draw.random() < PATTERN_SHARE:
            paint_pattern(tree, shader, draw, material.name.startswith(("floor", "wall_")))


def paint_pattern(tree, shader, draw, is_room):
    """Put a second colour over the first one where a texture is above a half."""
    place, mix = tree.nodes.new("ShaderNodeTexCoord"), tree.nodes.new("ShaderNodeMixRGB")
    texture = tree.nodes.new("ShaderNodeTex" + draw.choice(TEXTURES))
    texture.inputs["Scale"].default_value = draw.uniform(1, 5) if is_room else draw.uniform(3, 14)
    tree.links.new(place.outputs["Object" if is_room else "Generated"], texture.inputs["Vector"])
    base = shader.inputs["Base Color"]
    if base.is_linked:
        tree.links.new(base.links[0].from_socket, mix.inputs["Color1"])
    else:
        mix.inputs["Color1"].default_value = base.default_value
    mix.inputs["Color2"].default_value = (*(draw.random() for _ in range(3)), 1.0)
    sharp = tree.nodes.new("ShaderNodeMath")
    sharp.operation = "GREATER_THAN"
    sharp.inputs[1].default_value = 0.5
    value = texture.outputs["Fac"] if "Fac" in texture.outputs else texture.outputs[0]
    tree.links.new(value, sharp.inputs[0])
    tree.links.new(sharp.outputs[0], mix.inputs["Fac"])
    tree.links.new(mix.outputs["Color"], base)
    shader.inputs["Roughness"].default_value = draw.uniform(0.15, 0.9)


def set_up_render(job):
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = job["samples"]
    scene.cycles.use_denoising = False  # Debian's build has no denoiser
    scene.cycles.max_bounces = 4
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x = scene.render.resolution_y = job["size"]
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = job["picture"]


def main():
    with open(sys.argv[sys.argv.index("--") + 1], encoding="utf-8") as file:
        job = json.load(file)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    for item in job["objects"]:
        add_object(item)
    add_plane((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), job["floor_colour"], "floor")
    for number, wall in enumerate(job["walls"]):
        add_plane(wall["point"], wall["normal"], job["wall_colour"], f"wall_{number}")
    add_camera(job)
    look = job.get("look")
    if look is None:
        add_sun(job)
        add_sky(job)
    else:
        add_surroundings(look)
        paint_patterns(look["seed"])
    set_up_render(job)
    bpy.ops.render.render(write_still=True)


main()
