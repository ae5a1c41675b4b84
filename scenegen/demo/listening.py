"""Serving a page at an address; what goes wrong is one line, and not gradio's advice about its code."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio


logger = logging.getLogger(__name__)


class NotServed(RuntimeError):
    """A page cannot be served where it should be."""


@dataclass(frozen=True)
class Address:
    """Where a page is served, and for whom.

    Attributes:
        host: "0.0.0.0" shows it to other machines.
        port: None takes the first free one from 7860.
        share: a public link through gradio's servers.
        passwords: user name -> password; without any, everybody who reaches the page may use it.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    share: bool = False
    passwords: dict[str, str] | None = None


def listen(page: gradio.Blocks, address: Address, *, quiet: bool, **options: Any) -> str:
    """Serve a page from a thread of its own, and return at once.

    Args:
        page: that was built.
        address: where.
        quiet: do not say where.
        options: further ones of gradio's ``launch``.

    Returns:
        The page's address on this machine.

    Raises:
        NotServed: nobody can listen there, or there is no public link though one was asked for.
    """
    _check_free(address)
    passwords = address.passwords
    with contextlib.redirect_stdout(io.StringIO()):  # its advice names arguments of its functions
        try:
            _, url, link = page.launch(
                server_name=address.host,
                server_port=address.port,
                share=address.share,
                auth=None if passwords is None else list(passwords.items()),
                prevent_thread_lock=True,
                quiet=True,
                **options,
            )
        except OSError as error:
            raise NotServed(_refusal(address, "taken")) from error
    if address.share and link is None:
        page.close(verbose=False)
        raise NotServed(
            "--share: expected a public link through gradio's servers, got none from them; check the "
            "connection of this machine, or use --host 0.0.0.0 with --auth in its place"
        )
    if not quiet:
        logger.info("the page is at %s until it is stopped with Ctrl-C", link or url)
    return url


def _check_free(address: Address) -> None:
    """Bind once, because gradio tells no reason where it cannot.

    Raises:
        NotServed: the system refuses.
    """
    host = address.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, address.port or 0))
    except (OSError, UnicodeError) as error:
        cause = getattr(error, "strerror", None) or "no such host"
        raise NotServed(_refusal(address, cause)) from error


def _refusal(address: Address, cause: str) -> str:
    port = "any port from 7860" if address.port is None else f"port {address.port}"
    return (
        f"expected to listen at {address.host}, {port}, but the system refuses ({cause}); try another --port "
        "or --host"
    )
