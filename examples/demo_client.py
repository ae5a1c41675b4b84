"""Make a scene through a running demo, from Python on any machine that reaches it.

    python interactive_demo.py &
    python examples/demo_client.py --picture lounge.jpg --boxes boxes.json --output outputs/client

The demo finds the objects in the boxes, makes the scene and sends its files. With --labels in place of
--boxes the objects come from a label image. Ctrl-C cancels the scene. It needs the package gradio_client,
which comes with gradio.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scenegen.cli.parser import CommandParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = CommandParser(__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:7860", help="of the demo (%(default)s)")
    parser.add_argument("--login", metavar="NAME:PASSWORD", help="where the demo asks for one")
    parser.add_argument("--picture", type=Path, required=True, help="photo of the scene")
    objects = parser.add_mutually_exclusive_group(required=True)
    objects.add_argument("--boxes", type=Path, help="JSON list of [x0, y0, x1, y1] in pixels")
    objects.add_argument("--labels", type=Path, help="label image")
    parser.add_argument(
        "--settings", type=json.loads, default={}, help='JSON, for example {"seed": 1, "preset": "fast"}'
    )
    parser.add_argument("--formats", default="glb,objects,poses", help="separated by commas (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/client"), help="folder (%(default)s)")
    options = parser.parse_args(arguments)

    from gradio_client import Client
    from gradio_client.exceptions import AppError

    login = tuple(options.login.split(":", 1)) if options.login else None
    client = Client(options.url, auth=login, verbose=False)
    try:
        make_scene(client, options.picture, options.boxes, options.labels, options.settings)
        files = client.predict(options.formats.split(","), api_name="/download")
    except AppError as error:
        print(error, file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    for file in files:
        print(shutil.copy(file, options.output))
    return 0


def make_scene(
    client: Any, picture: Path, boxes: Path | None, labels: Path | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """Segment the picture where it has no labels, make the scene, and print where it is meanwhile.

    Args:
        client: of the demo.
        picture: photo.
        boxes, labels: one of them tells the objects.
        settings: of the generation.

    Returns:
        The demo's last answer.
    """
    from gradio_client import handle_file

    if labels is None:
        given = json.loads(boxes.read_text(encoding="utf-8"))
        objects = [item if isinstance(item, dict) else {"box": item} for item in given]
        found = client.predict(handle_file(picture), objects, api_name="/segment")
        if found["note"]:
            print(found["note"])
        print(", ".join(f"object {item['number']}: {item['pixels']} pixels" for item in found["objects"]))
        labels = found["labels"]
    client.predict(handle_file(picture), handle_file(labels), api_name="/add")
    job = client.submit(settings, api_name="/generate")
    try:
        last = ""
        for answer in job:
            where = f"{answer['state']} {answer['stage'] or ''} {answer['done']}/{answer['total']}"
            if where != last:
                print(f"{where}, {answer['seconds']} s")
            last = where
        return job.result()  # which raises what went wrong
    except KeyboardInterrupt:
        client.predict(api_name="/cancel")
        raise


if __name__ == "__main__":
    sys.exit(main())
