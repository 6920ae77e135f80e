"""What a loss needs of an ONNX file: its scores before a last Softmax, and which initialisers are weights."""
from onnx import TensorProto as T

FLOATS = (T.FLOAT, T.FLOAT16, T.DOUBLE, T.BFLOAT16)
PASSED = ("Identity", "Cast")


def scores(model, output=None):
    """The name of the scores behind `output`: (name, "scores" | "sigmoid" | "values")."""
    made = {o: n for n in model.graph.node for o in n.output}
    name = output or next((o.name for o in model.graph.output if "prob" in o.name.lower()), model.graph.output[0].name)
    node = made.get(name)
    while node is not None and node.op_type in PASSED:
        node = made.get(node.input[0])
    if node is not None and node.op_type == "Softmax":
        return node.input[0], "scores"
    if node is not None and node.op_type == "Sigmoid":
        return node.input[0], "sigmoid"
    return name, "values"


def cut(model, name):
    """Makes `name` the model's only output and drops the nodes behind it."""
    needed, kept = {name}, []
    for n in reversed(model.graph.node):
        if needed & set(n.output):
            kept.append(n)
            needed |= set(n.input)
    kept = [type(n).FromString(n.SerializeToString()) for n in reversed(kept)]
    if name != model.graph.output[0].name or len(model.graph.output) > 1:
        out = type(model.graph.output[0])()
        out.name = name
        out.type.tensor_type.elem_type = T.FLOAT
        for size in ("N", "classes"):
            out.type.tensor_type.shape.dim.add().dim_param = size
        del model.graph.output[:]
        model.graph.output.append(out)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def weights(model):
    """Floating initialisers but BatchNorm's running statistics and single numbers."""
    used = {i for n in model.graph.node for i in n.input}
    frozen = {i for n in model.graph.node if n.op_type == "BatchNormalization" for i in n.input[3:5]}
    frozen |= {i for n in model.graph.node if n.op_type in ("Resize", "Clip", "Dropout", "Pad") for i in n.input[1:]}
    return [t.name for t in model.graph.initializer if t.data_type in FLOATS and t.name in used - frozen and len(t.dims) > 0]
