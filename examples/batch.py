"""Many scene folders, a report for each: ``python examples/batch.py``."""

from __future__ import annotations

from pathlib import Path

from scenegen.batch.finished import is_pending
from scenegen.batch.options import BatchOptions
from scenegen.batch.scenes import SceneReport, make_scene
from scenegen.inputs.layout import detect_scene, find_scene_folders
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.settings import RunSettings


def main(
    checkpoint: Path | str = "checkpoints/scenegen-small",
    folders: Path = Path("assets/masked_images_test"),
    output: Path = Path("outputs/examples/batch"),
) -> list[SceneReport]:
    """Make scenes that are not there, or whose input has changed; one that fails does not stop others."""
    pipeline = SceneGenPipeline.from_pretrained(checkpoint)
    options = BatchOptions(output, ["glb", "poses"], RunSettings(seed=1))
    scenes = [detect_scene(folder) for folder in find_scene_folders(folders)]
    reports = [make_scene(pipeline, scene, options) for scene in scenes if is_pending(scene, options)]
    for report in reports:
        print(f"{report.scene_id}: {report.status} {report.error or ''} {sum(report.seconds.values()):.1f} s")
    return reports


if __name__ == "__main__":
    main()
