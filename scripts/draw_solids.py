"""Draw the picture of ``docs/solids.md``: test scenes as photo, as Blender draws their files, and as preview.

    python scripts/draw_solids.py --prediction outputs/solids --photos data/scenes/masked_images_test

Back faces are culled in Blender, so that an opening in a surface shows as a hole.
Exit status: 0 done, 2 a scene is not there, or Blender failed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from scenegen.blender.program import SCRIPTS, BlenderError, default_blender, run_blender
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from trellis_modules.files import atomic_write

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "solids_in_blender.jpg"
SCENES = tuple(f"test_{number:04d}" for number in range(0, 200, 20))

_SIZE = 270  # of a picture; a preview is two beside each other
_TIMEOUT = 600.0  # seconds a scene


@dataclass(frozen=True)
class SceneStrip:
    """What is shown of one scene: photo, file and preview."""

    photo: Path
    glb: Path
    preview: Path

    @classmethod
    def of(cls, name: str, prediction: Path, photos: Path) -> SceneStrip:
        """Files in the folders that inference.py wrote and read.

        Raises:
            FileNotFoundError: one is not there.
        """
        made = prediction / name
        scene = cls(photos / name / "scene.jpg", made / "scene.glb", made / "preview.png")
        for path in (scene.photo, scene.glb, scene.preview):
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path}: expected a file, found none; make the scene with inference.py, or name --scenes"
                )
        return scene

    def draw(self, blender: str) -> Image.Image:
        """Photo, picture by Blender and preview beside each other.

        Raises:
            BlenderError: see `run_blender`.
        """
        with tempfile.TemporaryDirectory() as folder:
            drawn = Path(folder) / "picture.png"
            job = {"glb": str(self.glb.resolve()), "picture": str(drawn)}
            run_blender(SCRIPTS / "render_glb.py", job, Path(folder) / "blender.log", _TIMEOUT, blender)
            shown = [(self.photo, _SIZE), (drawn, _SIZE), (self.preview, 2 * _SIZE)]
            pictures = [_picture(path, width) for path, width in shown]
        strip = Image.new("RGB", (sum(picture.width for picture in pictures), _SIZE))
        left = 0
        for picture in pictures:
            strip.paste(picture, (left, 0))
            left += picture.width
        return strip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = CommandParser(__doc__)
    parser.add_argument("--prediction", type=Path, required=True, help="folder that inference.py wrote")
    parser.add_argument("--photos", type=Path, required=True, help="folder that it read")
    parser.add_argument("--scenes", nargs="+", default=SCENES, metavar="NAME", help="default: ten")
    parser.add_argument("--columns", type=positive_int, default=2, help="of scenes (%(default)s)")
    parser.add_argument("--blender", default=default_blender(), help="program (%(default)s)")
    parser.add_argument("--output", type=Path, default=PICTURE, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        scenes = [SceneStrip.of(name, options.prediction, options.photos) for name in options.scenes]
        sheet = in_columns([scene.draw(options.blender) for scene in scenes], options.columns)
    except (BlenderError, OSError) as error:
        print(f"draw_solids: {error}", file=sys.stderr)
        return 2
    with atomic_write(options.output) as temporary:
        sheet.save(temporary, format="JPEG", quality=88)
    return 0


def in_columns(strips: Sequence[Image.Image], columns: int) -> Image.Image:
    """Strips of one size on a white sheet, row by row."""
    width, height = strips[0].size
    rows = -(-len(strips) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for index, strip in enumerate(strips):
        row, column = divmod(index, columns)
        sheet.paste(strip, (column * width, row * height))
    return sheet


def _picture(path: Path, width: int) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB").resize((width, _SIZE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    sys.exit(main())
