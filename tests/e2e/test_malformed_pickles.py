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
    "pickle of one number that claims a billion": hub_case(
        "tensor 'a': claims 4000000000 bytes, of which 4 are stored",
        lambda i: i.pickle({"a": TENSOR.expand(10**9)}),
    ),
    "pickle of a thousand names for one tensor": hub_case(
        "expected tensors of at most 4 times the",
        lambda i: i.pickle(dict.fromkeys(map(str, range(1000)), torch.zeros(10_000))),
    ),
    "pickle of a conjugate view": hub_case(
        "tensor 'a': expected real numbers, got torch.complex64",
        lambda i: i.pickle({"a": torch.zeros(3, dtype=torch.complex64).conj()}),
    ),
    "pickle of halved complex numbers": hub_case(
        "tensor 'a': expected real numbers, got torch.complex32",
        lambda i: i.pickle({"a": torch.zeros(3, dtype=torch.complex32)}),
    ),
    "pickle of a tensor without numbers": hub_case(
        "tensor 'a': expected numbers, got a tensor on the device meta, which holds none",
        lambda i: i.pickle({"a": torch.empty(10**9, device="meta")}),
    ),
    "pickle of nested tensors": hub_case(
        "tensor 'a': expected a dense tensor, got another layout",
        lambda i: i.pickle({"a": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}),
    ),
    "pickle of a jagged tensor": hub_case(
        "tensor 'a': expected a dense tensor, got another layout",
        lambda i: i.pickle(
            {"a": torch.nested.nested_tensor([torch.zeros(2, 2), torch.zeros(3, 2)], layout=torch.jagged)}
        ),
    ),
    "pickle of a sparse tensor": hub_case(
        "tensor 'a': expected a dense tensor, got another layout",
        lambda i: i.pickle({"a": torch.eye(3).to_sparse()}),
    ),
    "pickle with the name of notes": hub_case(
        "tensor '__metadata__': expected a name of 1 to 1024 characters other than __metadata__",
        lambda i: i.pickle({"__metadata__": TENSOR}),
    ),
    "pickle with a name of two lines": hub_case(
        "tensor 'a\\nb': expected a name of 1 to 1024 characters", lambda i: i.pickle({"a\nb": TENSOR})
    ),
    "pickle with a name of 4000 characters": hub_case(
        "expected a name of 1 to 1024 characters", lambda i: i.pickle({"n" * 4000: TENSOR})
    ),
    "pickle without a name": hub_case(
        "tensor '': expected a name of 1 to 1024 characters", lambda i: i.pickle({"": TENSOR})
    ),
    "pickle in a named pipe": hub_case(
        "a.pt: expected a file, got a named pipe", lambda i: convert(i.pipe(i.root / "a.pt"))
    ),
    "pickle that is a folder": hub_case("expected a file, got a folder", lambda i: convert(i.scene)),
    "pickle of text": hub_case(
        "a.pt: not a readable pickle",
        lambda i: ((i.root / "a.pt").write_text("hello"), convert(i.root / "a.pt")),
    ),
    "pickle empty file": hub_case(
        "a.pt: not a readable pickle", lambda i: ((i.root / "a.pt").write_text(""), convert(i.root / "a.pt"))
    ),
    "network described in a named pipe": hub_case(
        "like.json: expected a file, got a named pipe",
        lambda i: find_network(str(i.pipe(i.root / "like.json"))),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_malformed_pickles_gives_one_line(inputs, name):
    assert_one_line(CASES[name], inputs)
