"""Make a scene through a running demo, from Python on any machine that reaches it.

    python interactive_demo.py &
    python examples/demo_client.py --picture lounge.jpg --boxes boxes.json --output outputs/client

The demo finds the objects in the boxes, makes the scene and sends its files. Boxes and points are in pixels
of the picture as it is seen, upright. With --labels in place of --boxes the objects come from a label image.
Ctrl-C cancels the scene. It needs the package gradio_client, which comes with gradio.

Exit status: 0 done, 1 the demo refused or is not there, 2 a wrong call.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scenegen.cli.parser import CommandParser
from scenegen.inputs.boxes import check_count, load_boxes
from scenegen.inputs.image_files import SceneInputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(arguments)
    import httpx  # comes with gradio_client
    from gradio_client import Client
    from gradio_client.exceptions import AppError, AuthenticationError

    login = tuple(options.login.split(":", 1)) if options.login else None
    with tempfile.TemporaryDirectory() as received:
        try:
            client = Client(
                options.url, auth=login, verbose=False, download_files=received, analytics_enabled=False
            )
            make_scene(client, options.picture, options.objects, options.labels, options.settings)
            files = client.predict(options.formats.split(","), api_name="/download")
            options.output.mkdir(parents=True, exist_ok=True)
            for file in files:
                print(shutil.copy(file, options.output))
        except AppError as error:
            print(error, file=sys.stderr)
        except AuthenticationError:
            print(f"{options.url}: expected a name and a password; give them with --login", file=sys.stderr)
        except (httpx.HTTPError, ValueError) as error:
            cause = str(error).partition("\n")[0]
            print(f"{options.url}: expected a demo, got none ({cause}); start it", file=sys.stderr)
        except OSError as error:
            print(f"{options.output}: expected a folder to write to ({error})", file=sys.stderr)
        except KeyboardInterrupt:
            print("cancelled", file=sys.stderr)
        else:
            return 0
    return 1


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the command line; its boxes are ``objects`` as the demo takes them."""
    parser = CommandParser(__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:7860", help="of the demo (%(default)s)")
    parser.add_argument("--login", metavar="NAME:PASSWORD", help="where the demo asks for one")
    parser.add_argument("--picture", type=Path, required=True, help="photo of the scene")
    objects = parser.add_mutually_exclusive_group(required=True)
    objects.add_argument(
        "--boxes",
        type=Path,
        help='JSON list of [x0, y0, x1, y1] in pixels, or of objects such as {"box": [x0, y0, x1, y1], '
        '"positive": [[x, y]], "negative": [[x, y]], "name": "chair"}',
    )
    objects.add_argument("--labels", type=Path, help="label image")
    parser.add_argument(
        "--settings",
        type=settings_object,
        default={},
        metavar="JSON",
        help='for example \'{"seed": 1, "preset": "fast"}\'',
    )
    parser.add_argument("--formats", default="glb,objects,poses", help="separated by commas (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/client"), help="folder (%(default)s)")
    options = parser.parse_args(arguments)
    if not options.url.startswith(("http://", "https://")):
        parser.error(f"argument --url: expected http://... or https://..., got {options.url!r}")
    if options.login is not None and ":" not in options.login:
        parser.error("argument --login: expected NAME:PASSWORD, found no colon")
    for path in (options.picture, options.labels):
        if path is not None and not path.is_file():
            parser.error(f"{path}: expected a picture, found no such file; check the path")
    options.objects = []
    try:
        if options.boxes is not None:
            options.objects = read_objects(options.boxes)
    except SceneInputError as error:
        parser.error(str(error))
    return options


def settings_object(text: str) -> dict[str, Any]:
    """A JSON object from the command line."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f'expected JSON such as {{"seed": 1}}, got {text!r} ({error})'
        ) from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'expected a JSON object such as {{"seed": 1}}, got {text!r}')
    return found


def read_objects(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of boxes, as the demo takes them; it checks the rest.

    Raises:
        SceneInputError: no such file, no JSON, or no list.
    """
    given = load_boxes(path)
    check_count(given, str(path))
    return [item if isinstance(item, dict) else {"box": item} for item in given]


def make_scene(
    client: Any,
    picture: Path,
    objects: Sequence[dict[str, Any]],
    labels: Path | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Segment the picture where it has no labels, make the scene, and print where it is meanwhile.

    Args:
        client: of the demo.
        picture: photo.
        objects: boxes and points, where there is no label image.
        labels: label image.
        settings: of the generation.

    Returns:
        The demo's last answer.
    """
    from gradio_client import handle_file

    if labels is None:
        found = client.predict(handle_file(picture), list(objects), api_name="/segment")
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
