"""A page that shows generated scenes beside the true ones (package gradio, extra ``demo``)."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scenegen.demo.listening import Address, NotServed, listen
from scenegen.demo.panels import glb_button, pose_rows, pose_table, scene_panel
from scenegen.evaluation.loading import SceneFiles, find_scene_files

if TYPE_CHECKING:
    import gradio

TITLE = "SceneGen: generated scenes and the truth"

_MASKED_IMAGES = re.compile(r"masked_images_(?P<set>.+)")


class ViewerUnavailable(RuntimeError):
    """The page cannot be shown: gradio is missing, or there is nothing to show."""


@dataclass(frozen=True)
class ShownScene:
    """The files of one scene; `truth` is None where it has none."""

    generated: SceneFiles
    truth: SceneFiles | None


def default_truth_folder(images: Path) -> Path | None:
    """The truth that belongs to a folder ``masked_images_<set>``: ``scene_<set>`` beside it, if it exists."""
    match = _MASKED_IMAGES.fullmatch(images.resolve().name)
    if match is None:
        return None
    folder = images.resolve().parent / f"scene_{match['set']}"
    return folder if folder.is_dir() else None


def shown_scenes(predictions: Path, truth: Path | None) -> dict[str, ShownScene]:
    """Generated scenes by id, in natural order, with the true ones where there are any.

    Args:
        predictions: folder of scenes as inference.py writes it, or of ``<id>.glb`` files.
        truth: likewise; None shows the generated scenes alone.

    Raises:
        EvaluationError: a folder does not exist.
        ViewerUnavailable: nothing was generated yet.
    """
    generated = find_scene_files(predictions)
    if not generated:
        raise ViewerUnavailable(
            f"{predictions}: expected scenes to show, found none; run inference.py with this --output first"
        )
    true = {} if truth is None else find_scene_files(truth)
    return {scene_id: ShownScene(files, true.get(scene_id)) for scene_id, files in generated.items()}


def check_viewer() -> None:
    """Make sure that the page can be built, before anything is generated.

    Raises:
        ViewerUnavailable: gradio is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ViewerUnavailable(
            "the viewer expects the package 'gradio', which is not installed; run bash setup.sh --demo"
        )


def build_viewer(predictions: Path, truth: Path | None = None) -> gradio.Blocks:
    """Build the page: a scene is chosen from a list and both versions are shown, with downloads and poses.

    Args:
        predictions, truth: see `shown_scenes`.

    Raises:
        ViewerUnavailable: gradio is missing or there is no scene.
        EvaluationError: a folder does not exist.
    """
    check_viewer()
    import gradio as gr

    scenes = shown_scenes(predictions, truth)

    def show(scene_id: str) -> tuple[Any, ...]:
        scene = scenes[scene_id]
        generated = str(scene.generated.scene)
        true = None if scene.truth is None else str(scene.truth.scene)
        return generated, true, generated, true, pose_rows(scene.generated.poses)

    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {TITLE}")
        with gr.Row():
            choice = gr.Dropdown(list(scenes), value=next(iter(scenes)), label="Scene", scale=4)
            button = gr.Button("View Scene", variant="primary", scale=1)
        panels, downloads = [], []
        with gr.Row():
            for label in ("Generated", "Ground truth"):
                with gr.Column():
                    panels.append(scene_panel(label))
                    downloads.append(glb_button(f"Download GLB: {label.lower()}"))
        poses = pose_table()
        outputs = [*panels, *downloads, poses]
        button.click(show, choice, outputs, api_name="show")
        choice.change(show, choice, outputs, api_name=False)
        page.load(show, choice, outputs, api_name=False)
    return page


def launch_viewer(
    predictions: Path,
    truth: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    block: bool = True,
) -> str:
    """Serve the page until it is stopped.

    Args:
        predictions, truth: see `shown_scenes`; their files, and no others, are served.
        host: "0.0.0.0" shows the page to other machines.
        port: None takes the first free one from 7860.
        share: a public link through gradio's servers.
        block: return at once instead; the page then lives as long as the process.

    Returns:
        The page's address.

    Raises:
        ViewerUnavailable: see `listen` and `build_viewer`.
        EvaluationError: see `build_viewer`.
    """
    page = build_viewer(predictions, truth)
    folders = [str(folder.resolve()) for folder in (predictions, truth) if folder is not None]
    try:
        url = listen(page, Address(host, port, share), quiet=not block, allowed_paths=folders)
    except NotServed as error:
        raise ViewerUnavailable(str(error)) from error
    if block:
        page.block_thread()
    return url
