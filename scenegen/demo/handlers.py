"""How functions of the page are called: with the session of whoever asks, and errors as warnings in words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from scenegen.demo.service import PAGE_ERRORS, DemoService
from scenegen.demo.session import Session
from scenegen.export.registry import FormatUnavailable
from trellis_modules.checkpoint import CheckpointError

SHOWN_ERRORS = (*PAGE_ERRORS, CheckpointError, FormatUnavailable)
WARNING_TITLE = "Please check"


def session_of(service: DemoService, request: Any) -> Session:
    """The session of a request; one without a key, as of a script, is refused.

    Args:
        service: has the sessions.
        request: gradio's.
    """
    if not request.session_hash:
        raise as_warning(ValueError("expected a request with a session_hash, got none; send any random word"))
    return service.sessions.get(request.session_hash, request.username)


def as_warning(error: Exception) -> Exception:
    """What makes the page show the words of an error, and clients receive them.

    A sentence begins with a capital; a name of a file or an object at its head stays as it is.
    """
    import gradio as gr

    place, colon, _ = str(error).partition(": ")
    has_place = colon and not place.startswith("expected ") and place.count("(") == place.count(")")
    words = str(error) if has_place else str(error)[:1].upper() + str(error)[1:]
    return gr.Error(words, title=WARNING_TITLE, print_exception=False, duration=20)


def handler(
    service: DemoService, work: Callable[..., Any], data: type | None = None, *, in_order: bool = False
) -> Callable[..., Awaitable[Any]]:
    """A function of the page as gradio calls it; it works in a thread of its own.

    Args:
        service: has the sessions.
        work: called with the session, then what happened if ``data`` is given, then the inputs.
        data: gradio's class of what happened, such as ``gradio.SelectData``.
        in_order: one call after another for each session, in the order in which they were asked for.
    """
    import gradio as gr

    async def call(request: Any, *inputs: Any) -> Any:
        session = session_of(service, request)
        try:
            async with session.order if in_order else nullcontext():
                return await service.in_thread(work, session, *inputs)
        except SHOWN_ERRORS as error:
            raise as_warning(error) from error
        except OSError as error:
            raise as_warning(OSError(f"the server's disk refuses ({error.strerror}); try again")) from error

    async def call_with_data(request: Any, event: Any, *inputs: Any) -> Any:
        return await call(request, event, *inputs)

    found = call if data is None else call_with_data
    # gradio finds out what to pass by these, and gradio must not be imported where this module is.
    found.__annotations__ = {"request": gr.Request} | ({} if data is None else {"event": data})
    found.__name__ = work.__name__
    return found


def streaming_handler(
    service: DemoService, work: Callable[..., AsyncIterator[Any]], data: type | None = None
) -> Callable[..., AsyncIterator[Any]]:
    """As `handler`, for a function that shows more than one answer."""
    import gradio as gr

    async def call(request: Any, *inputs: Any) -> AsyncIterator[Any]:
        session = session_of(service, request)
        try:
            async for answer in work(session, *inputs):
                yield answer
        except SHOWN_ERRORS as error:
            raise as_warning(error) from error

    async def call_with_data(request: Any, event: Any, *inputs: Any) -> AsyncIterator[Any]:
        async for answer in call(request, event, *inputs):
            yield answer

    found = call if data is None else call_with_data
    found.__annotations__ = {"request": gr.Request} | ({} if data is None else {"event": data})
    found.__name__ = work.__name__
    return found
