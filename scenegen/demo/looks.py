"""What the page shows of a scene while it is made, and when somebody hides some of its objects."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from scenegen.demo.pictures import write_shown
from scenegen.demo.session import Session
from scenegen.export.glb import glb_bytes
from scenegen.export.meshes import build_scene
from scenegen.export.options import ExportOptions
from scenegen.export.preview import render_preview
from scenegen.pipelines.result import GeneratedObject, SceneResult

LOOK_SIZE = 384
"""Height in pixels of the picture of a scene that is being made; it is twice as wide."""

_LOOK = ExportOptions(texture_format="jpeg")  # for files that are looked at only


class SceneLook:
    """A picture of the scene as far as it is: plain surfaces, which textured objects replace one by one.

    Attributes:
        path: file of the latest picture; None before the first one.
    """

    def __init__(self, session: Session) -> None:
        """Show nothing yet."""
        self.path: Path | None = None
        self._session = session
        self._scene: SceneResult | None = None

    def show(self, preview: SceneResult) -> None:
        """Show the plain surfaces of all objects."""
        self._scene = preview
        self._draw()

    def show_object(self, place: int, item: GeneratedObject) -> None:
        """Show an object in place of its plain surface.

        Args:
            place: of the object in the preview, from 0.
            item: the object with its texture.
        """
        if self._scene is not None:
            objects = list(self._scene.objects)
            objects[place] = item
            self._scene = replace(self._scene, objects=tuple(objects))
            self._draw()

    def _draw(self) -> None:
        scene = self._scene
        if scene is not None and any(item.mesh is not None for item in scene.objects):
            pixels = render_preview(build_scene(scene), scene.camera, LOOK_SIZE)
            # The page may still be loading the one before.
            path = self._session.new_file("look", ".jpg", keep_last=2)
            self.path = write_shown(Image.fromarray(pixels), path)


def write_visible(session: Session, result: SceneResult, visible: Collection[int]) -> Path | None:
    """Write the objects of a scene that are not hidden, each where it stands among all of them.

    Args:
        session: gets the file.
        result: the whole scene.
        visible: ids of the objects; None is returned where none of them has a mesh.
    """
    scene = build_scene(result)
    hidden = [item.node for item in result.objects if item.object_id not in visible and item.mesh is not None]
    if len(hidden) == len(scene.geometry):
        return None
    scene.delete_geometry(hidden)
    path = session.new_file("visible", ".glb", keep_last=2)
    path.write_bytes(glb_bytes(scene, options=_LOOK))
    return path


def with_names(result: SceneResult, names: Sequence[str]) -> SceneResult:
    """A scene whose objects have the names that somebody gave them, in the order of the objects."""
    objects = tuple(replace(item, name=name) for item, name in zip(result.objects, names, strict=True))
    return replace(result, objects=objects)
