"""A scene.glb with Gaussians and a room in three.js, as Chromium draws it: examples/splats_in_three.html."""

import functools
import http.server
import os
import shutil
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

pytest.importorskip("selenium", reason="selenium is not installed (pip install selenium)")
from selenium import webdriver  # noqa: E402

from scenegen.export.scene_files import write_scene  # noqa: E402
from scenegen.photo.room_parts import RoomPart  # noqa: E402
from scenegen.pipelines.result import GeneratedObject, SceneResult  # noqa: E402
from tests.gltf_validator import errors_of  # noqa: E402

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
ROOT = Path(__file__).resolve().parents[2]
PLACES = [Path(place) for place in (os.environ.get("NODE_PATH", ""), ROOT / "node_modules") if place]
MODULES = next(
    (place for place in PLACES if (place / "three/examples/jsm/objects/GaussianSplat.js").is_file()), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="Chromium is missing: apt-get install chromium chromium-driver"
    ),
    pytest.mark.skipif(
        MODULES is None, reason="three.js of 0.187 is missing (npm install three, NODE_PATH=node_modules)"
    ),
]
SECONDS = 200  # for a picture by a processor that does other things too
SIZE = 400
RED, BLUE = (200, 40, 40), (40, 60, 190)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without telling."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def ball(colour):
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    mesh.visual.vertex_colors = np.tile((*colour, 255), (len(mesh.vertices), 1))
    return mesh


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page, at an address, with a red and a blue ball on a green floor."""
    folder = tmp_path_factory.mktemp("page")
    beside = torch.tensor([1.2, 0.0, 0, 1, 0, 0, 0, 1])
    identity = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
    logits = torch.zeros(2, 2, 2)
    floor = np.array([(-1, -0.5, -1), (-1, -0.5, 1), (2.2, -0.5, 1), (2.2, -0.5, -1)])
    green = np.broadcast_to(np.array((40, 180, 60), np.uint8), (8, 8, 3)).copy()
    result = SceneResult(
        (GeneratedObject(0, identity, logits, ball(RED)), GeneratedObject(1, beside, logits, ball(BLUE))),
        0,
        room=(RoomPart("room_floor", floor, green, 1.0),),
    )
    write_scene(result, folder / "room", ("glb+splats",))
    shutil.copy(ROOT / "examples" / "splats_in_three.html", folder / "room")
    (folder / "room" / "node_modules").symlink_to(MODULES)
    handler = functools.partial(Quiet, directory=str(folder / "room"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield (
            f"http://127.0.0.1:{server.server_address[1]}/splats_in_three.html",
            folder / "room" / "scene.glb",
        )
        server.shutdown()


def picture(address):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    flags = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader")
    for argument in (*flags, f"--window-size={SIZE},{SIZE}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        driver.get(address)
        end = time.monotonic() + SECONDS
        while not driver.title.startswith(("drawn", "failed")):
            assert time.monotonic() < end, f"nothing was drawn in {SECONDS} s"
            time.sleep(0.2)
        assert driver.title == "drawn: 2 objects with Gaussians", driver.page_source
        return np.asarray(Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")).astype(int)
    finally:
        driver.quit()


def near(pixels, colour, tolerance=45):
    return (np.abs(pixels - colour).max(axis=2) < tolerance).mean()


def test_gaussians_are_drawn_in_their_own_colours_on_the_floor(page):
    address, scene = page
    assert errors_of(scene) == []
    pixels = picture(f"{address}?show=splats&view=side")
    assert near(pixels, RED, 30) > 0.02 and near(pixels, BLUE, 30) > 0.02
    greenest = (pixels[..., 1] > pixels[..., 0] + 40) & (pixels[..., 1] > pixels[..., 2] + 40)
    assert greenest.mean() > 0.05  # lit


def test_who_does_not_know_gaussians_shows_points(page):
    pixels = picture(f"{page[0]}?show=points&view=side")
    assert near(pixels, RED, 90) > 0.005 and near(pixels, BLUE, 90) > 0.005
