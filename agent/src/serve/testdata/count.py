"""Makes count.onnx: how long it takes depends on the number it is given, and on nothing else."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

x = helper.make_tensor_value_info("x", TensorProto.INT64, [1])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
stored = [
    numpy_helper.from_array(np.array(0, np.int64), "zero"),
    numpy_helper.from_array(np.array(1, np.int64), "one"),
    numpy_helper.from_array(np.array([1], np.int64), "shape"),
]
nodes = [
    helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
    helper.make_node("Max", ["most", "one"], ["n"]),
    helper.make_node("Range", ["zero", "n", "one"], ["counted"]),
    helper.make_node("Cast", ["counted"], ["a0"], to=TensorProto.FLOAT),
]
nodes += [helper.make_node("Sin", [f"a{at}"], [f"a{at + 1}"]) for at in range(40)]
nodes += [
    helper.make_node("ReduceSum", ["a40"], ["sum"], keepdims=0),
    helper.make_node("Reshape", ["sum", "shape"], ["y"]),
]
graph = helper.make_graph(nodes, "count", [x], [y], stored)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model)
onnx.save(model, "count.onnx")
