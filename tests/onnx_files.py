"""ONNX files of a few bytes that behave like networks of what stands out."""

from pathlib import Path

import numpy as np
import pytest


def write_brightness(path: Path, shape=(1, 3, 8, 16), opset: int = 13, kind: str = "FLOAT") -> Path:
    """A network whose map is the mean of the colours that it is given: (1, 1, H, W)."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra dev)")
    helper, number = onnx.helper, getattr(onnx.TensorProto, kind)
    mean = helper.make_node("ReduceMean", ["picture"], ["map"], axes=[1], keepdims=1)
    graph = helper.make_graph(
        [mean],
        "brightness",
        [helper.make_tensor_value_info("picture", number, list(shape))],
        [helper.make_tensor_value_info("map", number, None)],
    )
    return _save(onnx, graph, path, opset)


def write_constant(path: Path, values: np.ndarray) -> Path:
    """A network that answers with the same numbers to every picture (1, 3, 8, 8)."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra dev)")
    helper = onnx.helper
    nodes = [
        helper.make_node("ReduceMean", ["picture"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["values", "nothing"], ["map"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("picture", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("map", onnx.TensorProto.FLOAT, None)],
        [
            onnx.numpy_helper.from_array(values.astype(np.float32), "values"),
            onnx.numpy_helper.from_array(np.zeros((), np.float32), "zero"),
        ],
    )
    return _save(onnx, graph, path, 13)


def _save(onnx, graph, path: Path, opset: int) -> Path:
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, str(path))
    return path
