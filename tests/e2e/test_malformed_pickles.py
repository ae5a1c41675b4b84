"""A pickle that is converted runs nothing, and every fault in it gives one line."""

from __future__ import annotations

import pytest
import torch

from scenegen.hub.conversion import convert, find_network
from tests.e2e.malformed import Case, assert_one_line, hub_case

TENSOR = torch.zeros(1)


class Code:
    """What a pickle would run."""

    def __reduce__(self):
        return print, ("this must not run",)


CASES: dict[str, Case] = {
    "pickle with code": hub_case(
        "net.pt: expected tensors only, got print, which opening the file would run; refused",
        lambda i: i.pickle({"a": TENSOR, "b": Code()}),
    ),
    "pickle of a module": hub_case(
        "net.pt: expected tensors only, got torch.nn.modules.linear.Linear",
        lambda i: i.pickle(torch.nn.Linear(1, 1)),
    ),
    "pickle of a list": hub_case(
        "net.pt: expected a dictionary of tensors, got list", lambda i: i.pickle([TENSOR])
    ),
    "pickle empty": hub_case(
        "net.pt: expected a dictionary of tensors, got an empty one", lambda i: i.pickle({})
    ),
    "pickle with settings among tensors": hub_case(
        "net.pt: expected a tensor for each name, got float for 'lr'",
        lambda i: i.pickle({"a": TENSOR, "lr": 0.1}),
    ),
    "pickle with two state dicts": hub_case(
        "expected one state dict, found model, teacher; choose one with --key",
        lambda i: i.pickle({"model": {"a": TENSOR}, "teacher": {"a": TENSOR}}),
    ),
    "pickle without the key": hub_case(
        "--key: expected one of model, got 'ema'", lambda i: i.pickle({"model": {"a": TENSOR}}, key="ema")
    ),
    "pickle of another network": hub_case(
        "tensor 'cls_token' of shape (1, 1, 1024) is missing",
        lambda i: i.pickle({"a": TENSOR}, like=find_network("image_cond_model")),
    ),
    "pickle too large for half": hub_case(
        "tensor 'a': largest magnitude 1e+09 is out of range for torch.float16",
        lambda i: i.pickle({"a": torch.tensor([1e9])}, dtype=torch.float16),
    ),
    "pickle to a place that is none": hub_case(
        "net.pt/net.safetensors: cannot be written (",
        lambda i: i.pickle({"a": TENSOR}, target=i.root / "net.pt" / "net.safetensors"),
    ),
    "pickle truncated": hub_case(
        "a.pt: not a readable pickle",
        lambda i: ((i.root / "a.pt").write_bytes(b"PK\x03\x04"), convert(i.root / "a.pt")),
    ),
    "pickle missing": hub_case(
        "a.pt: expected a pickle (.pt, .pth, .bin, .ckpt), found no such file",
        lambda i: convert(i.root / "a.pt"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_malformed_pickles_gives_one_line(inputs, name):
    assert_one_line(CASES[name], inputs)
