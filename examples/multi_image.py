"""Several photos of one scene: ``python examples/multi_image.py``.

The folder holds ``view_0``, ``view_1``, ..., each with a photo and the masks of the same objects.
"""

from __future__ import annotations

from pathlib import Path

from scenegen.export.scene_files import write_scene
from scenegen.inputs.scene_folder import read_scene
from scenegen.pipelines.pipeline import SceneGenPipeline


def main(
    checkpoint: Path | str = "checkpoints/scenegen-small",
    folder: Path = Path("assets/masked_images_multi_view/test_0021"),
    output: Path = Path("outputs/examples/multi_image"),
) -> list[Path]:
    """Generate the scene from all photos and return the files written."""
    pipeline = SceneGenPipeline.from_pretrained(checkpoint)
    result = pipeline.run(read_scene(folder))
    return write_scene(result, output, ["glb", "preview"])


if __name__ == "__main__":
    main()
