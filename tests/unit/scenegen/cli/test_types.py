"""What the shared types of arguments take and refuse."""

import argparse

import pytest
import torch

from scenegen.cli import types


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (types.positive_int, "1", 1),
        (types.whole_number, "0", 0),
        (types.non_negative, "0", 0.0),
        (types.non_negative, "2.5", 2.5),
        (types.seed, "-1", -1),
        (types.seed, str(2**64 - 1), 2**64 - 1),
        (types.port, "65535", 65535),
        (types.device, "cpu", torch.device("cpu")),
    ],
)
def test_good_values(convert, text, value):
    assert convert(text) == value


@pytest.mark.parametrize(
    ("convert", "text", "message"),
    [
        (types.positive_int, "0", "expected a whole number above 0, got '0'"),
        (types.positive_int, "1.5", "expected a whole number above 0, got '1.5'"),
        (types.whole_number, "-1", "expected a whole number of at least 0, got '-1'"),
        (types.non_negative, "-0.1", "expected a number of at least 0, got '-0.1'"),
        (types.non_negative, "nan", "expected a number of at least 0, got 'nan'"),
        (types.non_negative, "inf", "expected a number of at least 0, got 'inf'"),
        (types.non_negative, "much", "expected a number, got 'much'"),
        (types.seed, "x", "expected a whole number, got 'x'"),
        (types.seed, str(2**64), f"expected a number from -2^63 to 2^64 - 1, got '{2**64}'"),
        (types.port, "0", "expected a whole number from 1 to 65535, got '0'"),
        (types.port, "65536", "expected a whole number from 1 to 65535, got '65536'"),
        (types.device, "abacus", "expected cpu, cuda, cuda:<n> or mps, got 'abacus'"),
        (types.device, "cuda:99", "expected a device of this machine, got 'cuda:99'; use cpu"),
        (types.device, "meta", "expected a device of this machine, got 'meta'; use cpu"),
    ],
)
def test_bad_values_say_what_was_expected(convert, text, message):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        convert(text)
    assert str(error.value) == message


def test_the_default_device_is_one_of_this_machine():
    assert types.device(types.default_device()).type in ("cpu", "cuda")
