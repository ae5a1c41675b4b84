"""The demo as a server: its page and its HTTP interface, for as long as the process lives."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scenegen.demo.api import DemoApi
from scenegen.demo.controls import OWN_PRESET
from scenegen.demo.examples import Example, find_examples
from scenegen.demo.listening import Address, NotServed, listen
from scenegen.demo.options import DemoOptions
from scenegen.demo.page import (
    STYLE,
    build_controls,
    build_examples,
    build_head,
    build_picture,
    build_result,
)
from scenegen.demo.picture_events import PictureEvents
from scenegen.demo.scene_events import SceneEvents
from scenegen.demo.service import THREADS, DemoService

if TYPE_CHECKING:
    import gradio

_UPLOADS_VARIABLE = "GRADIO_TEMP_DIR"


class DemoUnavailable(RuntimeError):
    """The demo cannot be served."""


class DemoServer:
    """A demo that is being served; a context manager that ends it.

    Attributes:
        service: what it can do.
        url: address of its page.
    """

    def __init__(
        self, options: DemoOptions, address: Address, examples: Path, *, quiet: bool = False
    ) -> None:
        """Serve the page, and return at once.

        Args:
            options: models, devices and limits.
            address: where it is served.
            examples: folder of the examples; those that it lacks are not offered.
            quiet: do not print the address.

        Raises:
            DemoUnavailable: a package is missing, or see `listen`.
            OSError: the folder of the sessions cannot be made.
        """
        check_packages()
        found = find_examples(examples)
        with ExitStack() as stack:
            root = _session_root(options, stack)
            _use_for_uploads(root, stack)
            self.service = DemoService(options, root)
            stack.callback(self.service.close)
            page = build_page(self.service, found)
            self.url = _launch(page, options, address, found, quiet)
            stack.callback(page.close, verbose=False)
            self._stack = stack.pop_all()
        self._page = page

    def __enter__(self) -> DemoServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def wait(self) -> None:
        """Serve until the process is stopped."""
        self._page.block_thread()

    def close(self) -> None:
        """End all scenes and sessions, and delete their files."""
        self._stack.close()


def build_page(service: DemoService, examples: list[Example]) -> gradio.Blocks:
    """The page with all that it does."""
    import gradio as gr

    with gr.Blocks(title="SceneGen", analytics_enabled=False, delete_cache=None) as page:
        build_head()
        with gr.Row():
            with gr.Column():
                parts = build_picture(_segmenter_words(service), service.options.text_model is not None)
            with gr.Column():
                controls = build_controls(service.preset(OWN_PRESET), service.has_few_steps)
                result = build_result()
        example_parts = build_examples(examples)
        pictures = PictureEvents(service, parts)
        pictures.connect()
        scenes = SceneEvents(service, controls, result, pictures, parts)
        scenes.connect()
        if example_parts is not None:
            scenes.connect_examples(example_parts, examples)
        DemoApi(service).add_to(page)
        page.unload(_leaving(service))
    page.queue(default_concurrency_limit=THREADS)
    return page


def check_packages() -> None:
    """Make sure that the page can be built.

    Raises:
        DemoUnavailable: a package of the extra ``demo`` is not installed.
    """
    for package in ("gradio", "gradio_image_annotation"):
        if importlib.util.find_spec(package) is None:
            raise DemoUnavailable(
                f"the demo expects the package {package!r}, which is not installed; run bash setup.sh --demo"
            )


def read_passwords(path: Path) -> dict[str, str]:
    """Users and passwords from a file with a line ``name:password`` for each.

    Raises:
        DemoUnavailable: it cannot be read, a line has another form, or there is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DemoUnavailable(
            f"{path}: expected lines name:password, reading failed ({error}); check it"
        ) from error
    passwords = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.partition(":")
        if not (colon and name.strip() and password):
            raise DemoUnavailable(
                f"{path}: line {number}: expected name:password, got another form; correct it"
            )
        passwords[name.strip()] = password
    if not passwords:
        raise DemoUnavailable(f"{path}: expected at least one line name:password, got none; add one")
    return passwords


def _segmenter_words(service: DemoService) -> str:
    """What finds masks, and what to do about it where it is the weakest."""
    options = service.options
    if options.sam2 is not None:
        return f"{service.segmenter_words}, which is loaded at the first segmentation"
    if options.cutout_model is not None:
        return f"GrabCut, started by {options.cutout_model.name}"
    return (
        "GrabCut in each box, because no SAM 2 was given (--sam2); it needs boxes that are close around the "
        "objects, and clicks where it is wrong"
    )


def _leaving(service: DemoService) -> Callable[..., None]:
    """What is done when somebody closes the page."""
    import gradio as gr

    def leave(request: Any) -> None:
        service.sessions.drop(request.session_hash, request.username)

    leave.__annotations__ = {"request": gr.Request}
    return leave


def _session_root(options: DemoOptions, stack: ExitStack) -> Path:
    if options.folder is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scenegen-demo-"))).resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    return Path(
        stack.enter_context(tempfile.TemporaryDirectory(prefix="sessions-", dir=options.folder))
    ).resolve()


def _use_for_uploads(root: Path, stack: ExitStack) -> None:
    """Let gradio put uploads below a folder and serve files from it, which only a variable tells it."""
    before = os.environ.get(_UPLOADS_VARIABLE)
    os.environ[_UPLOADS_VARIABLE] = str(root)
    if before is None:
        stack.callback(os.environ.pop, _UPLOADS_VARIABLE, None)
    else:
        stack.callback(os.environ.__setitem__, _UPLOADS_VARIABLE, before)


def _launch(
    page: gradio.Blocks, options: DemoOptions, address: Address, examples: list[Example], quiet: bool
) -> str:
    import gradio as gr

    try:
        return listen(
            page,
            address,
            quiet=quiet,
            allowed_paths=[
                str(path.resolve()) for example in examples for path in (example.photo, example.labels)
            ],
            max_file_size=f"{options.max_upload_mb}mb",
            theme=gr.themes.Soft(primary_hue="blue", secondary_hue="indigo"),
            css=STYLE,
            footer_links=["api"],
            run_history=False,
            mcp_server=False,
            ssr_mode=False,
            # each scene is an event from its place in the queue to its end
            max_threads=THREADS + options.queue_size + len(options.devices),
        )
    except NotServed as error:
        raise DemoUnavailable(str(error)) from error
