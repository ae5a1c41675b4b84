"""Networks from ONNX files: what they are given, what is made of their answer, and what is refused."""

import sys

import numpy as np
import pytest
from PIL import Image

from scenegen.segmentation import SegmenterUnavailable
from scenegen.segmentation.cutout_model import CutoutModel
from tests.onnx_files import write_brightness, write_constant

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra cutout)")


@pytest.fixture
def picture() -> Image.Image:
    """Black with a white left half, 40 pixels wide and 24 high."""
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[:, :20] = 255
    return Image.fromarray(pixels)


def test_the_map_has_the_size_of_the_picture_and_goes_from_0_to_1(tmp_path, picture):
    model = CutoutModel(write_brightness(tmp_path / "u2net.onnx"))
    assert model.size == (16, 8)
    saliency = model.saliency(picture)
    assert saliency.shape == (24, 40) and saliency.dtype == np.float32
    assert saliency.min() == 0 and saliency.max() == 1
    assert (saliency[:, :17] > 0.9).all() and (saliency[:, 23:] < 0.1).all()


@pytest.mark.parametrize(
    ("name", "normalisation", "given", "expected"),
    [
        ("u2net.onnx", None, "imagenet", (1 - 0.449) / 0.226),
        ("isnet-general-use.onnx", None, "isnet", 0.5),
        ("IS_Net.onnx", None, "isnet", 0.5),
        ("isnet.onnx", "imagenet", "imagenet", (1 - 0.449) / 0.226),
    ],
)
def test_colours_are_normalised_as_the_network_wants_them(tmp_path, name, normalisation, given, expected):
    model = CutoutModel(write_brightness(tmp_path / name), normalisation)
    assert model.normalisation == given and f"colours as for {given}" in model.description
    white = model._run(model._prepare(Image.new("RGB", (9, 9), "white")))
    np.testing.assert_allclose(white, expected, rtol=0.01)


def test_half_precision_and_open_sizes_are_taken(tmp_path, picture):
    half = CutoutModel(write_brightness(tmp_path / "half.onnx", kind="FLOAT16"))
    assert half.saliency(picture)[5, 5] == 1
    free = CutoutModel(write_brightness(tmp_path / "free.onnx", shape=("batch", 3, "height", "width")))
    assert free.size == (1024, 1024) and free.saliency(picture)[5, 5] == 1


def test_a_map_without_contrast_says_that_nothing_stands_out(tmp_path, picture):
    model = CutoutModel(write_constant(tmp_path / "flat.onnx", np.full((1, 1, 8, 8), 0.7)))
    assert not model.saliency(picture).any()


@pytest.mark.parametrize(
    ("write", "says"),
    [
        pytest.param(lambda path: path, "found no such file; check --cutout-model", id="missing"),
        pytest.param(lambda path: path.write_bytes(b"") and None, "opening it stopped", id="empty"),
        pytest.param(lambda path: path.write_bytes(b"\x08" * 99), "opening it stopped", id="other content"),
        pytest.param(
            lambda path: write_brightness(path, shape=(1, 1, 8, 8)),
            "expected a network with one input (1, 3, height, width)",
            id="grey pictures",
        ),
        pytest.param(
            lambda path: write_brightness(path, shape=(1, 3, 8)), "got picture tensor", id="no picture"
        ),
        pytest.param(
            lambda path: write_brightness(path, kind="INT32"), "got picture tensor(int32)", id="int"
        ),
    ],
)
def test_files_that_hold_no_such_network_give_one_line(tmp_path, write, says):
    path = tmp_path / "net.onnx"
    write(path)
    with pytest.raises(SegmenterUnavailable) as error:
        CutoutModel(path)
    message = str(error.value)
    assert message.startswith(f"{path}: expected") and says in message and "\n" not in message


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param(np.ones((1, 5, 8, 8)), "its first output is (1, 5, 8, 8)", id="several maps"),
        pytest.param(np.ones(7), "its first output is (7,)", id="classes"),
        pytest.param(np.full((8, 8), np.nan), "its map is not finite", id="not finite"),
    ],
)
def test_answers_that_are_no_map_give_one_line(tmp_path, picture, values, says):
    model = CutoutModel(write_constant(tmp_path / "net.onnx", values))
    with pytest.raises(SegmenterUnavailable) as error:
        model.saliency(picture)
    assert says in str(error.value) and "give another --cutout-model" in str(error.value)


def test_missing_package_is_named_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SegmenterUnavailable, match=r"run bash setup.sh --cutout, or leave --cutout-model"):
        CutoutModel(tmp_path / "net.onnx")
