"""The layout of the demo's page: what stands where, and nothing of what it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from scenegen.demo.controls import (
    CFG_STRENGTH,
    CFG_TIME,
    ORDERS,
    OWN_PRESET,
    PRESETS,
    RESCALE,
    SEED,
    SIMPLIFY,
    STEPS,
    TEXTURE_SIZES,
    Range,
    SamplingControls,
    SceneControls,
)
from scenegen.demo.examples import Example
from scenegen.demo.generation import DOWNLOAD_FORMATS, SCENE_FORMATS
from scenegen.demo.object_list import object_list
from scenegen.demo.panels import glb_button, pose_table, scene_panel
from scenegen.segmentation.masks import Priority

if TYPE_CHECKING:
    import gradio

TITLE = "SceneGen: Single-Image 3D Scene Generation in One Feedforward Pass"
CLICK_MODES = ("add to the selected object", "take away from it", "new object")
EXAMPLES_IN_A_ROW = 4

STEPS_TEXT = """
<div class="steps">
<div><b>Step 1: Input &amp; Segment</b><br>Choose a picture, draw one box around each object and run the
segmentation. Select an object in the list and click on the result to correct its mask.</div>
<div><b>Step 2: Manage Cache</b><br>Add the picture to the cache. Further pictures of the same scene may
follow: mark the same objects in the same order.</div>
<div><b>Step 3: Generate Scene</b><br>Generate, look around, hide objects, download. Or try an example from
the bottom of the page.</div>
</div>
"""

STYLE = """
.steps { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 12px; }
.steps > div { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 10px 14px;
  background: var(--block-background-fill); }
