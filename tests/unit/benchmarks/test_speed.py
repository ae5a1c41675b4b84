"""The benchmark of speed: its rows, its two paths and its picture."""

import os
from xml.etree import ElementTree

import pytest
import torch

from benchmarks import speed
from benchmarks.curves import draw_curves
from scenegen.models.registry import build_model
from trellis_modules.norms.backends import BACKEND_VARIABLE as NORMS_VARIABLE


def rows():
    return [
        speed.Row(what, assets, path, cold=2.0 * assets, warm=[assets / 10, assets / 5, assets / 2])
        for what in ("structure", "latents")
        for path in ("plain", "fast")
        for assets in (1, 4, 12)
    ]


def test_a_row_tells_the_median_and_the_share_of_the_floor():
    row = speed.Row("structure", 4, "fast", 9.0, [6.0, 5.0, 8.0], floor=3.0, difference=1e-3, peak=2.5)
    assert row.median == 6.0
    assert (
        row.line() == "| structure | 4 | fast | 9.00 | 6.000 | 5.000 to 8.000 | 3.00 | 50% | 1.0e-03 | 2.50 |"
    )
    assert speed.Row("structure", 4, "fast", 9.0).median == 9.0


def test_the_picture_has_a_curve_for_each_part_and_path():
    picture = ElementTree.fromstring(draw_curves(rows(), "a GPU & more"))
    curves = picture.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(curves) == 4
    assert sum("stroke-dasharray" in curve.attrib for curve in curves) == 2
    heights = [float(place.split(",")[1]) for place in curves[0].attrib["points"].split()]
    assert heights == sorted(heights, reverse=True)  # more assets, more seconds, higher up
    ElementTree.fromstring(draw_curves([], "nothing"))


def test_a_path_holds_for_its_block_only(monkeypatch):
    monkeypatch.setenv(NORMS_VARIABLE, "torch")
    with speed.path_of("fast"):
        assert NORMS_VARIABLE not in os.environ
    with speed.path_of("plain"):
        assert {key: os.environ[key] for key in speed.PATHS["plain"]} == speed.PATHS["plain"]
    assert os.environ[NORMS_VARIABLE] == "torch"


@pytest.mark.parametrize("part", ["structure", "latents"])
def test_the_samplers_are_measured_at_toy_size(monkeypatch, capsys, tmp_path, part):
    def toy(config, device, out_std):
        sizes = {"model_channels": 48, "num_heads": 4, "cond_channels": 16, "num_blocks": 1}
        if part == "structure":
            sizes |= {"resolution": 4, "trunk_depth": 1}
        torch.manual_seed(0)
        args = {key: value for key, value in config.args.items() if key != "use_fp16"} | sizes
        return build_model({"name": config.name, "args": args}).eval()

    monkeypatch.setattr(speed, "random_network", toy)
    for name, value in {"CHANNELS": 16, "OBJECT_TOKENS": 3, "SCENE_TOKENS": 7, "VOXELS": 20}.items():
        monkeypatch.setattr(speed, name, value)
    output, plot = tmp_path / "speed.json", tmp_path / "speed.svg"
    options = ["--device", "cpu", "--parts", part, "--assets", "1", "2", "--steps", "3", "--repeats", "1"]
    assert speed.main([*options, "--output", str(output), "--plot", str(plot)]) == 0
    printed = capsys.readouterr().out
    assert printed.count(f"| {part} |") == 4 and plot.stat().st_size and output.stat().st_size
