"""What happens in the right column of the page: generating, cancelling, looking, downloads and examples."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from scenegen.demo.controls import draw_seed
from scenegen.demo.examples import Example
from scenegen.demo.generation import scene_file
from scenegen.demo.handlers import handler, streaming_handler
from scenegen.demo.jobs import Job
from scenegen.demo.looks import SceneLook, write_visible
from scenegen.demo.object_list import object_rows
from scenegen.demo.page import (
    ControlParts,
    ExampleParts,
    PictureParts,
    ResultParts,
    controls_of,
    preset_values,
)
from scenegen.demo.panels import pose_rows
from scenegen.demo.picture_events import PictureEvents
from scenegen.demo.prompts import object_title
from scenegen.demo.reports import scene_report, status_line
from scenegen.demo.service import DemoService, check_idle
from scenegen.demo.session import MadeScene, Session
from scenegen.export.names import POSES_FILE
from scenegen.inputs.image_files import SceneInputError

POLL_SECONDS = 0.25
_MEANWHILE = ("seed", "status", "generate", "cancel", "look", "scene")
"""What changes while a scene is made, by the names of the parts."""

_AFTERWARDS = ("scene", "visible", "glb", "files", "report", "poses", "went_in", "undo")
"""What shows a finished scene. It is sent by an event of its own, because the 3D view overlooks a file that
comes after other answers of the same event."""

_CFG_ENDS = ((7, 8), (12, 13))  # places of start and end in `ControlParts.inputs`, of each stage


class SceneEvents:
    """The functions behind the right column and the examples."""

    def __init__(
        self,
        service: DemoService,
        controls: ControlParts,
        result: ResultParts,
        pictures: PictureEvents,
        picture_parts: PictureParts,
    ) -> None:
        """Connect nothing yet; see `connect` and `connect_examples`."""
        self._service = service
        self._controls = controls
        self._result = result
        self._pictures = pictures
        self._picture_parts = picture_parts

    def connect(self) -> None:
        """Let the components of the page call these functions."""
        import gradio as gr

        controls, result = self._controls, self._result
        made = self._on(result.generate.click, self.generate, self._scene_inputs, self._meanwhile)
        self._on(made.then, self.show_scene, [], self._afterwards)
        anew = self._picture_parts.objects.reroll
        changed = self._on(anew, self.reroll, [], self._meanwhile, data=gr.EventData)
        self._on(changed.then, self.show_scene, [], self._afterwards, name="page_show_rerolled_scene")
        undone = self._on(result.undo.click, self.undo, [], [result.status])
        self._on(undone.then, self.show_scene, [], self._afterwards, name="page_show_undone_scene")
        self._on(result.cancel.click, self.cancel, [], [result.status], queue=False)
        self._on(result.visible.input, self.show_objects, [result.visible], [result.scene])
        self._on(result.make.click, self.make_files, [result.formats], [result.files])
        self._on(controls.preset.input, self.choose_preset, [controls.preset], controls.of_preset)
        for start, end in _CFG_ENDS:
            ends = [controls.inputs[start], controls.inputs[end]]
            self._on(ends[0].release, self.start_before_end, ends, ends, name=f"start_before_end_{start}")
            self._on(ends[1].release, self.end_after_start, ends, ends, name=f"end_after_start_{start}")
        gallery = self._picture_parts.gallery
        self._on(gallery.change, self.offer_positions, [], [controls.positions])

    def connect_examples(self, parts: ExampleParts, examples: Sequence[Example]) -> None:
        """Let the gallery of examples fill the page, and its button make a scene."""
        import gradio as gr

        shown = self._picture_parts
        marking = [shown.canvas, shown.overlay, shown.objects, shown.note, shown.labels_file]

        def choose_example(session: Session, event: Any) -> tuple[Any, ...]:
            session.example = event.index
            return self._load(session, examples)

        async def auto_generate(session: Session, *inputs: Any) -> AsyncIterator[Any]:
            """The chosen example, or the first one, becomes the whole cache and then a scene."""
            async with session.order:
                loaded, gallery = await self._service.in_thread(self._load_into_cache, session, examples)
            yield *loaded, gallery, *self._answer()
            async for answer in self.generate(session, *inputs):
                yield *(gr.skip() for _ in (*loaded, gallery)), *answer

        self._on(parts.gallery.select, choose_example, [], marking, data=gr.SelectData, in_order=True)
        outputs = [*marking, shown.gallery, *self._meanwhile]
        made = self._on(parts.run.click, auto_generate, self._scene_inputs, outputs)
        self._on(made.then, self.show_scene, [], self._afterwards, name="page_show_example_scene")

    async def generate(
        self, session: Session, randomize: bool, *values: Any
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Make a scene of the cache and show it while it grows; the answers are for `_meanwhile`."""

        controls = controls_of(values)
        if randomize:
            controls = replace(controls, seed=draw_seed())
        look = SceneLook(session)
        job = await self._service.in_thread(self._service.generate, session, controls, look)
        async for answer in self._until_made(job, look, controls.seed):
            yield answer

    async def reroll(self, session: Session, event: Any) -> AsyncIterator[tuple[Any, ...]]:
        """Make an object of the scene anew; the answers are those of `generate`."""
        key = event._data.get("key")  # gradio has no public name for what a custom event brings
        if not isinstance(key, int):
            raise SceneInputError(f"object list: expected an object's key, got {str(event._data):.100}")
        look = SceneLook(session)
        job = await self._service.in_thread(self._service.reroll, session, key, look)
        async for answer in self._until_made(job, look):
            yield answer

    def undo(self, session: Session) -> str:
        """Bring back the scene before the last object was made anew."""
        self._service.undo(session)
        return "<p role='status'>The scene is what it was before.</p>"

    async def _until_made(
        self, job: Job, look: SceneLook, seed: int | None = None
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Answers from the queue to the end of a job.

        Raises:
            SceneInputError: the job failed.
        """
        import gradio as gr

        try:
            async for answer in self._watch(job, look, seed):
                yield answer
        finally:
            if not job.is_finished:  # the page was closed, and nobody waits for the scene
                self._service.queue.cancel(job)
        yield self._answer(
            status=self._status(job),
            generate=gr.Button(interactive=True),
            cancel=gr.Button(interactive=False),
            look=gr.Image(None, visible=False),
        )
        if job.state == "failed":
            raise SceneInputError(str(job.error))

    def cancel(self, session: Session) -> str:
        """Stop the scene that is on its way."""
        if not self._service.cancel(session):
            raise SceneInputError("expected a scene to cancel, none is being made; nothing to do")
        return "<p>Cancelling …</p>"

    def show_objects(self, session: Session, visible: Sequence[int]) -> str | None:
        """Show some objects of the scene and hide the others."""
        scene = _made_scene(session)
        ids = {int(number) for number in visible}
        if len(ids) == len(scene.result.objects):
            return str(scene_file(scene))
        path = write_visible(session, scene.result, ids)
        return None if path is None else str(path)

    def make_files(self, session: Session, formats: Sequence[str]) -> list[str]:
        """Write the scene in the formats that are ticked."""
        return [str(path) for path in self._service.download(session, list(formats))]

    def choose_preset(self, session: Session, name: str) -> tuple[Any, ...]:
        """Set the controls to a preset."""
        return tuple(preset_values(self._service.preset(name)))

    def start_before_end(self, session: Session, start: float, end: float) -> tuple[float, float]:
        """The start of a guidance interval was moved: its end follows where it must."""
        return start, max(start, end)

    def end_after_start(self, session: Session, start: float, end: float) -> tuple[float, float]:
        """The end of a guidance interval was moved: its start follows where it must."""
        return min(start, end), end

    def offer_positions(self, session: Session) -> Any:
        """Mean poses are offered where there are several pictures to take them from."""
        import gradio as gr

        if len(session.pairs) > 1:
            return gr.Radio(["last", "avg"])
        return gr.Radio(["last"], value="last")

    def show_scene(self, session: Session) -> tuple[Any, ...]:
        """Show the scene that was made last, also after one that failed or was cancelled."""
        import gradio as gr

        scene = session.scene
        if scene is None:
            return (gr.skip(),) * (len(_AFTERWARDS) + 1)
        choices = [
            (object_title(item.object_id + 1, item.name), item.object_id)
            for item in scene.result.objects
            if item.mesh is not None
        ]
        went_in = [(str(pair.picture), f"Pair {number}") for number, pair in enumerate(scene.pairs, start=1)]
        return (
            str(scene_file(scene)),
            gr.CheckboxGroup(choices, value=[number for _, number in choices], visible=True),
            str(scene_file(scene)),
            [str(path) for path in scene.files],
            scene_report(scene),
            pose_rows(scene.folder / POSES_FILE),
            went_in,
            gr.Button(interactive=bool(session.earlier)),
            object_rows(session.current, scene),
        )

    @property
    def _scene_inputs(self) -> list[Any]:
        return [self._controls.randomize, *self._controls.inputs]

    @property
    def _meanwhile(self) -> list[Any]:
        seed, *names = _MEANWHILE
        return [getattr(self._controls, seed), *(getattr(self._result, name) for name in names)]

    @property
    def _afterwards(self) -> list[Any]:
        return [*(getattr(self._result, name) for name in _AFTERWARDS), self._picture_parts.objects]

    async def _watch(self, job: Job, look: SceneLook, seed: int | None) -> AsyncIterator[tuple[Any, ...]]:
        """Answers while a job waits and runs: status, the scene as far as it is, and the seed if given."""
        import gradio as gr

        # The 3D view is emptied meanwhile: drawing it takes time from the networks where the browser runs on
        # the same machine.
        yield self._answer(
            seed=gr.skip() if seed is None else seed,
            status=self._status(job),
            generate=gr.Button(interactive=False),
            cancel=gr.Button(interactive=True),
            scene=None,
        )
        shown = None
        while not job.is_finished:
            await asyncio.sleep(POLL_SECONDS)
            changed: dict[str, Any] = {"status": self._status(job)}
            if look.path != shown:
                shown = look.path
                changed["look"] = gr.Image(str(shown), visible=True)
            yield self._answer(**changed)

    def _status(self, job: Job) -> str:
        return status_line(job, self._service.queue.place(job))

    @staticmethod
    def _answer(**changed: Any) -> tuple[Any, ...]:
        """An answer for `_meanwhile` that changes only what is given, by its name."""
        import gradio as gr

        assert changed.keys() <= set(_MEANWHILE), changed
        return tuple(changed.get(name, gr.skip()) for name in _MEANWHILE)

    def _load(self, session: Session, examples: Sequence[Example]) -> tuple[Any, ...]:
        if not 0 <= session.example < len(examples):
            raise SceneInputError(
                f"expected an example from 1 to {len(examples)}; click on one of the pictures"
            )
        words = self._pictures.load_example(session, examples[session.example])
        return self._pictures.shown(session, f"The example has {words}.", canvas_changed=True)

    def _load_into_cache(self, session: Session, examples: Sequence[Example]) -> tuple[tuple[Any, ...], Any]:
        check_idle(session)  # before the cache is replaced
        loaded = self._load(session, examples)
        self._pictures.clear_all(session)
        gallery, _ = self._pictures.add_to_cache(session)
        return loaded, gallery

    def _on(
        self,
        listen: Any,
        work: Callable[..., Any],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        *,
        data: type | None = None,
        name: str | None = None,
        queue: bool = True,
        in_order: bool = False,
    ) -> Any:
        import inspect

        found = (
            streaming_handler(self._service, work, data)
            if inspect.isasyncgenfunction(work)
            else handler(self._service, work, data, in_order=in_order)
        )
        return listen(
            found,
            list(inputs),
            list(outputs),
            api_name=name or f"page_{work.__name__}",
            api_visibility="undocumented",
            show_progress="hidden",
            concurrency_limit=None,
            queue=queue,
        )


def _made_scene(session: Session) -> MadeScene:
    if session.scene is None:
        raise SceneInputError("expected a scene, found none; generate one first")
    return session.scene
