"""What happens in the left column of the page: pictures, boxes, clicks, the list of objects and the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scenegen.demo.examples import Example
from scenegen.demo.handlers import handler
from scenegen.demo.object_list import apply_action, object_rows, shown_keys
from scenegen.demo.page import CLICK_MODES, PictureParts
from scenegen.demo.pictures import draw_overlay, write_shown
from scenegen.demo.prompts import CanvasBox, CurrentPicture, PageView
from scenegen.demo.reports import plain_text
from scenegen.demo.service import DemoService, current_picture
from scenegen.demo.session import Session
from scenegen.inputs.boxes import check_pixels
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import write_labels
from scenegen.segmentation.prompts import ObjectPrompt

_NEW_OBJECT = CLICK_MODES[2]


class PictureEvents:
    """The functions behind the left column; each returns what the page shows then."""

    def __init__(self, service: DemoService, parts: PictureParts) -> None:
        """Connect nothing yet; see `connect`."""
        self._service = service
        self._parts = parts

    def connect(self) -> None:
        """Let the components of the page call these functions."""
        import gradio as gr

        parts, on = self._parts, self._on
        seen = [parts.canvas, parts.objects]
        shown = [parts.canvas, parts.overlay, parts.objects, parts.note, parts.labels_file]
        cached = [parts.gallery, parts.note]
        on(parts.canvas.upload, self.upload, [parts.canvas], shown)
        on(parts.canvas.clear, self.new_image, [], shown)
        on(parts.new.click, self.new_image, [], shown)
        on(parts.segment.click, self.run_segmentation, [*seen, parts.polygons, parts.priority], shown)
        on(parts.priority.change, self.set_priority, [*seen, parts.priority], shown)
        quick = {"trigger_mode": "multiple"}  # by default gradio drops what is done before the last answer
        on(parts.overlay.select, self.click, [*seen, parts.click_mode], shown, data=gr.SelectData, **quick)
        on(parts.objects.act, self.change_objects, seen, shown, data=gr.EventData, **quick)
        on(parts.labels.upload, self.upload_labels, [parts.labels, parts.min_area], shown)
        on(parts.add_box.click, self.add_box, [*seen, parts.box], [*shown, parts.box])
        on(parts.box.submit, self.add_box, [*seen, parts.box], [*shown, parts.box], name="submit_box")
        if parts.find is not None:
            on(parts.find.click, self.find_objects, [*seen, parts.texts], shown)
        on(parts.add.click, self.add_to_cache, [], cached)
        on(parts.gallery.select, self.select_pair, [], [], data=gr.SelectData)
        on(parts.delete.click, self.delete_selected, [], cached)
        on(parts.clear.click, self.clear_all, [], cached)

    def upload(self, session: Session, canvas: Any) -> tuple[Any, ...]:
        """A picture was chosen: everything about the one before is gone."""
        if canvas is None or canvas.image is None:
            return self.new_image(session)
        try:
            note = self._service.set_photo(session, Path(canvas.image.path), _name_of(canvas.image))
        except SceneInputError:
            session.current = None  # the page shows the new picture already, which has no objects
            raise
        return self.shown(session, note or "Draw a box around each object.", canvas_changed=True)

    def new_image(self, session: Session) -> tuple[Any, ...]:
        """Begin anew; the cache stays."""
        session.current = None
        return self.shown(session, "Choose a picture.", canvas_changed=True)

    def run_segmentation(
        self, session: Session, canvas: Any, rows: Any, polygons: bool, priority: str
    ) -> tuple[Any, ...]:
        """Find the object in each box."""
        with session.lock:
            picture = current_picture(session)
            picture.priority = priority
            self._service.segment(session, page_view(canvas, rows), polygons=bool(polygons))
            count = len(picture.objects)
        found_by = self._service.segmenter_words
        return self.shown(session, f"Found {count} object{'s' * (count != 1)} with {found_by}.")

    def set_priority(self, session: Session, canvas: Any, rows: Any, priority: str) -> tuple[Any, ...]:
        """Decide anew to whom pixels of several masks belong."""
        if session.current is None:
            return self.shown(session, "")
        self._sync(session, canvas, rows).priority = priority
        return self.shown(session, f"Where masks overlap, pixels go by: {priority}.")

    def click(self, session: Session, event: Any, canvas: Any, rows: Any, mode: str) -> tuple[Any, ...]:
        """A place of the result was clicked: an object gets it or loses it, or a new one begins there."""
        x, y = (float(value) for value in event.index)
        with session.lock:
            picture = self._sync(session, canvas, rows)
            if mode == _NEW_OBJECT:
                limit = self._service.options.max_objects
                picture.selected = picture.add(ObjectPrompt(positive=((x, y),)), limit)
                try:
                    self._service.segment(session, polygons=picture.polygons)
                except SceneInputError:
                    picture.delete(len(picture.objects))
                    raise
            else:
                if picture.selected is None:
                    raise SceneInputError(
                        "expected an object to correct, none is selected; click on its number in the list"
                    )
                number = picture.objects.index(picture.selected) + 1
                self._service.click(session, number, (x, y), positive=mode == CLICK_MODES[0])
            title = picture.title(picture.selected)
        return self.shown(session, f"Corrected {plain_text(title)}.")

    def change_objects(self, session: Session, event: Any, canvas: Any, rows: Any) -> tuple[Any, ...]:
        """Something was done in the list of objects."""
        with session.lock:
            picture = self._sync(session, canvas, rows)
            action = event._data  # gradio has no public name for what a custom event brings
            apply_action(picture, action)
            if action["kind"] in ("move", "delete"):
                self._service.name_by_order(session)  # places tell which objects are the same
        return self.shown(session, "")

    def upload_labels(self, session: Session, path: str, min_area: float | None) -> tuple[Any, ...]:
        """A label image was chosen: its labels are the objects now."""
        summary = self._service.set_labels(session, Path(path), Path(path).name, int(min_area or 0) or None)
        return self.shown(session, f"The label image has {summary}.")

    def add_box(self, session: Session, canvas: Any, rows: Any, text: str) -> tuple[Any, ...]:
        """A box was typed."""
        with session.lock:
            picture = self._sync(session, canvas, rows)
            box = parse_box(text, picture.sent_size)
            picture.add(picture.in_photo(ObjectPrompt(box=box)), self._service.options.max_objects)
        return *self.shown(session, "Added a box."), ""

    def find_objects(self, session: Session, canvas: Any, rows: Any, texts: str) -> tuple[Any, ...]:
        """Objects are looked for by their names."""
        with session.lock:
            self._sync(session, canvas, rows)
            count = self._service.find_by_names(session, texts)
        return self.shown(session, f"Found {count} boxes; run the segmentation to get their masks.")

    def add_to_cache(self, session: Session) -> tuple[Any, ...]:
        """The marked picture goes into the cache."""
        pair = self._service.add_to_cache(session)
        number = len(session.pairs)
        return self.cached(session), f"Pair {number} has {len(pair.names)} objects: {_listed(pair.names)}."

    def select_pair(self, session: Session, event: Any) -> None:
        """A pair of the gallery was clicked."""
        session.selected_pair = event.index

    def delete_selected(self, session: Session) -> tuple[Any, ...]:
        """The selected pair leaves the cache."""
        self._service.delete_pair(session, session.selected_pair)
        session.selected_pair = None
        return self.cached(session), f"{len(session.pairs)} pictures in the cache."

    def clear_all(self, session: Session) -> tuple[Any, ...]:
        """All pairs leave the cache."""
        while session.pairs:
            self._service.delete_pair(session, 0)
        session.selected_pair = None
        return self.cached(session), "The cache is empty."

    def load_example(self, session: Session, example: Example) -> str:
        """An example is the current picture now; returns what was read, in words."""
        self._service.set_photo(session, example.photo, example.name)
        return self._service.set_labels(session, example.labels, example.name)

    def cached(self, session: Session) -> Any:
        """The gallery of the cache."""
        import gradio as gr

        items = [(str(pair.picture), f"Pair {number}") for number, pair in enumerate(session.pairs, start=1)]
        return gr.Gallery(items, selected_index=None)

    def shown(self, session: Session, note: str, *, canvas_changed: bool = False) -> tuple[Any, ...]:
        """What the page shows of the current picture: canvas, result, list, note and label image.

        Args:
            note: a line for people; empty leaves the one before.
            canvas_changed: whether there is another picture than before.
        """
        import gradio as gr

        with session.lock:
            picture = session.current
            if picture is None:
                return None, None, [], note or gr.skip(), gr.DownloadButton(interactive=False)
            if canvas_changed or session.canvas_file is None:
                session.canvas_file = write_shown(picture.photo, session.new_file("canvas", ".jpg"))
            canvas = {"image": str(session.canvas_file), "boxes": picture.canvas_boxes()}
            overlay = write_shown(draw_overlay(picture), session.new_file("result", ".jpg", keep_last=2))
            return (
                canvas,
                str(overlay),
                object_rows(picture, session.scene),
                note or gr.skip(),
                self._labels_file(session, picture),
            )

    def _labels_file(self, session: Session, picture: CurrentPicture) -> Any:
        import gradio as gr

        labels = picture.labels()
        if not labels.any():
            return gr.DownloadButton(interactive=False)
        path = session.new_file("labels", ".png", keep_last=2)
        write_labels(labels, path)
        return gr.DownloadButton(value=str(path), interactive=True)

    def _sync(self, session: Session, canvas: Any, rows: Any) -> CurrentPicture:
        """The current picture, with the boxes that the page shows by now."""
        picture = current_picture(session)
        picture.take_boxes(page_view(canvas, rows), self._service.options.max_objects)
        return picture

    def _on(
        self,
        listen: Any,
        work: Any,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        *,
        data: type | None = None,
        name: str | None = None,
        trigger_mode: str | None = None,
    ) -> None:
        listen(
            handler(self._service, work, data, in_order=True),
            list(inputs),
            list(outputs),
            api_name=name or work.__name__,
            api_visibility="undocumented",
            show_progress="hidden",
            trigger_mode=trigger_mode,
            concurrency_id="marking",  # one queue, so that they begin in their order
            concurrency_limit=None,
        )


def page_view(canvas: Any, rows: Any) -> PageView:
    """What the page shows: its boxes, and which objects they belong to.

    Raises:
        SceneInputError: something else than boxes or rows came.
    """
    keys = shown_keys(rows)
    boxes = [] if canvas is None else reversed(canvas.boxes)  # the component puts new ones in front
    return PageView(tuple(CanvasBox.parse(raw, keys) for raw in boxes), keys)


def parse_box(text: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box that somebody typed: four numbers of pixels, with commas, semicolons or spaces between them.

    Args:
        size: width and height of the picture.

    Raises:
        SceneInputError: something else was typed.
    """
    words = text.replace(",", " ").replace(";", " ").split()
    try:
        x0, y0, x1, y1 = map(float, words)
    except ValueError as error:
        raise SceneInputError(
            f"box: expected four numbers x1 y1 x2 y2 in pixels, got {text!r}; type them with spaces between"
        ) from error
    check_pixels((x0, y0, x1, y1), size, "box")
    return x0, y0, x1, y1


def _name_of(image: Any) -> str:
    """What the visitor calls an uploaded file."""
    return Path(image.orig_name or image.path).name


def _listed(names: Sequence[str]) -> str:
    return plain_text(", ".join(f"{number} {name}".strip() for number, name in enumerate(names, start=1)))
