"""Show finished scenes in the browser, beside the true ones where there are any.

    scenegen demo --output outputs

serves a page of the scenes that ``scenegen infer`` wrote into a folder, until it is stopped with Ctrl-C.
It needs the package gradio: run bash setup.sh --demo.

Exit status: 0 stopped, 2 the page cannot be shown.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from scenegen.cli.parser import CommandParser
from scenegen.cli.reports import set_up_logging
from scenegen.cli.types import port
from scenegen.demo.viewer import ViewerUnavailable, launch_viewer
from scenegen.evaluation.loading import EvaluationError

logger = logging.getLogger(__name__)

DEFAULT_HOST = "127.0.0.1"


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = CommandParser(__doc__, prog)
    parser.add_argument(
        "--output", type=Path, default="outputs", help="folder of finished scenes (default: %(default)s)"
    )
    parser.add_argument("--truth", type=Path, help="folder of true scenes, shown beside them")
    add_address_arguments(parser)
    options = parser.parse_args(arguments)
    set_up_logging()
    return 0 if show_page(options.output, options.truth, options.host, options.port) else 2


def add_address_arguments(parser: argparse.ArgumentParser) -> None:
    """Where a page is served."""
    parser.add_argument(
        "--host", help=f"of the page; 0.0.0.0 shows it to other machines; default: {DEFAULT_HOST}"
    )
    parser.add_argument("--port", type=port, help="of the page; default: the first free one")


def show_page(output: Path, truth: Path | None, host: str | None, port: int | None) -> bool:
    """Serve the page of finished and true scenes until it is stopped; False where it cannot be shown."""
    try:
        launch_viewer(output, truth, host=host or DEFAULT_HOST, port=port)
    except (ViewerUnavailable, EvaluationError) as error:
        logger.error("%s", error)
        return False
    return True