#generation_controls { border-color: var(--color-accent); }
#title h1 { text-align: center; }
#cached_images .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
#cached_images .thumbnail-item { aspect-ratio: 2 / 1; }
#canvas button[aria-label^="Rotate"] { display: none; } /* it would turn the boxes, but not the photo */
#status progress { width: 100%; height: 14px; accent-color: var(--color-accent); }
@media (max-width: 480px) { #title h1 { font-size: 1.25em; } }
"""


@dataclass(frozen=True)
class PictureParts:
    """The left column: the picture, its objects and the cache."""

    canvas: Any
    overlay: Any
    objects: gradio.HTML
    note: gradio.Markdown
    click_mode: gradio.Radio
    new: gradio.Button
    segment: gradio.Button
    polygons: gradio.Checkbox
    priority: gradio.Radio
    labels: gradio.UploadButton
    min_area: gradio.Number
    labels_file: gradio.DownloadButton
    box: gradio.Textbox
    add_box: gradio.Button
    texts: gradio.Textbox | None
    find: gradio.Button | None
    gallery: gradio.Gallery
    add: gradio.Button
    delete: gradio.Button
    clear: gradio.Button


@dataclass(frozen=True)
class ControlParts:
    """The controls of a generation; `inputs` has them in the order of `controls_of`."""

    preset: gradio.Radio
    randomize: gradio.Checkbox
    inputs: Sequence[Any]

    @property
    def seed(self) -> gradio.Slider:
        """The seed."""
        return self.inputs[0]

    @property
    def positions(self) -> gradio.Radio:
        """Where poses come from."""
        return self.inputs[2]

    @property
    def of_preset(self) -> Sequence[Any]:
        """The controls that a preset sets."""
        return self.inputs[3:15]


@dataclass(frozen=True)
class ResultParts:
    """The right column: the scene."""

    generate: gradio.Button
    cancel: gradio.Button
    status: gradio.HTML
    look: gradio.Image
    scene: gradio.Model3D
    visible: gradio.CheckboxGroup
    glb: gradio.DownloadButton
    formats: gradio.CheckboxGroup
    make: gradio.Button
    files: gradio.File
    report: gradio.Markdown
    poses: gradio.Dataframe
    went_in: gradio.Gallery
    undo: gradio.Button


@dataclass(frozen=True)
class ExampleParts:
    """The examples at the bottom."""

    gallery: gradio.Gallery
    run: gradio.Button


def controls_of(values: Sequence[Any]) -> SceneControls:
    """The controls as `ControlParts.inputs` sends them."""
    seed, order, positions, simplify, size, *stages, refine, few_steps = values
    return SceneControls(
        seed=seed,
        order=order,
        positions_type=positions,
        simplify=simplify,
        texture_size=size,
        structure=SamplingControls(*stages[:5]),
        appearance=SamplingControls(*stages[5:]),
        refine=bool(refine),
        few_steps=bool(few_steps),
    )


def preset_values(controls: SceneControls) -> list[Any]:
    """The values of `ControlParts.of_preset`."""
    return [
        controls.simplify,
        controls.texture_size,
        *vars(controls.structure).values(),
        *vars(controls.appearance).values(),
    ]


def build_head() -> None:
    """Title and the three steps."""
    import gradio as gr

    gr.Markdown(f"# {TITLE}", elem_id="title")
    gr.HTML(STEPS_TEXT)


def build_picture(segmenter: str, has_texts: bool) -> PictureParts:
    """The left column.

    Args:
        segmenter: what finds masks, in words.
        has_texts: whether objects can be found by their names.
    """
    import gradio as gr

    canvas = box_canvas()
    with gr.Row():
        new = gr.Button("➕ Add New Image", elem_id="new")
        segment = gr.Button("🎯 Run Segmentation", variant="primary", elem_id="segment")
    note = gr.Markdown(f"Masks come from {segmenter}.", elem_id="note")
    overlay = gr.Image(
        label="Segmentation Result",
        interactive=False,
        type="filepath",
        elem_id="overlay",
        height=420,
        buttons=["download", "fullscreen"],
    )
    click_mode = gr.Radio(
        list(CLICK_MODES), value=CLICK_MODES[0], label="A click on the result", elem_id="mode"
    )
    objects = object_list()
    settings = _segmentation_settings(has_texts)
    gallery = gr.Gallery(
        label="Cached Images", show_label=False, elem_id="cached_images", columns=3, height=250,
        object_fit="contain", preview=False, interactive=False, buttons=["fullscreen"],
    )  # fmt: skip
    with gr.Row():
        add = gr.Button("➕ Add to Cache", elem_id="add")
        delete = gr.Button("🗑️ Delete Selected", elem_id="delete")
        clear = gr.Button("🧹 Clear All", elem_id="clear")
    return PictureParts(
        canvas=canvas, overlay=overlay, objects=objects, note=note, click_mode=click_mode, new=new,
        segment=segment, gallery=gallery, add=add, delete=delete, clear=clear, **settings,
    )  # fmt: skip


def _segmentation_settings(has_texts: bool) -> dict[str, Any]:
    """The accordion below the objects; its parts by their names in `PictureParts`."""
    import gradio as gr

    with gr.Accordion("🔧 Segmentation Settings", open=False, elem_id="segmentation_settings"):
        polygons = gr.Checkbox(
            label="Polygon Refinement", info="only the largest outline of each mask, filled"
        )
        priority = gr.Radio(
            list(get_args(Priority)), value="smallest", label="Where masks overlap, the pixel goes to the",
            info="smallest object, that of the best score, or the last one in the order",
        )  # fmt: skip
        texts = find = None
        if has_texts:
            texts = gr.Textbox(
                label="Find objects by name", placeholder="chair, table, lamp", elem_id="texts"
            )
            find = gr.Button("🔎 Find Objects", elem_id="find")
        box = gr.Textbox(
            label="A box in numbers", placeholder="x1 y1 x2 y2, in pixels of the picture", elem_id="box"
        )
        add_box = gr.Button("▫️ Add Box", elem_id="add_box")
        min_area = gr.Number(
            value=0, precision=0, minimum=0, label="Smallest area of an uploaded label, in pixels",
            info="0 takes one pixel of 10,000; smaller specks are left out",
        )  # fmt: skip
        labels = gr.UploadButton("📤 Upload Label Image", file_types=["image"], elem_id="labels")
        labels_file = gr.DownloadButton("📥 Download Label Image", interactive=False, elem_id="labels_file")
    return {
        "polygons": polygons, "priority": priority, "labels": labels, "min_area": min_area,
        "labels_file": labels_file, "box": box, "add_box": add_box, "texts": texts, "find": find,
    }  # fmt: skip


def box_canvas() -> Any:
    """The picture on which boxes are drawn; handlers get what the browser sent, and no file is opened."""
    from gradio_image_annotation import image_annotator

    canvas = image_annotator(
        label="Input Image",
        sources=["upload", "clipboard"],
        disable_edit_boxes=True,
        show_remove_button=True,
        box_min_size=3,
        boxes_alpha=0.15,
        height=420,
        elem_id="canvas",
    )
    # Its own reader opens uploads before they are checked, and says no more than "Error" of a bad one.
    canvas.preprocess = lambda payload: payload
    return canvas


def build_controls(start: SceneControls, has_few_steps: bool) -> ControlParts:
    """The controls of a generation.

    Args:
        start: their values.
        has_few_steps: whether there is a flow of structures that needs few steps.
    """
    import gradio as gr

    with gr.Accordion("🎮 Generation Controls", open=False, elem_id="generation_controls"):
        chosen = gr.Radio(
            list(PRESETS), value=OWN_PRESET, label="Preset", elem_id="preset",
            info="fast and quality: half and twice the checkpoint's steps; balanced: as the published page",
        )  # fmt: skip
        seed = _slider("Seed", SEED, start.seed, elem_id="seed")
        randomize = gr.Checkbox(value=True, label="Randomize seed", elem_id="randomize")
        with gr.Tab("Basic Settings"):
            order = gr.Radio(list(ORDERS), value=start.order, label="Asset Order")
            positions = gr.Radio(
                ["last"], value="last", label="Positions Type", info="avg is for several pictures"
            )
            simplify = _slider("Simplify", SIMPLIFY, start.simplify)
            size = gr.Dropdown(list(TEXTURE_SIZES), value=start.texture_size, label="Texture Size")
            refine = gr.Checkbox(
                label="Refine", info="push objects out of each other and onto the floor", elem_id="refine"
            )
        with gr.Tab("Structure Parameters"):
            few_steps = gr.Checkbox(
                label="Fast Structure", elem_id="few_steps", visible=has_few_steps,
                info="from the flow that needs few steps, with its own settings in place of these",
            )  # fmt: skip
            structure = _stage_sliders(start.structure)
        with gr.Tab("SLAT Parameters"):
            appearance = _stage_sliders(start.appearance)
    inputs = [seed, order, positions, simplify, size, *structure, *appearance, refine, few_steps]
    return ControlParts(chosen, randomize, inputs)


def build_result() -> ResultParts:
    """The right column below the controls."""
    import gradio as gr

    with gr.Row():
        generate = gr.Button(
            "🚀 Generate 3D Scene", variant="primary", size="lg", elem_id="generate", scale=3
        )
        cancel = gr.Button("✋ Cancel", size="lg", elem_id="cancel", scale=1, interactive=False)
    status = gr.HTML("", elem_id="status")
    look = gr.Image(
        label="First look", interactive=False, visible=False, type="filepath", elem_id="look", buttons=[]
    )
    scene = scene_panel("Generated 3D Scene", elem_id="scene")
    undo = gr.Button("↩️ Undo the last object made anew", elem_id="undo", interactive=False, size="sm")
    visible = gr.CheckboxGroup([], label="Visible objects", elem_id="visible", visible=False)
    glb = glb_button("📥 Download GLB File", elem_id="glb")
    with gr.Accordion("📦 More files", open=False, elem_id="more_files"):
        formats = gr.CheckboxGroup(
            list(DOWNLOAD_FORMATS), value=list(SCENE_FORMATS), label="Formats", elem_id="formats",
            info="scene and objects as GLB, poses, Gaussians (PLY), OBJ, USD, turntable video (mp4)",
        )  # fmt: skip
        make = gr.Button("📦 Make Files", elem_id="make")
        files = gr.File(
            label="Files, all of them as scene.zip", file_count="multiple", interactive=False, elem_id="files"
        )
    report = gr.Markdown(elem_id="report")
    with gr.Accordion("🔎 Poses, and what went in", open=False, elem_id="details"):
        poses = pose_table(elem_id="poses")
        went_in = gr.Gallery(
            label="What went in",
            columns=2,
            object_fit="contain",
            interactive=False,
            buttons=["fullscreen"],
            elem_id="went_in",
        )
    return ResultParts(
        generate, cancel, status, look, scene, visible, glb, formats, make, files, report, poses, went_in,
        undo,
    )  # fmt: skip


def build_examples(examples: Sequence[Example]) -> ExampleParts | None:
    """The examples; None where there are none."""
    import gradio as gr

    if not examples:
        return None
    gr.Markdown("## Examples")
    gallery = gr.Gallery(
        [(str(example.photo), example.name) for example in examples],
        label="Examples", show_label=False, columns=EXAMPLES_IN_A_ROW, height=300, object_fit="contain",
        interactive=False, allow_preview=False, buttons=[], elem_id="examples",
    )  # fmt: skip
    return ExampleParts(gallery, gr.Button("🚀 Load Example & Auto Generate", elem_id="example"))


def _stage_sliders(stage: SamplingControls) -> list[gradio.Slider]:
    return [
        _slider("Inference Steps", STEPS, stage.steps),
        _slider("CFG Scale", CFG_STRENGTH, stage.cfg_strength),
        _slider("CFG Interval Start", CFG_TIME, stage.cfg_start),
        _slider("CFG Interval End", CFG_TIME, stage.cfg_end),
        _slider("Rescale Factor", RESCALE, stage.rescale_t),
    ]


def _slider(label: str, allowed: Range, value: float, elem_id: str | None = None) -> gradio.Slider:
    import gradio as gr

    return gr.Slider(allowed.low, allowed.high, value=value, step=allowed.step, label=label, elem_id=elem_id)
