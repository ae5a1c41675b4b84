"""The comparison of appearance flows at true structures."""

import torch

from benchmarks.appearance_colours import Colours, parse_arguments


def test_a_row_has_the_mean_of_the_objects_psnr_and_roots_of_mean_errors():
    row = Colours(mse=torch.tensor([0.01, 0.0001]), mean=torch.tensor([0.04, 0.0])).row("a")
    assert row == "| a | 2 | 30 | 0.0711 | 0.141 |"


def test_colours_that_are_equal_have_a_finite_psnr():
    assert Colours(mse=torch.zeros(1), mean=torch.zeros(1)).row("a").startswith("| a | 1 | 90 |")


def test_pictures_are_plainly_lit_unless_light_is_asked_for():
    given = ["--checkpoints", "one", "two", "--pack", "held_out.safetensors"]
    assert not parse_arguments(given).light and parse_arguments([*given, "--light"]).light
