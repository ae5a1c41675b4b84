"""The demo's page in headless Chromium, with the bundled model.

``SCENEGEN_SCREENSHOTS=folder`` keeps pictures of the page.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from scenegen.demo.examples import EXAMPLES_FOLDER
from scenegen.demo.listening import Address
from scenegen.demo.options import DemoOptions
from scenegen.demo.server import DemoServer

if importlib.util.find_spec("selenium") is None or importlib.util.find_spec("gradio") is None:
    pytest.skip("selenium or gradio is not installed (extra dev)", allow_module_level=True)

from selenium import webdriver  # noqa: E402
from selenium.webdriver import ActionChains, Keys  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="Chromium is missing: apt-get install chromium chromium-driver"
    ),
]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / EXAMPLES_FOLDER / "00001"
SOFA, STOOL = (92, 58, 384, 240), (386, 274, 488, 408)  # boxes in its photo of 512 x 512 pixels
SECONDS = 300  # for a scene, on a machine that does other things too


class Page:
    """The page in a browser."""

    def __init__(
        self, url: str, downloads: Path, *, width: int = 1400, height: int = 1500, theme: str = "light"
    ) -> None:
        self._downloads = downloads
        options = webdriver.ChromeOptions()
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.binary_location = CHROMIUM
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--enable-unsafe-swiftshader",
        ):
            options.add_argument(argument)
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        # A window cannot be narrower than 500 pixels; the page can.
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.get(f"{url}?__theme={theme}")
        self.wait(lambda: self.driver.find_elements(By.ID, "generate"))
        self.wait(lambda: self.driver.find_elements(By.CSS_SELECTOR, "#canvas input[type=file]"))

    def find(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, name: str) -> str:
        return self.find(f"#{name}").text

    def press(self, selector: str) -> None:
        element = self.find(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def wait(self, condition: Callable[[], object], seconds: float = 60):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, (
                f"nothing came within {seconds} s; the page says {self.warnings()}"
            )
            time.sleep(0.1)
        return found

    def warnings(self) -> str:
        return " ".join(item.text for item in self.driver.find_elements(By.CSS_SELECTOR, ".toast-body"))

    def upload(self, path: Path) -> None:
        for _ in range(5):  # a page that has just been opened may not listen yet
            self.find("#canvas input[type=file]").send_keys(str(path))
            with contextlib.suppress(AssertionError):
                self.wait(lambda: "Draw a box" in self.text("note"), 20)
                break
        self.wait(lambda: self.driver.find_elements(By.CSS_SELECTOR, "#canvas canvas"))
        time.sleep(1)  # the canvas fits itself to the picture

    def draw_box(self, box: tuple[int, int, int, int], side: int = 512) -> None:
        """Drag over a square photo, which the canvas shows in its middle."""
        canvas = self.find("#canvas canvas")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        shown = min(canvas.size["width"], canvas.size["height"])
        x0, y0, x1, y1 = (round((value / side - 0.5) * shown) for value in box)
        actions = ActionChains(self.driver).move_to_element_with_offset(canvas, x0, y0).click_and_hold()
        actions.move_by_offset(x1 - x0, y1 - y0).release().perform()
        time.sleep(0.3)

    def segment(self) -> None:
        self.press("#segment")
        self.wait(lambda: "Found" in self.text("note"))

    def click_result(self, x: int, y: int, side: int = 512) -> None:
        image = self.find("#overlay img")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", image)
        shown = min(image.size["width"], image.size["height"])
        offset = [round((value / side - 0.5) * shown) for value in (x, y)]
        ActionChains(self.driver).move_to_element_with_offset(image, *offset).click().perform()

    def names(self) -> list[str]:
        rows = self.driver.find_elements(By.CSS_SELECTOR, "#objects input")
        return [row.get_attribute("value") for row in rows]

    def states(self) -> list[str]:
        return [item.text for item in self.driver.find_elements(By.CSS_SELECTOR, "#objects .state")]

    def rename(self, number: int, name: str) -> None:
        """Type a name, and do not wait for the server."""
        self.find(f"#objects li[data-number='{number}'] input").send_keys(name + Keys.ENTER)

    def wait_for_scene(self) -> None:
        self.wait(lambda: "Done" in self.text("status"), SECONDS)
        self.wait(lambda: self.driver.find_elements(By.CSS_SELECTOR, "#scene canvas"))

    def glb(self) -> trimesh.Scene:
        """Press the download button and open the file that comes."""
        target = self._downloads / "scene.glb"
        target.unlink(missing_ok=True)
        self.press("#glb")
        self.wait(target.is_file)
        return trimesh.load(target)

    def screenshot(self, name: str) -> np.ndarray:
        image = Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
        if folder := os.environ.get("SCENEGEN_SCREENSHOTS"):
            image.save(Path(folder) / f"{name}.png")
        return np.asarray(image)


@pytest.fixture(scope="module")
def server():
    options = DemoOptions(str(ROOT / "checkpoints/scenegen-small"))
    with DemoServer(options, Address(), ROOT / EXAMPLES_FOLDER, quiet=True) as made:
        yield made


@pytest.fixture
def open_page(server, tmp_path):
    pages = []

    def open_one(**options) -> Page:
        pages.append(Page(server.url, tmp_path, **options))
        return pages[-1]

    yield open_one
    for page in pages:
        page.driver.quit()


def test_from_two_boxes_to_a_scene(open_page):
    page = open_page()
    page.upload(EXAMPLE / "scene.jpg")
    for box in (SOFA, STOOL):
        page.draw_box(box)
    turn = page.driver.find_elements(By.CSS_SELECTOR, "#canvas button[aria-label^='Rotate']")
    assert not any(button.is_displayed() for button in turn)
    page.segment()
    page.screenshot("segmented")
    page.rename(1, "sofa")
    page.rename(2, "stool")
    before = page.find("#overlay img").get_attribute("src")
    page.press("#objects li[data-number='1'] button[data-kind='select']")
    page.wait(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#objects li.selected"))
    page.click_result(118, 105)  # the left arm
    page.wait(lambda: "Corrected object 1 (sofa)" in page.text("note"))
    page.wait(lambda: page.find("#overlay img").get_attribute("src") != before)
    page.press("#add")
    page.wait(lambda: "1 sofa, 2 stool" in page.text("note"))
    page.wait(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, "#cached_images img")) == 1)

    page.press("#new")
    page.wait(lambda: "Choose a picture" in page.text("note"))
    page.upload(EXAMPLE / "scene.jpg")
    for box in (STOOL, SOFA):  # the other way round
        page.draw_box(box)
    page.segment()
    page.wait(lambda: page.names() == ["sofa", "stool"])  # names go by the order, which has to be put right
    states = page.states()
    rows = [page.find(f"#objects li[data-number='{number}'] .handle") for number in (2, 1)]
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", rows[0])
    ActionChains(page.driver).drag_and_drop(*rows).perform()
    page.wait(lambda: page.states() == states[::-1] and page.names() == ["sofa", "stool"])
    page.press("#add")
    page.wait(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, "#cached_images img")) == 2)

    page.press("#generate")
    page.wait(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#look img"), SECONDS)
    page.screenshot("first_look")
    page.wait_for_scene()
    page.driver.execute_script("window.scrollTo(0, 0)")
    time.sleep(5)  # the 3D view loads the file
    page.screenshot("scene")
    scene = page.glb()
    assert {"obj_0", "obj_1"} <= set(scene.graph.nodes_geometry)
    assert all(scene.geometry[f"obj_{index}"].visual.kind == "texture" for index in range(2))
    page.press("#visible input")
    page.wait(lambda: "visible-" in page.find("#scene a").get_attribute("href"))
    page.press("#more_files button")
    page.wait(lambda: page.driver.find_elements(By.ID, "make"))
    page.press("#make")
    page.wait(lambda: "scene.zip" in page.text("files"))


def test_an_example_needs_one_press(open_page):
    page = open_page(height=2100)
    page.press("#example")
    page.wait_for_scene()
    assert len(page.glb().graph.nodes_geometry) == 4
    assert page.warnings() == ""
    time.sleep(5)
    page.driver.execute_script("window.scrollTo(0, 0)")
    page.screenshot("example")
    page.press("#add")
    page.wait(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, "#cached_images img")) == 2)


def test_an_object_is_made_anew_and_brought_back(open_page):
    page = open_page(height=2100)
    page.upload(EXAMPLE / "scene.jpg")
    for box in (SOFA, STOOL):
        page.draw_box(box)
    page.segment()
    anew = "#objects li[data-number='2'] button[data-kind='reroll']"
    assert not page.find(anew).is_displayed(), "there is no scene yet"
    page.press("#add")
    page.wait(lambda: "Pair 1 has 2 objects" in page.text("note"))
    page.press("#generate")
    page.wait_for_scene()
    page.wait(lambda: page.find(anew).is_displayed())
    assert not page.find("#undo").is_enabled()
    before = shapes(page.glb())
    page.screenshot("before_anew")

    page.press(anew)
    page.wait(lambda: "Done" not in page.text("status"))
    page.wait_for_scene()
    page.wait(lambda: page.find("#undo").is_enabled())
    time.sleep(5)  # the 3D view loads the file
    page.driver.execute_script("window.scrollTo(0, 0)")
    page.screenshot("anew")
    after = shapes(page.glb())
    assert after["obj_0"] == before["obj_0"] and after["obj_1"] != before["obj_1"]

    page.press("#undo")
    page.wait(lambda: "is what it was before" in page.text("status"))
    page.wait(lambda: not page.find("#undo").is_enabled())
    assert shapes(page.glb()) == before
    assert page.warnings() == ""


def shapes(scene: trimesh.Scene) -> dict[str, bytes]:
    """The vertices of each object of a scene in its own frame."""
    return {name: np.asarray(mesh.vertices, np.float32).tobytes() for name, mesh in scene.geometry.items()}


@pytest.mark.parametrize("stage", ["structure", "latents", "meshes", "textures"])
def test_a_scene_is_cancelled_in_every_stage(open_page, stage):
    page = open_page()
    page.press("#example")
    page.wait(lambda: page.text("status").startswith(stage), SECONDS)
    start = time.monotonic()
    page.press("#cancel")
    page.wait(lambda: page.text("status").startswith("Cancelled"), SECONDS)
    seconds = time.monotonic() - start
    print(f"cancelled in {stage} within {seconds:.1f} s")
    page.wait(lambda: page.find("#generate").is_enabled())
    assert seconds < 60, "three to ten seconds on a machine that does nothing else"


def test_by_keyboard_alone(open_page):
    """Every control is reached with the tabulator; the file is given to the browser directly."""
    page = open_page()

    def focus(selector: str) -> None:
        wanted = page.find(selector)
        for _ in range(200):
            if page.driver.switch_to.active_element == wanted:
                return
            ActionChains(page.driver).send_keys(Keys.TAB).perform()
        raise AssertionError(f"{selector} is not reached with the tabulator")

    def keys(*what: str) -> None:
        ActionChains(page.driver).send_keys(*what).perform()

    page.upload(EXAMPLE / "scene.jpg")
    focus("#segmentation_settings button")
    keys(Keys.ENTER)
    page.wait(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#box textarea, #box input"))
    for number, box in enumerate((SOFA, STOOL), start=1):
        focus("#box textarea, #box input")
        keys(" ".join(map(str, box)), Keys.ENTER)
        page.wait(lambda number=number: len(page.names()) == number)
    focus("#segment")
    keys(Keys.ENTER)
    page.wait(lambda: "Found 2 objects" in page.text("note"))
    focus("#objects li[data-number='1'] input")
    keys("sofa", Keys.TAB)
    page.wait(lambda: page.names()[0] == "sofa")
    states = page.states()
    focus("#objects li[data-number='1'] button[data-kind='down']")
    keys(Keys.ENTER)
    page.wait(lambda: page.states() == states[::-1])
    page.wait(lambda: page.driver.switch_to.active_element.get_attribute("data-kind") == "down")
    focus("#objects li[data-number='2'] button[data-kind='query']")
    keys(Keys.SPACE)
    page.wait(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#objects button[aria-pressed='true']"))
    focus("#add")
    keys(Keys.ENTER)
    page.wait(lambda: "Pair 1 has 2 objects" in page.text("note"))
    focus("#generate")
    keys(Keys.ENTER)
    page.wait_for_scene()
    assert "in the frame of object 2 (sofa)" in page.text("report")


def test_on_a_narrow_screen(open_page):
    page = open_page(width=390, height=844)
    page.upload(EXAMPLE / "scene.jpg")
    page.draw_box(SOFA)
    page.segment()
    wide = page.driver.execute_script("return document.documentElement.scrollWidth")
    page.driver.execute_script("document.querySelector('#segment').scrollIntoView({block: 'center'})")
    page.screenshot("narrow")
    assert wide <= 390, "nothing sticks out to the right"
    for name in ("segment", "add", "generate", "example"):
        box = page.find(f"#{name}").rect
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] >= 24, name


def test_in_dark_mode(open_page):
    page = open_page(theme="dark")
    page.upload(EXAMPLE / "scene.jpg")
    page.draw_box(STOOL)
    page.segment()
    page.rename(1, "stool")
    pixels = page.screenshot("dark")
    assert np.median(pixels) < 60, "the page is dark"

    def brightness(selector: str, name: str) -> float:
        colour = page.find(selector).value_of_css_property(name)
        return sum(float(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3]) / 3

    for selector in ("#objects input", "#note p", "#objects li button[data-kind='delete']"):
        assert brightness(selector, "color") > 150, f"{selector}: letters are bright"
    assert brightness("#objects input", "background-color") < 100


def test_warnings_are_shown(open_page):
    page = open_page()
    for press, words in (
        ("#segment", "Expected a picture, found none"),
        ("#generate", "Expected a picture in the cache, found none"),
        ("#delete", "click on one in the gallery first"),
    ):
        page.press(press)
        page.wait(lambda words=words: words in page.warnings())
    page.find("#canvas input[type=file]").send_keys(str(ROOT / "README.md"))
    time.sleep(2)
    assert page.find("#generate").is_enabled()
